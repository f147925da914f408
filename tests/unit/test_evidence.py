"""Each line of the decision table of jobs/evidence.py, and what stands between its lines."""

from __future__ import annotations

from typing import Any

import pytest

from hpc_flows.jobs.evidence import (
    Decision,
    Facts,
    Outcome,
    Patience,
    Verdict,
    judge,
    output_says,
)
from hpc_flows.schedulers.base import Ending, JobStatus, Phase
from hpc_flows.states import StateType

NOW = 1_795_000_000.0
TOKEN = "hf-1b4e28ba-7c9a10d2"  # noqa: S105 - the name of a submission
PATIENCE = Patience(file_system=120.0, accounting=60.0, lost=300.0)


def status(phase: Phase = Phase.RUNNING, raw: str = "RUNNING", **more: Any) -> JobStatus:
    return JobStatus("351_3", more.pop("name", TOKEN), phase, raw, **more)


def ended(ending: Ending, raw: str, **more: Any) -> JobStatus:
    return status(Phase.ENDED, raw, ending=ending, **more)


def facts(**known: Any) -> Facts:
    usual: dict[str, Any] = {
        "token": TOKEN,
        "now": NOW,
        "submitted": NOW - 600,
        "patience": PATIENCE,
        "asked": NOW - 1,
    }
    return Facts(**{**usual, **known})


def completed(**more: Any) -> Outcome:
    return Outcome(StateType.COMPLETED, "Completed", seen=NOW - 1, **more)


def ends_as(verdict: Verdict) -> tuple[StateType | None, str]:
    assert verdict.decision is Decision.END
    return verdict.type, verdict.cause


# An outcome record is there -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "queue",
    [
        None,
        status(),
        status(Phase.ENDING, "COMPLETING"),
        ended(Ending.COMPLETED, "COMPLETED", exit_code=0),
        ended(Ending.CANCELLED, "CANCELLED"),
        ended(Ending.NODE, "NODE_FAIL"),
    ],
)
def test_a_valid_outcome_counts_whatever_the_scheduler_says_of_the_end(
    queue: JobStatus | None,
) -> None:
    assert ends_as(judge(facts(outcome=completed(), queue=queue))) == (None, "Completed")


def test_a_completed_task_whose_job_was_killed_for_memory_is_out_of_memory() -> None:
    killed = ended(Ending.MEMORY, "OUT_OF_MEMORY", exit_code=0)
    verdict = judge(facts(outcome=completed(), queue=killed))
    assert ends_as(verdict) == (StateType.CRASHED, "OutOfMemory")
    assert verdict.clue == "contradicted"


def test_the_jobs_own_count_of_memory_kills_contradicts_it_too() -> None:
    verdict = judge(facts(outcome=completed(oom_kills=1)))
    assert ends_as(verdict) == (StateType.CRASHED, "OutOfMemory")


def test_a_failed_task_stays_failed_when_a_process_of_it_was_killed_for_memory() -> None:
    outcome = Outcome(StateType.FAILED, "Failed", "ValueError: x", seen=NOW, oom_kills=1)
    assert ends_as(judge(facts(outcome=outcome))) == (None, "Failed")


def test_a_result_that_is_not_visible_yet_is_waited_for() -> None:
    verdict = judge(facts(outcome=completed(problem="results/x is not there")))
    assert verdict.decision is Decision.WAIT
    assert "results/x" in verdict.waiting_for


def test_a_result_that_never_appears_is_lost_and_the_wait_has_an_end() -> None:
    outcome = Outcome(StateType.COMPLETED, "Completed", problem="gone", seen=NOW - 121)
    verdict = judge(facts(outcome=outcome))
    assert ends_as(verdict) == (StateType.CRASHED, "JobLost")
    assert "gone" in verdict.clue


# The job lives ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phase", [Phase.QUEUED, Phase.STARTING, Phase.RUNNING, Phase.SUSPENDED, Phase.ENDING]
)
def test_a_job_that_has_not_ended_is_waited_for(phase: Phase) -> None:
    assert judge(facts(queue=status(phase, phase.value.upper()))).decision is Decision.WAIT


def test_accounting_that_says_failed_while_the_queue_says_pending_is_not_believed() -> None:
    verdict = judge(
        facts(
            queue=status(Phase.QUEUED, "PENDING", reason="BeginTime"),
            history=ended(Ending.NODE, "NODE_FAIL", source="history"),
            ended_since=NOW - 500,
        )
    )
    assert verdict.decision is Decision.WAIT


def test_an_end_of_which_only_the_queues_silence_has_a_time_is_waited_for_no_longer() -> None:
    history = ended(Ending.NODE, "NODE_FAIL", source="history")
    gone = facts(gone_since=NOW - 1000, history=history, history_asked=NOW - 1)
    assert ends_as(judge(gone)) == (StateType.CRASHED, "NodeFailed")


@pytest.mark.parametrize(
    "reason",
    ["JobHeldUser", "PartitionDown", "AssocGrpCPUMinutesLimit", "PartitionNodeLimit"],
)
def test_a_job_that_only_a_person_can_let_go_waits_with_a_warning(reason: str) -> None:
    verdict = judge(facts(queue=status(Phase.QUEUED, "PENDING", reason=reason)))
    assert verdict.decision is Decision.WAIT
    assert reason in verdict.warning


@pytest.mark.parametrize("reason", ["Resources", "Priority", "None", "QOSMaxJobsPerUserLimit", ""])
def test_a_job_that_waits_its_turn_waits_without_a_warning(reason: str) -> None:
    verdict = judge(facts(queue=status(Phase.QUEUED, "PENDING", reason=reason)))
    assert verdict.decision is Decision.WAIT
    assert not verdict.warning


@pytest.mark.parametrize(
    "reason", ["DependencyNeverSatisfied", "QOSMaxWallDurationPerJobLimit", "PartitionTimeLimit"]
)
def test_a_job_that_can_never_start_is_rejected(reason: str) -> None:
    verdict = judge(facts(queue=status(Phase.QUEUED, "PENDING", reason=reason)))
    assert ends_as(verdict) == (StateType.FAILED, "Rejected")
    assert reason in verdict.clue


# The job has ended without an outcome -------------------------------------------------------------

ENDINGS = [
    (Ending.WALLTIME, "TIMEOUT", "WalltimeExceeded"),
    (Ending.MEMORY, "OUT_OF_MEMORY", "OutOfMemory"),
    (Ending.NODE, "NODE_FAIL", "NodeFailed"),
    (Ending.PREEMPTED, "PREEMPTED", "Preempted"),
    (Ending.CANCELLED, "CANCELLED", "CancelledByScheduler"),
]


@pytest.mark.parametrize(("ending", "raw", "cause"), ENDINGS)
def test_an_ending_gives_the_cause_once_the_record_had_its_time(
    ending: Ending, raw: str, cause: str
) -> None:
    by = 1001 if ending is Ending.CANCELLED else None
    word = ended(ending, raw, source="history", cancelled_by=by)
    waiting = judge(facts(history=word, gone_since=NOW - 5, ended_since=NOW - 5))
    assert waiting.decision is Decision.WAIT
    verdict = judge(facts(history=word, gone_since=NOW - 30, ended_since=NOW - 11))
    assert ends_as(verdict) == (StateType.CRASHED, cause)


@pytest.mark.parametrize("ending", [Ending.NODE, Ending.PREEMPTED, Ending.REQUEUED])
def test_an_ending_that_may_be_taken_back_waits_for_the_queue_to_let_go(ending: Ending) -> None:
    word = ended(ending, ending.name, source="history")
    verdict = judge(facts(history=word, ended_since=NOW - 500))
    assert verdict.decision is Decision.WAIT


def test_a_normal_end_waits_for_the_file_system_as_long_as_the_profile_says() -> None:
    word = ended(Ending.COMPLETED, "COMPLETED", exit_code=0, source="history")
    assert judge(facts(history=word, ended_since=NOW - 119)).decision is Decision.WAIT
    verdict = judge(facts(history=word, ended_since=NOW - 121))
    assert ends_as(verdict) == (StateType.CRASHED, "JobLost")
    assert verdict.clue == "exit 0"


@pytest.mark.parametrize(
    ("word", "clue"),
    [
        ({"exit_code": 127}, "exit 127"),
        ({"exit_code": 0, "signal": 11}, "signal 11"),
        ({"exit_code": 137}, "signal 9"),
        ({"exit_code": 0, "signal": 53}, "no output"),
        ({}, "FAILED"),
    ],
)
def test_a_script_that_failed_by_itself_is_lost_with_a_clue(
    word: dict[str, int], clue: str
) -> None:
    failed = ended(Ending.FAILED, "FAILED", source="history", **word)
    verdict = judge(facts(history=failed, ended_since=NOW - 130))
    assert ends_as(verdict) == (StateType.CRASHED, "JobLost")
    assert verdict.clue == clue


def test_an_end_seen_in_the_queue_alone_asks_accounting_for_the_rest() -> None:
    killed = ended(Ending.CANCELLED, "CANCELLED")
    verdict = judge(facts(queue=killed, ended_since=NOW - 15))
    assert verdict.decision is Decision.ASK_HISTORY


def test_without_accounting_an_end_seen_in_the_queue_is_enough() -> None:
    killed = ended(Ending.CANCELLED, "CANCELLED")
    verdict = judge(facts(queue=killed, ended_since=NOW - 15, accounting=False))
    assert ends_as(verdict) == (StateType.CRASHED, "CancelledByScheduler")


def test_accounting_that_stays_silent_does_not_hold_up_the_verdict_for_ever() -> None:
    killed = ended(Ending.WALLTIME, "TIMEOUT")
    verdict = judge(facts(queue=killed, ended_since=NOW - 200, history_asked=NOW - 300))
    assert ends_as(verdict) == (StateType.CRASHED, "WalltimeExceeded")


def test_accounting_that_has_not_heard_of_the_end_is_asked_again_for_a_while() -> None:
    """Who cancelled, and the memory used, it alone knows."""
    killed = ended(Ending.CANCELLED, "CANCELLED")
    running = status(Phase.RUNNING, source="history")
    asked: dict[str, Any] = {"queue": killed, "history_asked": NOW, "history": running}
    assert judge(facts(ended_since=NOW - 15, **asked)).decision is Decision.ASK_HISTORY
    assert judge(facts(ended_since=NOW - 25, **asked)).cause == "CancelledByScheduler"
    word = ended(Ending.CANCELLED, "CANCELLED", source="history", cancelled_by=1001)
    heard = {**asked, "history": word}
    assert judge(facts(ended_since=NOW - 15, **heard)).cause == "CancelledByScheduler"


@pytest.mark.parametrize("queue", [ended(Ending.CANCELLED, "CANCELLED"), None])
def test_accounting_that_has_heard_only_half_of_a_cancellation_is_asked_again(
    queue: JobStatus | None,
) -> None:
    """The record of a job's beginning may say CANCELLED already; who did it comes with its end."""
    half = ended(Ending.CANCELLED, "CANCELLED", source="history")
    asked: dict[str, Any] = {"queue": queue, "history_asked": NOW, "gone_since": NOW - 15}
    known = {**asked, "history": half}
    assert judge(facts(ended_since=NOW - 15, **known)).decision is Decision.ASK_HISTORY
    verdict = judge(facts(ended_since=NOW - 25, **known))
    assert ends_as(verdict) == (StateType.CRASHED, "CancelledByScheduler")
    ours = judge(facts(ended_since=NOW - 15, cancelled="by alice", **known))
    assert ends_as(ours) == (StateType.CANCELLED, "Cancelled")


def test_what_slurm_wrote_into_the_output_tells_memory_from_a_plain_kill() -> None:
    failed = ended(Ending.FAILED, "FAILED", signal=9, source="history")
    tail = "slurmstepd: error: StepId=1.batch exceeded memory limit (3 > 1), being killed"
    verdict = judge(facts(history=failed, ended_since=NOW - 15, tail=tail))
    assert ends_as(verdict) == (StateType.CRASHED, "OutOfMemory")


def test_what_we_cancelled_is_cancelled_and_not_crashed() -> None:
    word = ended(Ending.CANCELLED, "CANCELLED", source="history")
    verdict = judge(facts(history=word, ended_since=NOW - 15, cancelled="by alice"))
    assert ends_as(verdict) == (StateType.CANCELLED, "Cancelled")


# No witness ---------------------------------------------------------------------------------------


def test_a_scheduler_that_cannot_be_asked_decides_nothing_for_however_long() -> None:
    long_ago = NOW - 1e6
    verdict = judge(facts(asked=long_ago, gone_since=long_ago, reachable=False))
    assert verdict.decision is Decision.WAIT
    assert judge(facts(asked=None, submitted=long_ago)).decision is Decision.WAIT


def test_a_job_that_was_just_submitted_may_be_unknown() -> None:
    verdict = judge(facts(submitted=NOW - 1, gone_since=NOW))
    assert verdict.decision is Decision.WAIT


def test_a_job_that_left_the_queue_is_looked_for_in_accounting() -> None:
    verdict = judge(facts(gone_since=NOW - 1))
    assert verdict.decision is Decision.ASK_HISTORY


def test_a_job_that_nobody_knows_is_lost_after_a_bounded_wait() -> None:
    known = {"gone_since": NOW - 100, "history_asked": NOW - 1}
    assert judge(facts(**known)).decision is Decision.ASK_HISTORY
    verdict = judge(facts(**{**known, "gone_since": NOW - 121}))
    assert ends_as(verdict) == (StateType.CRASHED, "JobLost")
    assert verdict.clue == "vanished"


def test_accounting_that_lags_behind_the_queue_is_given_longer() -> None:
    lagging = status(source="history")
    known = {"gone_since": NOW - 200, "history": lagging, "history_asked": NOW - 1}
    assert judge(facts(**known)).decision is Decision.ASK_HISTORY
    known["gone_since"] = NOW - 301
    assert ends_as(judge(facts(**known)))[1] == "JobLost"


def test_without_accounting_a_vanished_job_ends_by_what_its_output_says() -> None:
    tail = "slurmstepd: error: *** JOB 1 ON c1 CANCELLED AT 2026-11-21T06:42:57 DUE TO TIME LIMIT"
    verdict = judge(facts(gone_since=NOW - 11, accounting=False, started=True, tail=tail))
    assert ends_as(verdict) == (StateType.CRASHED, "WalltimeExceeded")


def test_without_accounting_a_vanished_job_that_never_started_is_given_longer() -> None:
    known = {"gone_since": NOW - 130, "accounting": False}
    assert judge(facts(started=True, **known)).decision is Decision.END
    assert judge(facts(started=False, **known)).decision is Decision.WAIT
    known["gone_since"] = NOW - 301
    assert judge(facts(started=False, **known)).decision is Decision.END


def test_a_vanished_job_that_we_cancelled_is_cancelled() -> None:
    verdict = judge(facts(gone_since=NOW - 11, history_asked=NOW, cancelled="by alice"))
    assert ends_as(verdict) == (StateType.CANCELLED, "Cancelled")


# Ids that are used again --------------------------------------------------------------------------


def test_another_job_of_the_same_id_is_no_witness() -> None:
    stranger = ended(Ending.FAILED, "FAILED", name="somebody-elses", exit_code=1)
    verdict = judge(facts(queue=stranger, ended_since=NOW - 500, gone_since=NOW - 1))
    assert verdict.decision is Decision.ASK_HISTORY


def test_an_older_job_of_the_same_id_and_name_is_no_witness() -> None:
    old = ended(Ending.FAILED, "FAILED", submitted=NOW - 90_000, source="history")
    verdict = judge(facts(history=old, history_asked=NOW, gone_since=NOW - 1))
    assert verdict.decision is Decision.ASK_HISTORY


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("*** JOB 9 ON c1 CANCELLED AT 2026-11-21T06:42:57 ***", "CancelledByScheduler"),
        ("*** JOB 9 ON c1 CANCELLED AT 2026-11-21T06:42 DUE TO PREEMPTION ***", "Preempted"),
        ("error: Detected 1 oom-kill event(s) in StepId=1.batch.", "OutOfMemory"),
        ("all is well", None),
    ],
)
def test_slurms_own_lines_in_the_output_are_understood(text: str, cause: str | None) -> None:
    assert output_says(f"line\n{text}\n") == cause


def test_every_wait_has_an_end_whatever_is_known() -> None:
    """Follow time until nothing is waited for, with each set of facts that can be asked."""
    words = [None, *(ended(ending, raw, source="history") for ending, raw, _ in ENDINGS)]
    words.append(status(source="history"))
    for history in words:
        for accounting in (True, False):
            late = NOW + 3600
            verdict = judge(
                facts(
                    now=late,
                    asked=late,
                    gone_since=NOW,
                    ended_since=None if history is None else NOW,
                    history=history,
                    history_asked=late,
                    accounting=accounting,
                )
            )
            assert verdict.decision is Decision.END
