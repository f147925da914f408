"""The sink of a Prefect server in trouble: it waits, gives up or says what to do."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from prefect_double import (
    RUN,
    Journal,
    PrefectDouble,
    as_folder,
    flow_states,
    names,
    opened,
    whole_run,
)

from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.reporting.prefect import PrefectSink
from hpc_flows.reporting.prefect import pacing as pacing_module
from hpc_flows.reporting.prefect import report as report_module
from hpc_flows.reporting.prefect import server as server_module
from hpc_flows.reporting.prefect.pacing import Breaker, Pace
from hpc_flows.reporting.sink import (
    BatchRefused,
    RunAbout,
    RunGone,
    SinkRefusal,
    SinkTrouble,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hpc_flows.client.connection import RawResponse


@pytest.fixture
def double() -> Iterator[PrefectDouble]:
    with PrefectDouble() as server:
        yield server


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "_GAP", 0.0)
    monkeypatch.setattr(server_module, "_PAUSES", (0.0, 0.0))


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_wants_to_be_left_alone_is_left_alone(
    double: PrefectDouble, status: int
) -> None:
    double.next("/events", status, {}, Retry_After="17")
    sink = opened(double)
    with pytest.raises(SinkTrouble) as told:
        sink.send(whole_run().batch())
    assert told.value.retry_after == 17
    assert told.value.answered
    sink.send(whole_run().batch())
    assert names(double) == ["Pending", "Running", "Completed"]
    assert len(double.logs) == 1


def test_a_locked_database_is_asked_again_at_once(double: PrefectDouble) -> None:
    double.next("/flow_runs/", 503, {"exception_message": "Service Unavailable"})
    opened(double).send(whole_run().batch())
    assert len(double.to("/flow_runs/")) == 2


def test_an_answer_that_is_lost_doubles_neither_log_records_nor_artifacts(
    double: PrefectDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a slow server answers after we have stopped waiting: it has taken what was sent."""
    journal, sink = whole_run(), opened(double)
    ask, lost = server_module.PrefectServer._once, set()

    def once(server: server_module.PrefectServer, *asked: str) -> RawResponse:
        answer = ask(server, *asked)
        if asked[1] in {"/logs/", "/artifacts/"} - lost:
            lost.add(asked[1])
            raise SinkTrouble("timed out")
        return answer

    monkeypatch.setattr(server_module.PrefectServer, "_once", once)
    for _ in range(2):
        with pytest.raises(SinkTrouble):
            sink.send(journal.batch())
    sink.send(journal.batch())
    assert lost == {"/logs/", "/artifacts/"}
    assert [log["message"] for log in double.logs] == ["it begins"]
    assert [artifact["data"] for artifact in double.artifacts.values()] == [90.0]
    journal.log("later")
    sink.send(journal.batch())
    assert [log["message"] for log in double.logs] == ["it begins", "later"]
    assert len(double.to("/logs/filter")) == 1


def test_a_server_that_is_down_is_trouble_and_then_gets_all() -> None:
    sink = PrefectSink("http://127.0.0.1:1/api")
    with pytest.raises(SinkTrouble, match="does not answer"):
        sink.send(whole_run().batch())


def test_errors_in_a_row_open_the_breaker(
    double: PrefectDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = opened(double)
    for _ in range(pacing_module._PATIENCE):
        double.next("/events", 422, {"detail": "no"})
        with pytest.raises(BatchRefused):
            sink.send(whole_run().batch())
    before = len(double.asked)
    with pytest.raises(SinkTrouble, match="left alone") as told:
        sink.send(whole_run().batch())
    assert len(double.asked) == before
    assert told.value.retry_after is not None
    assert 0 < told.value.retry_after <= pacing_module._FIRST_REST
    now = time.monotonic()
    monkeypatch.setattr(pacing_module, "monotonic", lambda: now + 60)
    sink.send(whole_run().batch())
    assert names(double) == ["Pending", "Running", "Completed"]


def test_the_breaker_rests_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(pacing_module, "monotonic", lambda: now)
    breaker, rests = Breaker(), []
    for _ in range(2):
        for _ in range(pacing_module._PATIENCE):
            breaker.failed()
        with pytest.raises(SinkTrouble) as told:
            breaker.check()
        rests.append(told.value.retry_after)
        now += 1000
        breaker.check()
    assert rests == [30.0, 60.0]


def test_a_rejected_log_or_artifact_holds_nothing_up(double: PrefectDouble) -> None:
    double.next("/logs/", 422, {"detail": "no"})
    receipt = opened(double).send(whole_run().batch())
    assert receipt.refused == 1
    assert flow_states(double)[-1] == "Completed"


@pytest.mark.parametrize(
    ("path", "told"), [("labels", "Completed"), ("set_state", None), ("/flows/", None)]
)
def test_what_the_server_rejects_is_told_as_the_relay_understands_it(
    double: PrefectDouble, path: str, told: str | None
) -> None:
    double.next(path, 422, {"detail": "no"})
    sink = opened(double)
    if told is None:
        with pytest.raises(BatchRefused, match="422"):
            sink.send(whole_run().batch())
    sink.send(whole_run().batch())
    assert flow_states(double)[-1] == "Completed"


def test_progress_that_somebody_deleted_holds_nothing_up(double: PrefectDouble) -> None:
    journal, sink = Journal(), opened(double, most=0)
    journal.flow()
    journal.task()
    journal.state("Running")
    sink.send(journal.batch())
    (id_,) = double.artifacts
    double.next(f"/artifacts/{id_}", 404, {"detail": "not found"})
    journal.state("Completed")
    sink.send(journal.batch(3))
    sink.finish(RunAbout(RUN, ""))
    assert [e["payload"]["validated_state"]["name"] for e in double.events.values()] == [
        "Running",
        "Completed",
    ]


def test_a_run_that_was_deleted_at_the_server_is_let_go(
    double: PrefectDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, sink = Journal(), opened(double)
    journal.flow()
    sink.send(journal.batch())
    double.states.clear()
    monkeypatch.setattr("hpc_flows.reporting.prefect.flow_runs._TRUSTED", 0.0)
    journal.task()
    journal.state("Running")
    with pytest.raises(RunGone, match="deleted"):
        sink.send(journal.batch(1))
    assert not double.events


def test_a_deleted_run_is_not_made_again_by_a_sink_that_remembers_it(
    double: PrefectDouble, tmp_path: Path
) -> None:
    journal, first, second = whole_run(), opened(double), opened(double)
    first.state_folder = second.state_folder = str(tmp_path)
    first.send(journal.batch())
    double.states.clear()
    journal.log("more")
    with pytest.raises(RunGone):
        second.send(journal.batch(11, as_folder(journal, tmp_path)))


@pytest.mark.parametrize(
    ("version", "words"), [("2.20.4", "only Prefect 3"), ("<html>", "no Prefect API")]
)
def test_another_server_is_refused_in_words(version: str, words: str) -> None:
    with PrefectDouble(version) as double, pytest.raises(SinkRefusal, match=words):
        double.sink().open()


def test_an_address_that_is_not_the_apis_is_told(double: PrefectDouble) -> None:
    double.next("/admin/version", 404, {"detail": "Not Found"})
    with pytest.raises(SinkRefusal, match="ends in /api"):
        double.sink().open()


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(SinkRefusal, match="prefect_api_url"):
        PrefectSink("prefect.example.org")


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_does_not_know_us_says_what_to_set(
    double: PrefectDouble, status: int
) -> None:
    double.next("/admin/version", status, {"exception_message": "Unauthorized"})
    with pytest.raises(SinkRefusal, match="prefect_api_auth_string"):
        double.sink().open()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"key": "pnu_x"}, "Bearer pnu_x"),
        ({"key": "pnu_x", "auth": "ann:secret"}, "Basic YW5uOnNlY3JldA=="),
    ],
)
def test_the_auth_string_goes_before_the_key(
    double: PrefectDouble, options: dict[str, str], expected: str | None
) -> None:
    opened(double, **options)
    assert double.asked[0].headers.get("Authorization") == expected


@pytest.mark.parametrize(
    ("path", "status"),
    [("/admin/version", 401), *[("/flow_runs/", n) for n in (403, 422, 429, 500)]],
)
def test_t5_a_server_that_repeats_what_it_was_sent_does_not_bring_our_keys_into_messages(
    double: PrefectDouble, path: str, status: int
) -> None:
    key, auth = "pnu_canary_7c31", "ann:canary-of-ann"
    shown = [key, auth, "canary-of-ann", "YW5uOmNhbmFyeS1vZi1hbm4="]
    double.next(path, status, {"detail": " ".join(["You sent", *shown, "." * 600])})
    sink = double.sink(key=key, auth=auth)
    with pytest.raises(HpcFlowsError, match="You sent") as told:
        sink.open() if path == "/admin/version" else sink.send(whole_run().batch())
    assert not [secret for secret in shown if secret in str(told.value)]


def test_a_server_that_asks_for_a_token_against_forgery_gets_it() -> None:
    with PrefectDouble(csrf="t0ken") as double:
        sink = opened(double)
        sink.send(whole_run().batch())
        assert flow_states(double)[-1] == "Completed"
        # It may be renewed meanwhile.
        double.csrf = "another"
        journal = whole_run()
        journal.log("more")
        sink.send(journal.batch(11))
        assert double.logs[-1]["message"] == "more"


def test_who_waits_for_the_rate_is_let_go_when_the_sink_is_closed() -> None:
    pace, told = Pace(0.01), []

    def wait() -> None:
        try:
            pace.take(1)
            pace.take(1)
            pace.take(1)
        except SinkTrouble as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    pace.stop()
    thread.join(120)
    assert not thread.is_alive()
    assert told


def test_the_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pace = 0.0, Pace(50.0)
    waited: list[float] = []

    def pause(seconds: float) -> None:
        nonlocal now
        waited.append(max(0.0, seconds))
        now += max(0.0, seconds)

    begin = time.monotonic()
    monkeypatch.setattr(pacing_module, "monotonic", lambda: begin + 100 + now)
    monkeypatch.setattr(pace, "pause", pause)
    for _ in range(20):
        pace.take(100)
    # A burst of a hundred, then 50 a second.
    assert sum(waited) == pytest.approx(38.0, abs=0.1)
