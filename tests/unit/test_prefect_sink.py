"""The sink of a Prefect server: what it asks in which order, and what it does in trouble."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from prefect_double import RUN, TASK, Journal, PrefectDouble

from hpc_flows.reporting.prefect import PrefectSink, open_prefect_sink
from hpc_flows.reporting.prefect import pacing as pacing_module
from hpc_flows.reporting.prefect import report as report_module
from hpc_flows.reporting.prefect import server as server_module
from hpc_flows.reporting.prefect.marks import Marks
from hpc_flows.reporting.prefect.pacing import Breaker, Pace
from hpc_flows.reporting.sink import (
    Attachment,
    BatchRefused,
    RunAbout,
    RunGone,
    SinkRefusal,
    SinkTrouble,
)
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def double() -> Iterator[PrefectDouble]:
    with PrefectDouble() as server:
        yield server


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "_GAP", 0.0)
    monkeypatch.setattr(server_module, "_PAUSES", (0.0, 0.0))


def _sink(double: PrefectDouble, **options: Any) -> PrefectSink:
    sink = double.sink(**options)
    sink.open()
    return sink


def _whole() -> Journal:
    journal = Journal()
    journal.flow()
    journal.state("Pending", flow=True)
    journal.state("Running", flow=True)
    journal.task()
    journal.state("Pending")
    journal.log("it begins", task_run=TASK)
    journal.state("Running")
    journal.state("Completed")
    journal.add("artifact", {"id": "a1", "type": "progress", "data": 10.0, "key": "p"})
    journal.add("artifact", {"id": "a1", "update": True, "type": "progress", "data": 90.0})
    journal.state("Completed", flow=True)
    return journal


def _names(double: PrefectDouble) -> list[str]:
    return [event["payload"]["validated_state"]["name"] for event in double.events.values()]


def _flow_states(double: PrefectDouble) -> list[str]:
    (states,) = double.states.values()
    return [state["name"] for state in states]


def test_a_run_is_told_in_the_order_that_the_server_needs(double: PrefectDouble) -> None:
    receipt = _sink(double).send(_whole().batch())
    paths = [asked.path.split("/")[-1] or asked.path for asked in double.asked[2:]]
    assert paths == [
        "/flows/",
        "/flow_runs/",
        "set_state",
        "events",
        "/logs/",
        "/artifacts/",
        "labels",
        "set_state",
    ]
    assert receipt.refused == 0
    assert _names(double) == ["Pending", "Running", "Completed"]
    assert _flow_states(double) == ["Pending", "Running", "Completed"]
    assert [log["message"] for log in double.logs] == ["it begins"]
    # Its first data were never sent, since newer ones came in the same batch.
    (artifact,) = double.artifacts.values()
    assert artifact["data"] == 90.0


def test_a_replay_with_its_memory_asks_for_nothing(double: PrefectDouble, tmp_path: Path) -> None:
    for _ in range(2):
        sink = _sink(double)
        sink.state_folder = str(tmp_path / "marks")
        receipt = sink.send(_whole().batch())
        sink.finish(RunAbout(RUN, ""))
        sink.close()
    assert receipt.repeated == 11
    assert len(double.to("/flow_runs/")) == 1
    assert len(double.to("/events")) == 1
    assert len(double.logs) == 1


def test_a_replay_without_any_memory_changes_nothing(double: PrefectDouble) -> None:
    _sink(double).send(_whole().batch())
    before = json.dumps([double.events, double.states, double.logs, double.artifacts])
    _sink(double).send(_whole().batch())
    assert json.dumps([double.events, double.states, double.logs, double.artifacts]) == before


@pytest.mark.parametrize("is_here", [True, False], ids=["journal here", "journal elsewhere"])
def test_what_a_killed_sink_had_begun_is_finished_by_the_next(
    double: PrefectDouble, tmp_path: Path, *, is_here: bool
) -> None:
    journal = _whole()
    for begin, end in ((0, 5), (5, 11)):
        sink = _sink(double)
        sink.state_folder = str(tmp_path / "marks")
        folder = _as_folder(journal, tmp_path) if is_here else ""
        part = journal.batch(folder=folder)
        sink.send(type(part)(part.run, part.lines[begin:end]))
    assert _names(double) == ["Pending", "Running", "Completed"]
    assert double.logs[0]["task_run_id"] == TASK
    assert len(double.to("/flow_runs/")) == 1
    assert _flow_states(double) == ["Pending", "Running", "Completed"]


def _as_folder(journal: Journal, folder: Path) -> str:
    (folder / "journal").mkdir(exist_ok=True)
    for writer in {line.writer for line in journal.lines}:
        text = b"".join(line.text + b"\n" for line in journal.lines if line.writer == writer)
        (folder / "journal" / f"{writer}.jsonl").write_bytes(text)
    return str(folder)


def test_a_task_outside_of_any_flow_is_told_without_a_flow_run(double: PrefectDouble) -> None:
    journal = Journal()
    journal.task(flow_run=None)
    journal.state("Running")
    journal.log("alone", task_run=TASK, flow_run=None)
    journal.state("Completed")
    batch = journal.batch()
    about = RunAbout(RUN, "", {"id": RUN, "task": "square", "name": "square"})
    for _ in range(2):
        sink = _sink(double)
        assert sink.send(type(batch)(about, batch.lines)).refused == 0
        sink.finish(about)
    assert _names(double) == ["Running", "Completed"]
    assert not [event for event in double.events.values() if event["related"]]
    assert not double.states
    (log,) = double.logs
    assert (log["flow_run_id"], log["task_run_id"]) == (None, TASK)
    assert not sink._reports


def test_a_state_that_comes_before_its_task_run_waits_for_it(double: PrefectDouble) -> None:
    journal, sink = Journal(), _sink(double)
    journal.state("Running", where={"writer": "hf-1-0-0"})
    journal.log("early", task_run=TASK)
    sink.send(journal.batch())
    assert not double.events
    assert not double.logs
    journal.flow()
    journal.task()
    sink.send(journal.batch(2))
    assert _names(double) == ["Running"]
    assert [log["message"] for log in double.logs] == ["early"]


def test_what_waited_is_not_lost_when_the_server_is_away_just_then(
    double: PrefectDouble,
) -> None:
    journal, sink = Journal(), _sink(double)
    journal.state("Running")
    journal.log("early")
    sink.send(journal.batch())
    journal.flow()
    journal.task()
    double.next("/events", 500, {})
    with pytest.raises(SinkTrouble):
        sink.send(journal.batch(2))
    sink.send(journal.batch(2))
    assert _names(double) == ["Running"]
    assert [log["message"] for log in double.logs] == ["early"]


def test_a_late_running_never_overwrites_completed(double: PrefectDouble) -> None:
    journal, sink = Journal(), _sink(double)
    journal.flow()
    journal.task()
    journal.state("Completed")
    sink.send(journal.batch())
    # The node's clock is ahead by an hour.
    journal.state("Running", where={"writer": "hf-1-0-0", "at": 3600.0})
    sink.send(journal.batch(3))
    stamps = {e["resource"]["prefect.state-name"]: e["occurred"] for e in double.events.values()}
    assert stamps["Running"] < stamps["Completed"]


def test_a_flow_run_goes_through_each_state_once_and_never_back(double: PrefectDouble) -> None:
    journal, sink = _whole(), _sink(double)
    sink.send(journal.batch())
    journal.state("Running", flow=True, where={"writer": "hf-1-0-0"})
    sink.send(journal.batch(11))
    assert _flow_states(double) == ["Pending", "Running", "Completed"]


def test_a_state_that_the_server_rejects_is_insisted_on(double: PrefectDouble) -> None:
    double.next("set_state", 200, {"status": "ABORT", "state": None})
    _sink(double).send(_whole().batch())
    asked = [asked.body["force"] for asked in double.to("set_state")]
    assert asked == [False, True, False]


def test_a_server_that_is_behind_is_told_newest_states_only(double: PrefectDouble) -> None:
    sink = _sink(double, rate=1.0)
    sink.send(_whole().batch())
    assert _names(double) == ["Completed"]
    (event,) = double.events.values()
    run = event["payload"]["task_run"]
    assert (run["start_time"], run["end_time"]) != (None, None)


def test_runs_above_the_limit_are_one_with_progress(double: PrefectDouble) -> None:
    journal, sink = Journal(), _sink(double, most=2)
    journal.flow()
    ids = [f"{n:08d}-2222-4222-8222-222222222222" for n in range(6)]
    for id_ in ids:
        journal.task(id_)
        journal.state("Completed", id_)
    journal.log("from a hidden one", task_run=ids[5])
    sink.send(journal.batch())
    names = [event["payload"]["task_run"]["name"] for event in double.events.values()]
    assert names == ["square-0", "square-0", "square (more)"]
    (artifact,) = double.artifacts.values()
    assert (artifact["type"], artifact["data"]) == ("progress", 100.0)
    assert double.logs[0]["message"] == "[square-0] from a hidden one"
    assert double.logs[0]["task_run_id"] == artifact["task_run_id"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_wants_to_be_left_alone_is_left_alone(
    double: PrefectDouble, status: int
) -> None:
    double.next("/events", status, {}, Retry_After="17")
    sink = _sink(double)
    with pytest.raises(SinkTrouble) as told:
        sink.send(_whole().batch())
    assert told.value.retry_after == 17
    assert told.value.answered
    sink.send(_whole().batch())
    assert _names(double) == ["Pending", "Running", "Completed"]
    assert len(double.logs) == 1


def test_a_locked_database_is_asked_again_at_once(double: PrefectDouble) -> None:
    double.next("/flow_runs/", 503, {"exception_message": "Service Unavailable"})
    _sink(double).send(_whole().batch())
    assert len(double.to("/flow_runs/")) == 2


def test_a_server_that_is_down_is_trouble_and_then_gets_all() -> None:
    sink = PrefectSink("http://127.0.0.1:1/api")
    with pytest.raises(SinkTrouble, match="does not answer"):
        sink.send(_whole().batch())


def test_errors_in_a_row_open_the_breaker(
    double: PrefectDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = _sink(double)
    for _ in range(pacing_module._PATIENCE):
        double.next("/events", 422, {"detail": "no"})
        with pytest.raises(BatchRefused):
            sink.send(_whole().batch())
    before = len(double.asked)
    with pytest.raises(SinkTrouble, match="left alone") as told:
        sink.send(_whole().batch())
    assert len(double.asked) == before
    assert told.value.retry_after == pytest.approx(pacing_module._FIRST_REST, abs=5)
    now = time.monotonic()
    monkeypatch.setattr(pacing_module, "monotonic", lambda: now + 60)
    sink.send(_whole().batch())
    assert _names(double) == ["Pending", "Running", "Completed"]


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
    receipt = _sink(double).send(_whole().batch())
    assert receipt.refused == 1
    assert _flow_states(double)[-1] == "Completed"


@pytest.mark.parametrize(
    ("path", "told"), [("labels", "Completed"), ("set_state", None), ("/flows/", None)]
)
def test_what_the_server_rejects_is_told_as_the_relay_understands_it(
    double: PrefectDouble, path: str, told: str | None
) -> None:
    double.next(path, 422, {"detail": "no"})
    sink = _sink(double)
    if told is None:
        with pytest.raises(BatchRefused, match="422"):
            sink.send(_whole().batch())
    sink.send(_whole().batch())
    assert _flow_states(double)[-1] == "Completed"


def test_progress_that_somebody_deleted_holds_nothing_up(double: PrefectDouble) -> None:
    journal, sink = Journal(), _sink(double, most=0)
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


def test_an_event_without_sense_is_counted_and_passed_over(double: PrefectDouble) -> None:
    journal = Journal()
    journal.flow()
    journal.add("state", {"subject": "task", "id": TASK, "type": "NONSENSE", "name": "x"})
    journal.add("state", {"subject": "task"})
    assert _sink(double).send(journal.batch()).refused == 2
    assert not double.events


def test_lines_of_another_run_are_not_told(double: PrefectDouble) -> None:
    batch = _whole().batch()
    other = type(batch)(RunAbout(TASK, ""), batch.lines)
    _sink(double).send(other)
    assert not double.states


def test_a_run_that_was_deleted_at_the_server_is_let_go(
    double: PrefectDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, sink = Journal(), _sink(double)
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
    journal, first, second = _whole(), _sink(double), _sink(double)
    first.state_folder = second.state_folder = str(tmp_path)
    first.send(journal.batch())
    double.states.clear()
    journal.log("more")
    with pytest.raises(RunGone):
        second.send(journal.batch(11, _as_folder(journal, tmp_path)))


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
    _sink(double, **options)
    assert double.asked[0].headers.get("Authorization") == expected


def test_a_server_that_asks_for_a_token_against_forgery_gets_it() -> None:
    with PrefectDouble(csrf="t0ken") as double:
        sink = _sink(double)
        sink.send(_whole().batch())
        assert _flow_states(double)[-1] == "Completed"
        # It may be renewed meanwhile.
        double.csrf = "another"
        journal = _whole()
        journal.log("more")
        sink.send(journal.batch(11))
        assert double.logs[-1]["message"] == "more"


def test_older_data_of_an_artifact_never_replace_newer_ones(double: PrefectDouble) -> None:
    journal, first, second = Journal(), _sink(double), _sink(double)
    journal.flow()
    for n in (3.0, 1.0, 2.0):
        journal.add("artifact", {"id": "a1", "type": "progress", "data": n, "updated": n})
    for sink in (first, second):
        for at in range(1, 4):
            batch = journal.batch()
            sink.send(type(batch)(batch.run, (batch.lines[0], batch.lines[at])))
    (artifact,) = double.artifacts.values()
    assert artifact["data"] == 3.0


def test_large_artifacts_follow_on_their_own(double: PrefectDouble) -> None:
    journal, sink = Journal(), _sink(double)
    journal.flow()
    file = {"file": "runs/x/artifacts/a1.json", "size": 70_000}
    journal.add("artifact", {"id": "a1", "type": "table", "key": "t", **file})
    sink.send(journal.batch())
    about = RunAbout(RUN, "")
    sink.attach(about, Attachment("artifact", "a1", b'"[1, 2]"'))
    sink.attach(about, Attachment("script", "hf-1", b"#!/bin/sh"))
    (artifact,) = double.artifacts.values()
    assert artifact["data"] == "[1, 2]"
    with pytest.raises(BatchRefused):
        sink.attach(about, Attachment("artifact", "a1", b"{"))


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
    thread.join(5)
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


def test_marks_outlive_a_torn_line(tmp_path: Path) -> None:
    journal = _whole()
    events = list(journal.batch().events())
    marks = Marks(str(tmp_path), RUN)
    marks.name("flow", RUN, ["there", "flow"])
    marks.sent(events[:5])
    (file,) = tmp_path.iterdir()
    with file.open("a") as out:
        out.write('{"sent":{"driver":[[6,')
    again = Marks(str(tmp_path), RUN)
    assert [again.has(event) for event in events[:6]] == [True] * 5 + [False]
    again.sent(events[5:6])
    third = Marks(str(tmp_path), RUN)
    assert third.has(events[5])
    assert third.ids["flow"] == {RUN: ["there", "flow"]}
    assert not third.is_empty


def test_a_full_disk_costs_the_marks_and_nothing_else(
    double: PrefectDouble, tmp_path: Path
) -> None:
    (tmp_path / "marks").write_text("a file where the folder should be")
    sink = _sink(double)
    sink.state_folder = str(tmp_path / "marks")
    sink.send(_whole().batch())
    assert _flow_states(double)[-1] == "Completed"


def test_the_sink_is_opened_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SinkRefusal, match="not set"):
        open_prefect_sink(get_settings())
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    sink = open_prefect_sink(get_settings())
    assert sink.way() == "Prefect at http://127.0.0.1:4200/api"
    assert sink.store.startswith("prefect-")
