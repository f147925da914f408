"""Submitting when something goes wrong beside it: late cancelling, and a disk that is full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from job_doubles import play_job, quick_cluster, until
from test_submit import Office, office, other

from hpc_flows.clusters.parts import Limits
from hpc_flows.exceptions import (
    JournalError,
    SchedulerError,
    SubmissionRejected,
    SubmissionThrottled,
    WalltimeExceeded,
)
from hpc_flows.schedulers.base import Ending, SchedulerInfo
from hpc_flows.states import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from hpc_flows.task_runners.base import TaskCall

__all__ = ["office"]


def test_what_is_cancelled_too_late_and_cannot_be_fails_no_other_run(
    office: Callable[..., Office], capfd: pytest.CaptureFixture[str]
) -> None:
    here = office()
    calls: list[TaskCall] = []
    submitting = here.scheduler.submit

    def slowly(*args: Any) -> str:
        until(lambda: len(calls) == 3)
        calls[0].end(Cancelled("enough"))
        return submitting(*args)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise SchedulerError("scancel failed with status 210")

    here.scheduler.submit = slowly  # type: ignore[method-assign]
    here.scheduler.cancel = refuse  # type: ignore[method-assign]
    calls += here.take(1, 2, 3)
    (job,) = here.submitted()
    said = ""

    def told() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return f"scancel {job}_0" in said

    until(told)
    play_job(here.tracker, here.scheduler.specs[job].token, 2, calls[2], value="third")
    assert calls[2].future.result(120) == "third"
    assert not calls[1].future.done()


def test_runs_that_are_cancelled_while_their_submission_is_held_back_are_not_in_its_script(
    office: Callable[..., Office],
) -> None:
    here = office()
    here.scheduler.refusals = [SubmissionThrottled("no room")] * 1000
    calls = here.take(1, 2, 3)
    until(lambda: here.scheduler.commands.count("submit") > 1)
    calls[1].end(Cancelled("enough"))
    here.scheduler.refusals = []
    here.submitted()
    (intent,) = here.events("job-intent")
    with open(intent.data["script"], encoding="utf-8") as script:
        assert "#SBATCH --array=0,2\n" in script.read()


def test_a_refusal_that_cannot_be_journalled_ends_its_runs_and_not_the_submitting(
    office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = office()
    write = here.root.journal.write

    def full(kind: str, *args: Any, **options: Any) -> int:
        if kind == "job-refused":
            raise JournalError("the disk is full")
        return write(kind, *args, **options)

    monkeypatch.setattr(here.root.journal, "write", full)
    here.scheduler.refusals = [SubmissionRejected("Invalid account")]
    calls = here.take(1, 2)
    for call in calls:
        assert isinstance(here.ended(call), SubmissionRejected)
    here.take(3, of=other)
    here.submitted()


def test_a_submission_that_cannot_be_journalled_is_followed_and_not_called_refused(
    office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = office()
    write = here.root.journal.write

    def full(kind: str, *args: Any, **options: Any) -> int:
        if kind == "job-submitted":
            raise JournalError("the disk is full")
        return write(kind, *args, **options)

    monkeypatch.setattr(here.root.journal, "write", full)
    (call,) = here.take(1)
    (job,) = until(lambda: list(here.scheduler.specs))
    until(lambda: "poll" in here.scheduler.commands)
    here.scheduler.record(job, Ending.WALLTIME, "TIMEOUT")
    assert isinstance(here.ended(call), WalltimeExceeded)


def test_an_array_that_was_collected_before_the_scheduler_told_its_limit_is_cut_there(
    office: Callable[..., Office],
) -> None:
    limits = Limits(submit_burst=100, submit_per_minute=6000)
    here = office(quick_cluster(partitions={}, default_partition=None, limits=limits))
    described = SchedulerInfo("double", "1.0", max_array_size=4, accounting=True)
    here.scheduler.describe = lambda: described  # type: ignore[method-assign]
    calls = here.take(*range(10))
    jobs = here.submitted(3)
    assert [here.scheduler.specs[job].array for job in jobs] == ["0-3", "0-3", "0-1"]
    for job, index, number in ((jobs[0], 3, 3), (jobs[1], 0, 4), (jobs[2], 1, 9)):
        token = here.scheduler.specs[job].token
        play_job(here.tracker, token, index, calls[number], value=number)
        assert calls[number].future.result(120) == number
