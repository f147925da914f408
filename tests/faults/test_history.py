"""The checker of histories sees what is broken, and reads what we write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from faults.history import assert_sound, read_history, violations

from hpc_flows.journal.folder import create_run
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import replay
from hpc_flows.journal.writer import JournalWriter

if TYPE_CHECKING:
    from pathlib import Path

TASK = {"id": "t", "name": "t", "task": "t", "flow_run": "run-1"}


def running(number: int) -> dict[str, object]:
    return {"subject": "task", "id": "t", "type": "RUNNING", "name": "Running", "attempt": number}


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    return create_run(str(tmp_path), "run-1")


def test_a_history_that_breaks_a_guarantee_is_seen_by_the_checker(run_dir: str) -> None:
    """The checker itself: one broken history for each guarantee."""
    cases = {
        "never ended": [("task-run", TASK)],
        "which was never made": [("state", running(1))],
        "without an intent": [("job-submitted", {"token": "a", "job": "1"})],
        "before its intent": [
            ("job-submitted", {"token": "a", "job": "1"}),
            ("job-intent", {"token": "a"}),
        ],
        "became 2 jobs": [
            ("job-intent", {"token": "a"}),
            ("job-submitted", {"token": "a", "job": "1"}),
            ("job-submitted", {"token": "a", "job": "2"}),
        ],
        "announced twice": [("job-intent", {"token": "a"}), ("job-intent", {"token": "a"})],
        "after COMPLETED": [
            ("task-run", TASK),
            ("state", {**running(1), "type": "COMPLETED"}),
            ("state", running(1)),
        ],
        "completed 2 times": [
            ("task-run", TASK),
            ("state", {**running(1), "type": "COMPLETED"}),
            ("state", {**running(1), "type": "COMPLETED"}),
        ],
        "after attempt 2": [("task-run", TASK), ("state", running(2)), ("state", running(1))],
    }
    for number, (complaint, events) in enumerate(cases.items()):
        folder = create_run(run_dir, f"case-{number}")
        with JournalWriter(folder, "run-1", "driver", fsync=False) as journal:
            for kind, data in events:
                journal.write(kind, data)
        broken = violations(read_history(folder), finished=True)
        assert any(complaint in text for text in broken), (complaint, broken)


def test_a_history_read_by_a_stranger_is_the_one_that_we_read(run_dir: str) -> None:
    with JournalWriter(run_dir, "run-1", "driver") as journal:
        journal.write("task-run", TASK)
        journal.write("state", running(1))
        journal.write("state", {**running(1), "type": "COMPLETED", "name": "Completed"})
    ours = [(event.id, event.wall, event.kind, event.data) for event in read_run(run_dir)]
    theirs = [
        (f"{r['writer']}:{r['seq']}", r["wall"], r["kind"], r["data"])
        for r in assert_sound(run_dir, finished=True)
    ]
    assert ours == theirs
    assert replay(read_run(run_dir)).task_runs["t"].state_type == "COMPLETED"
    json.dumps(theirs)
