"""The sink of a Prefect server: what it asks in which order, and never twice."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

import pytest
from prefect_double import (
    RUN,
    TASK,
    Journal,
    PrefectDouble,
    as_folder,
    flow_states,
    names,
    opened,
    whole_run,
)

from hpc_flows.reporting.prefect import open_prefect_sink
from hpc_flows.reporting.prefect import report as report_module
from hpc_flows.reporting.prefect import server as server_module
from hpc_flows.reporting.prefect.marks import Marks
from hpc_flows.reporting.sink import (
    Attachment,
    BatchRefused,
    RunAbout,
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


def test_a_run_is_told_in_the_order_that_the_server_needs(double: PrefectDouble) -> None:
    receipt = opened(double).send(whole_run().batch())
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
    assert names(double) == ["Pending", "Running", "Completed"]
    assert flow_states(double) == ["Pending", "Running", "Completed"]
    assert [log["message"] for log in double.logs] == ["it begins"]
    # Its first data were never sent, since newer ones came in the same batch.
    (artifact,) = double.artifacts.values()
    assert artifact["data"] == 90.0


def test_a_replay_with_its_memory_asks_for_nothing(double: PrefectDouble, tmp_path: Path) -> None:
    for _ in range(2):
        sink = opened(double)
        sink.state_folder = str(tmp_path / "marks")
        receipt = sink.send(whole_run().batch())
        sink.finish(RunAbout(RUN, ""))
        sink.close()
    assert receipt.repeated == 11
    assert len(double.to("/flow_runs/")) == 1
    assert len(double.to("/events")) == 1
    assert len(double.logs) == 1


def test_a_replay_without_any_memory_changes_nothing(double: PrefectDouble) -> None:
    opened(double).send(whole_run().batch())
    before = json.dumps([double.events, double.states, double.logs, double.artifacts])
    opened(double).send(whole_run().batch())
    assert json.dumps([double.events, double.states, double.logs, double.artifacts]) == before


@pytest.mark.parametrize("is_here", [True, False], ids=["journal here", "journal elsewhere"])
def test_what_a_killed_sink_had_begun_is_finished_by_the_next(
    double: PrefectDouble, tmp_path: Path, *, is_here: bool
) -> None:
    journal = whole_run()
    for begin, end in ((0, 5), (5, 11)):
        sink = opened(double)
        sink.state_folder = str(tmp_path / "marks")
        folder = as_folder(journal, tmp_path) if is_here else ""
        part = journal.batch(folder=folder)
        sink.send(type(part)(part.run, part.lines[begin:end]))
    assert names(double) == ["Pending", "Running", "Completed"]
    assert double.logs[0]["task_run_id"] == TASK
    assert len(double.to("/flow_runs/")) == 1
    assert flow_states(double) == ["Pending", "Running", "Completed"]


def test_a_task_outside_of_any_flow_is_told_without_a_flow_run(double: PrefectDouble) -> None:
    journal = Journal()
    journal.task(flow_run=None)
    journal.state("Running")
    journal.log("alone", task_run=TASK, flow_run=None)
    journal.state("Completed")
    batch = journal.batch()
    about = RunAbout(RUN, "", {"id": RUN, "task": "square", "name": "square"})
    for _ in range(2):
        sink = opened(double)
        assert sink.send(type(batch)(about, batch.lines)).refused == 0
        sink.finish(about)
    assert names(double) == ["Running", "Completed"]
    assert not [event for event in double.events.values() if event["related"]]
    assert not double.states
    (log,) = double.logs
    assert (log["flow_run_id"], log["task_run_id"]) == (None, TASK)
    assert not sink._reports


def test_a_state_that_comes_before_its_task_run_waits_for_it(double: PrefectDouble) -> None:
    journal, sink = Journal(), opened(double)
    journal.state("Running", where={"writer": "hf-1-0-0"})
    journal.log("early", task_run=TASK)
    sink.send(journal.batch())
    assert not double.events
    assert not double.logs
    journal.flow()
    journal.task()
    sink.send(journal.batch(2))
    assert names(double) == ["Running"]
    assert [log["message"] for log in double.logs] == ["early"]


def test_what_waited_is_not_lost_when_the_server_is_away_just_then(
    double: PrefectDouble,
) -> None:
    journal, sink = Journal(), opened(double)
    journal.state("Running")
    journal.log("early")
    sink.send(journal.batch())
    journal.flow()
    journal.task()
    double.next("/events", 500, {})
    with pytest.raises(SinkTrouble):
        sink.send(journal.batch(2))
    sink.send(journal.batch(2))
    assert names(double) == ["Running"]
    assert [log["message"] for log in double.logs] == ["early"]


def test_a_late_running_never_overwrites_completed(double: PrefectDouble) -> None:
    journal, sink = Journal(), opened(double)
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
    journal, sink = whole_run(), opened(double)
    sink.send(journal.batch())
    journal.state("Running", flow=True, where={"writer": "hf-1-0-0"})
    sink.send(journal.batch(11))
    assert flow_states(double) == ["Pending", "Running", "Completed"]


def test_a_state_that_the_server_rejects_is_insisted_on(double: PrefectDouble) -> None:
    double.next("set_state", 200, {"status": "ABORT", "state": None})
    opened(double).send(whole_run().batch())
    asked = [asked.body["force"] for asked in double.to("set_state")]
    assert asked == [False, True, False]


def test_a_server_that_is_behind_is_told_newest_states_only(double: PrefectDouble) -> None:
    sink = opened(double, rate=1.0)
    sink.send(whole_run().batch())
    assert names(double) == ["Completed"]
    (event,) = double.events.values()
    run = event["payload"]["task_run"]
    assert (run["start_time"], run["end_time"]) != (None, None)


def test_runs_above_the_limit_are_one_with_progress(double: PrefectDouble) -> None:
    journal, sink = Journal(), opened(double, most=2)
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


def test_an_event_without_sense_is_counted_and_passed_over(double: PrefectDouble) -> None:
    journal = Journal()
    journal.flow()
    journal.add("state", {"subject": "task", "id": TASK, "type": "NONSENSE", "name": "x"})
    journal.add("state", {"subject": "task"})
    assert opened(double).send(journal.batch()).refused == 2
    assert not double.events


def test_lines_of_another_run_are_not_told(double: PrefectDouble) -> None:
    batch = whole_run().batch()
    other = type(batch)(RunAbout(TASK, ""), batch.lines)
    opened(double).send(other)
    assert not double.states


def test_older_data_of_an_artifact_never_replace_newer_ones(double: PrefectDouble) -> None:
    journal, first, second = Journal(), opened(double), opened(double)
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
    journal, sink = Journal(), opened(double)
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


def test_marks_outlive_a_torn_line(tmp_path: Path) -> None:
    journal = whole_run()
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


def test_of_marks_of_which_a_full_disk_took_a_part_only_these_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal()
    events = [journal.log(str(number)) for number in range(4)]
    marks, write, calls = Marks(str(tmp_path), RUN), os.write, list[int]()

    def full(fd: int, text: bytes) -> int:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, text[: len(text) // 2] if len(calls) == 2 else text)

    monkeypatch.setattr(os, "write", full)
    for event in events:
        marks.sent([event])
    again = Marks(str(tmp_path), RUN)
    assert [again.has(event) for event in events] == [True, False, True, True]


def test_a_full_disk_costs_the_marks_and_nothing_else(
    double: PrefectDouble, tmp_path: Path
) -> None:
    (tmp_path / "marks").write_text("a file where the folder should be")
    sink = opened(double)
    sink.state_folder = str(tmp_path / "marks")
    sink.send(whole_run().batch())
    assert flow_states(double)[-1] == "Completed"


def test_the_sink_is_opened_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SinkRefusal, match="not set"):
        open_prefect_sink(get_settings())
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    sink = open_prefect_sink(get_settings())
    assert sink.way() == "Prefect at http://127.0.0.1:4200/api"
    assert sink.store.startswith("prefect-")
