"""Log records as the commands get them from a server: all that are sought, and all that come."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from cli_runs import WrittenRun
from server_site import ServerSite, make_site

from hpc_flows.cli import run_server
from hpc_flows.cli.run_journals import Journals
from hpc_flows.client import Api
from hpc_flows.server.queries import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.client import Client


class Asking:
    """Ann's client, without a network."""

    def __init__(self, site: ServerSite) -> None:
        self._site = site

    def get(self, path: str, filters: dict[str, Any] | None = None) -> Any:
        given = {name: value for name, value in (filters or {}).items() if value is not None}
        answer = self._site.ask("ann", "GET", path, params=given)
        assert answer.status_code == 200, answer.text
        return answer.json()


class Reported:
    """A run of which a relay tells bit by bit."""

    def __init__(self, site: ServerSite, folder: Path) -> None:
        self._site, self._run, self._sent = site, WrittenRun(folder), 0
        self.server = run_server.Server(
            Api(cast("Client", Asking(site))), "here", Journals(str(folder))
        )
        assert site.ask("ann", "PUT", f"/runs/{self._run.id}", json={}).status_code == 200

    def say(self, at: float, message: str, level: str = "INFO", writer: str = "driver") -> None:
        self._run.write(at, "log", writer, level=level, message=message, flow_run=self._run.id)

    def send(self) -> None:
        journals = sorted(Path(self._run.folder, "journal").iterdir())
        lines = b"".join(path.read_bytes() for path in journals)
        assert self._site.send("ann", self._run.id, lines).json()["refused"] == 0

    def end(self) -> None:
        self._run.end(100)

    def row(self) -> dict[str, Any]:
        return self.server.flow_run(self._run.id)


@pytest.fixture
def reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reported]:
    monkeypatch.setattr(run_server, "_PERIOD", 0.0)
    site = make_site(tmp_path / "server")
    yield Reported(site, tmp_path / "home")
    site.close()


def test_a_search_goes_on_where_much_was_looked_through_in_vain(
    reported: Reported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LOOKED_THROUGH", 3)
    for at in range(10):
        reported.say(at, f"line {at}")
    reported.say(10, "no such file", "ERROR")
    reported.send()
    found = reported.server.logs(reported.row(), level=40, task_run=False)
    assert [record["message"] for record in found] == ["no such file"]


def test_what_a_node_wrote_is_followed_though_it_comes_after_what_was_written_later(
    reported: Reported,
) -> None:
    reported.say(20, "submitted")
    reported.send()
    followed = reported.server.follow(reported.row(), level=0, task_run=False)
    seen = [next(followed), next(followed)]
    reported.say(5, "the node began", writer="job-1")
    reported.say(30, "waiting")
    reported.send()
    seen += [next(followed) for _ in range(3)]
    reported.say(10, "the node ended", writer="job-1")
    reported.end()
    reported.send()
    seen += list(followed)
    told = [None if record is None else record["message"] for record in seen]
    expected = ["submitted", None, "waiting", "the node began", None, "the node ended"]
    assert sorted(map(str, told)) == sorted(map(str, expected))
    assert told[-1] == "the node ended"


def test_arrivals_come_in_parts_each_once_and_to_their_end(reported: Reported) -> None:
    ask = reported.server.api
    assert ask is not None
    reported.send()
    run = reported.row()["id"]
    arrived = ask.logs(run=run)["arrived"]
    for at in range(7):
        reported.say(7 - at, f"line {at}")
    reported.send()
    found, pages = [], 0
    more: str | None = arrived
    while more:
        page = ask.logs(run=run, arrived=arrived, limit=3)
        found += [record["message"] for record in page["items"]]
        arrived, more, pages = page["arrived"], page["next"], pages + 1
    assert (found, pages) == ([f"line {at}" for at in range(7)], 3)
    assert ask.logs(run=run, arrived=arrived)["items"] == []
    assert all(
        int(a["id"]) < int(b["id"]) for a, b in pairwise(ask.logs(run=run, arrived="0")["items"])
    )


@pytest.mark.parametrize("odd", ["x", "-1", "9" * 30, "1.5"])
def test_what_no_answer_had_is_refused(tmp_path: Path, odd: str) -> None:
    site = make_site(tmp_path)
    site.report("ann", tmp_path / "home")
    asked = "/logs?run=8c3f2a10-run&arrived="
    assert site.ask("ann", "GET", asked + odd).status_code == 422
    assert site.ask("ann", "GET", f"{asked}0&order=desc").status_code == 422
    assert site.ask("ann", "GET", f"{asked}{2**63 - 1}").json()["items"] == []
    assert site.ask("ben", "GET", f"{asked}0").json()["arrived"] == "0"
    site.close()
