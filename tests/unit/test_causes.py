"""What is said of a crashed run: the first line alone tells what a user needs."""

from __future__ import annotations

from typing import Any

import pytest

from hpc_flows.jobs import causes
from hpc_flows.jobs.causes import Subject
from hpc_flows.jobs.evidence import Decision, Verdict
from hpc_flows.resources import Resources
from hpc_flows.schedulers.base import Ending, JobStatus, Phase
from hpc_flows.states import StateType

MIB = 1024**2
WORD = JobStatus(
    job="351_3",
    name="hf-run-one",
    phase=Phase.ENDED,
    raw="FAILED",
    ending=Ending.FAILED,
    nodes="c7",
    max_rss=141 * MIB,
    elapsed=62.4,
)
#: Every cause of a crash, with the clues that tell its kinds apart.
CRASHES = [
    ("OutOfMemory", "OUT_OF_MEMORY"),
    ("OutOfMemory", "contradicted"),
    ("WalltimeExceeded", "TIMEOUT"),
    ("NodeFailed", "NODE_FAIL"),
    ("Preempted", "PREEMPTED"),
    ("CancelledByScheduler", "CANCELLED"),
    ("JobLost", "vanished"),
    ("JobLost", "no output"),
    ("JobLost", "signal 9"),
    ("JobLost", "exit 127"),
    ("JobLost", "exit 0"),
    ("JobLost", "exit 7"),
    ("JobLost", "result: x is not there"),
    ("JobLost", "untracked: KeyError: 'id'"),
    ("JobLost", "BOOT_FAIL"),
]


def subject(**changes: Any) -> Subject:
    """Return whom a message is about."""
    usual: dict[str, Any] = {
        "run": "train-1",
        "job": "351_3",
        "node": "",
        "requested": Resources(cpus=2, memory="100M", walltime="5m"),
        "output": "/runs/r/jobs/t/out-3.log",
        "tail": "one\ntwo\n",
        "python": "/usr/bin/python3",
        "run_dir": "/runs/r",
        "cluster": "mock",
        "token": "hf-run-one",
    }
    return Subject(**usual | changes)


def verdict(cause: str, clue: str, status: JobStatus | None = WORD) -> Verdict:
    """Return the verdict that a run has crashed by a cause."""
    return Verdict(Decision.END, type=StateType.CRASHED, cause=cause, clue=clue, status=status)


@pytest.mark.parametrize(("cause", "clue"), CRASHES)
def test_the_first_line_has_job_node_request_and_use(cause: str, clue: str) -> None:
    first, _, rest = causes.message(verdict(cause, clue), subject()).partition("\n")
    for fact in ("train-1", "351_3", "c7", "2 cpus", "100M", "0:05:00", "141M", "00:01:02"):
        assert fact in first
    assert rest == "The end of its output (/runs/r/jobs/t/out-3.log):\n  one\n  two"


@pytest.mark.parametrize(("cause", "clue"), CRASHES)
def test_a_job_of_which_nothing_is_known_is_named_by_its_token(cause: str, clue: str) -> None:
    text = causes.message(verdict(cause, clue, None), subject(job="", tail=" \n"))
    first, _, rest = text.partition("\n")
    assert "hf-run-one" in first
    assert ("more memory than that" if cause == "OutOfMemory" else "is not known") in first
    assert rest == "It has left no output (/runs/r/jobs/t/out-3.log)."


def test_a_moment_is_not_called_zero_seconds() -> None:
    short = JobStatus("7", "t", Phase.ENDED, "FAILED", ending=Ending.FAILED, elapsed=0.2)
    assert "it used less than a second." in causes.message(
        verdict("JobLost", "exit 7", short), subject()
    )


def test_memory_that_was_seen_too_seldom_is_not_called_the_memory_used() -> None:
    seen = JobStatus("7", "t", Phase.ENDED, "OUT_OF_MEMORY", ending=Ending.MEMORY, max_rss=3 * MIB)
    text = causes.message(verdict("OutOfMemory", "OUT_OF_MEMORY", seen), subject())
    assert "asked for 2 cpus, 100M, 0:05:00; it used more memory than that." in text


def test_more_memory_is_suggested_also_to_who_had_not_asked_for_any() -> None:
    text = causes.message(verdict("OutOfMemory", "OUT_OF_MEMORY"), subject(requested=Resources()))
    assert "It asked for no resources" in text
    assert 'Resources(memory="16GB")' in text


def test_what_was_cancelled_by_us_says_only_why() -> None:
    text = causes.message(verdict("Cancelled", "the flow was interrupted"), subject())
    assert text == "Task run 'train-1' was cancelled: the flow was interrupted."


def test_programs_get_the_same_facts() -> None:
    details = causes.details(verdict("JobLost", "signal 9"), subject())
    assert details["job"] == "351_3"
    assert details["node"] == "c7"
    assert details.items() >= {"token": "hf-run-one", "cluster": "mock"}.items()
    assert details["used"] == {"memory": 141 * MIB, "walltime": 62.4}
    assert details["requested"]["cpus"] == 2


def test_a_python_that_is_too_old_to_say_so_itself_is_recognised() -> None:
    said = "hpc_flows: this job was started with Python 3.6.8 (/usr/bin/python3), and needs ...\n"
    text = causes.message(verdict("JobLost", "exit 4"), subject(tail=said))
    assert "job 351_3 on c7 was started with a Python older than 3.11" in text
    assert "Set `python` in the cluster's profile" in text


def test_a_run_that_could_not_be_loaded_says_where_and_what_it_cost() -> None:
    text = causes.refusal("Wrong Python on the node.", subject(node="c7"), {"elapsed": 61.0})
    assert text.partition("\n")[0] == (
        "Task run 'train-1' could not be loaded by job 351_3 on c7: Wrong Python on the node. "
        "It asked for 2 cpus, 100M, 0:05:00; it used 00:01:01 of time."
    )
