"""Submitting when something goes wrong beside it: late cancelling, and a disk that is full."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from job_doubles import play_job, quick_cluster, until
from test_submit import Office, office, other

from hpc_flows.clusters.parts import Limits
from hpc_flows.exceptions import (
    JournalError,
    SchedulerError,
    SchedulerUnavailable,
    SubmissionInDoubt,
    SubmissionRejected,
    SubmissionThrottled,
    WalltimeExceeded,
)
from hpc_flows.jobs import submit
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


def test_sending_again_and_again_without_a_clear_answer_has_an_end(
    office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = office()
    sent: list[str] = []

    def lose_the_answer(*args: Any) -> str:
        sent.append("sbatch")
        if len(sent) == 4:
            monkeypatch.setattr(submit, "LONGEST_HOLD", 0.0)
        raise SubmissionInDoubt("Socket timed out on send/recv operation")

    here.scheduler.submit = lose_the_answer  # type: ignore[method-assign]
    (call,) = here.take(1)
    error = here.ended(call)
    assert isinstance(error, SubmissionInDoubt)
    (token,) = [event.data["token"] for event in here.events("job-intent")]
    assert "sent 4 times" in str(error)
    assert "Socket timed out" in str(error)
    assert f"scancel --name={token}" in str(error)
    said = [event.data["message"] for event in here.events("log")]
    assert len([text for text in said if "gave no clear answer" in text]) == 1


def test_what_never_gets_a_clear_answer_is_sent_ever_more_seldom(
    office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = office()
    monkeypatch.setattr(submit, "backoff", lambda tries: 0.05 * tries)
    times: list[float] = []
    submitting = here.scheduler.submit

    def noted(*args: Any) -> str:
        times.append(time.monotonic())
        return submitting(*args)

    here.scheduler.submit = noted  # type: ignore[method-assign]
    here.scheduler.refusals = [SubmissionInDoubt("timed out")] * 3
    here.take(1)
    here.submitted()
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) == 3
    for number, gap in enumerate(gaps, 1):
        assert gap >= submit.LOOKS * 0.05 * number


def test_a_doubt_that_cannot_be_settled_at_all_ends_with_the_command_that_does(
    office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "LONGEST_HOLD", 0.1)
    here = office()
    here.scheduler.refusals = [(SubmissionInDoubt("timed out"), True)]

    def silent(*args: Any, **options: Any) -> Any:
        raise SchedulerUnavailable("connect failure")

    here.scheduler.find = silent  # type: ignore[method-assign]
    (call,) = here.take(1)
    error = here.ended(call)
    assert isinstance(error, SchedulerUnavailable)
    (token,) = [event.data["token"] for event in here.events("job-intent")]
    assert f"scancel --name={token}" in str(error)


def test_what_the_scheduler_has_clearly_not_taken_is_not_called_doubtful(
    office: Callable[..., Office],
) -> None:
    here = office()
    tried: list[str] = []

    def refuse(*args: Any) -> str:
        tried.append("sbatch")
        raise SubmissionThrottled("no room")

    here.scheduler.submit = refuse  # type: ignore[method-assign]
    here.take(1)
    until(lambda: len(tried) > 1)
    until(lambda: not here.desk.doubtful())
