"""What people ask of a run's driver: queued, fetched by its relay, answered; honest meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from server_site import RUN, ServerSite, make_site

from hpc_flows.server import relays

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ServerSite]:
    made = make_site(tmp_path)
    made.report("ann", tmp_path / "home")
    yield made
    made.close()


def beat(site: ServerSite, relay: str = "r1", **more: Any) -> list[dict[str, Any]]:
    """Send a heartbeat of Ann's relay and return the commands that it gets."""
    said = {"mode": "driver", "host": "login1", "runs": [RUN], **more}
    answer = site.ask("ann", "POST", f"/relays/{relay}/heartbeat", json=said)
    assert answer.status_code == 200, answer.text
    commands: list[dict[str, Any]] = answer.json()["commands"]
    return commands


def give(site: ServerSite, action: str = "cancel", reason: str = "too slow") -> dict[str, Any]:
    answer = site.ask("ann", "POST", f"/flow-runs/{RUN}/{action}", json={"reason": reason})
    assert answer.status_code == 202, answer.text
    given: dict[str, Any] = answer.json()
    return given


def status(site: ServerSite, id_: str) -> tuple[str, str | None]:
    row = site.ask("ann", "GET", f"/commands/{id_}").json()
    return row["status"], row["message"]


@pytest.mark.parametrize("action", ["cancel", "pause", "resume"])
def test_a_command_goes_to_the_relay_and_its_answer_comes_back(
    site: ServerSite, action: str
) -> None:
    given = give(site, action)
    assert given["status"] == "queued"
    assert status(site, given["id"]) == ("queued", None)
    (fetched,) = beat(site)
    assert fetched == {
        "id": given["id"], "run": RUN, "action": action, "reason": "too slow", "by": "ann",
    }  # fmt: skip
    assert status(site, given["id"]) == ("sent", None)
    told = {"status": "refused", "message": "The driver knows no pause."}
    path = f"/runs/{RUN}/commands/{given['id']}"
    assert site.ask("ann", "POST", path, json=told).status_code == 200
    assert status(site, given["id"]) == ("refused", "The driver knows no pause.")
    assert beat(site) == []


def test_a_command_that_was_fetched_and_never_answered_is_sent_again(
    site: ServerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = give(site)
    assert len(beat(site)) == 1
    assert beat(site) == []
    monkeypatch.setattr(relays, "SENT_AGAIN", -1.0)
    assert [each["id"] for each in beat(site)] == [given["id"]]


def test_what_a_relay_said_first_stands(site: ServerSite) -> None:
    given = give(site)
    path = f"/runs/{RUN}/commands/{given['id']}"
    for word in ("delivered", "failed"):
        assert site.ask("ann", "POST", path, json={"status": word}).status_code == 200
    assert status(site, given["id"])[0] == "delivered"
    unknown = site.ask("ann", "POST", f"/runs/{RUN}/commands/none", json={"status": "failed"})
    assert unknown.status_code == 404


def test_a_relay_that_does_not_speak_of_the_run_gets_no_command_of_it(site: ServerSite) -> None:
    give(site)
    assert beat(site, runs=[]) == []
    assert beat(site, runs=["another"]) == []


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        ("NULL", "Nothing was ever heard"),
        ("heard - 3600", "may be gone"),
        ("heard", "within a few seconds"),
    ],
)
def test_the_answer_says_what_to_expect(site: ServerSite, heard: str, words: str) -> None:
    beat(site)
    with site.database.writing() as connection:
        connection.exec_driver_sql(f"UPDATE runs SET heard = {heard}")  # noqa: S608 - from above
    given = give(site)
    assert words in given["message"]
    assert (given["heard"] is None) == (heard == "NULL")


def test_a_run_that_has_ended_is_not_cancelled(site: ServerSite) -> None:
    with site.database.writing() as connection:
        connection.exec_driver_sql("UPDATE runs SET ended = 1")
    answer = site.ask("ann", "POST", f"/flow-runs/{RUN}/cancel", json={})
    assert (answer.status_code, answer.json()["error"]) == (409, "ended")
    assert beat(site) == []


def test_an_action_that_nobody_knows_is_refused(site: ServerSite) -> None:
    answer = site.ask("ann", "POST", f"/flow-runs/{RUN}/explode", json={})
    assert answer.status_code == 422


def test_a_relay_once_a_second_is_written_down_only_when_there_is_news(
    site: ServerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[object] = []
    monkeypatch.setattr(site.service.ingest, "hear", lambda *said: heard.append(said))
    for _ in range(5):
        beat(site)
    assert len(heard) == 1
    beat(site, runs=[RUN, "next-run"])
    assert len(heard) == 2
    survey = {"time": 5.0, "scheduler": "slurm", "partitions": []}
    beat(site, runs=[RUN, "next-run"], clusters={"afton": survey})
    beat(site, runs=[RUN, "next-run"], clusters={"afton": survey})
    assert len(heard) == 3


def test_a_survey_is_shown_with_its_cluster(site: ServerSite) -> None:
    survey = {"time": 5.0, "scheduler": "slurm", "partitions": [], "queue": {"pending": 7}}
    beat(site, clusters={"afton": survey})
    items = site.ask("ann", "GET", "/clusters").json()["items"]
    afton = next(each for each in items if each["name"] == "afton")
    assert afton["survey"]["queue"]["pending"] == 7
    others = site.ask("ben", "GET", "/clusters").json()["items"]
    assert [each["name"] for each in others] == []


def test_the_skew_of_a_relays_clock_is_told(site: ServerSite) -> None:
    beat(site, clock=1.0)
    skew = site.ask("ann", "GET", f"/flow-runs/{RUN}").json()["skew"]
    assert skew < -1e9


def test_a_removed_run_is_gone_for_its_relay_too(site: ServerSite) -> None:
    assert site.ask("ann", "DELETE", f"/flow-runs/{RUN}").status_code == 204
    assert site.ask("ann", "GET", f"/flow-runs/{RUN}").status_code == 404
    gone = site.send("ann", RUN, b"")
    assert (gone.status_code, gone.json()["error"]) == (410, "gone")
    assert site.ask("ann", "PUT", f"/runs/{RUN}", json={"host": "h"}).status_code == 410
    told = site.ask("ann", "POST", "/runs/counts", json={"runs": {RUN: {"driver": 3}}}).json()
    assert told["gone"] == [RUN]
