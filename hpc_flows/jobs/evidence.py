"""Joining the two witnesses, the job's own outcome record and the scheduler, into one verdict.

`judge` is a pure function of `Facts`: it asks nobody and waits for nothing. It answers "wait" with
the number of seconds after which to ask again, "ask the history", or "the run has ended, and so".
docs/reference/crash-causes.md holds the same table for users; tests/unit/test_evidence.py has a
case for each line::

    outcome record      scheduler                       verdict
    ------------------  ------------------------------  -----------------------------------------
    valid, completed    anything but killed for memory  Completed
    valid, completed    killed for memory               OutOfMemory (the result may lack a part)
    valid, other        anything                        as the record says
    invalid             anything                        wait for the file system, then JobLost
    none                waits, runs, is ending          wait
    none                waits for what never comes      Rejected, and the job is withdrawn
    none                ended                           wait for the file system, then the cause
    none                ended by node, preempted or     wait until the queue has let go of it: the
                        requeued, in history only       same id may run again
    none                ended, but we cancelled         Cancelled
    none                gone; history not asked         ask the history
    none                gone; history says nothing      wait for accounting, then JobLost
    none                never seen                      wait, then ask the history, then JobLost
    none                cannot be asked                 wait: it says nothing about any job
    none                answers about another job of    as if it had not answered
                        the same id
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from hpc_flows.jobs.reasons import Outlook, outlook
from hpc_flows.schedulers.base import Ending, Phase
from hpc_flows.states import StateType

if TYPE_CHECKING:
    from hpc_flows.schedulers.base import JobStatus

#: Seconds to wait for a record after an ending that seldom leaves one; the file system's grace
#: counts when it is shorter.
SHORT_GRACE = 10.0
#: Seconds by which clocks of different machines may differ when submit times are compared.
CLOCK_SKEW = 300.0
#: Exit statuses after which an outcome record is to be expected: completed and failed runs.
_OWN_EXITS = (0, 3)
#: Endings after which the scheduler may run the same id again.
_MAY_RETURN = (Ending.NODE, Ending.PREEMPTED, Ending.REQUEUED)

_CAUSES = {
    Ending.WALLTIME: "WalltimeExceeded",
    Ending.MEMORY: "OutOfMemory",
    Ending.NODE: "NodeFailed",
    Ending.PREEMPTED: "Preempted",
    Ending.REQUEUED: "JobLost",
    Ending.CANCELLED: "CancelledByScheduler",
}

#: What Slurm writes into a job's output, and what it means; the only witness of a cause where the
#: site keeps no history. The memory lines stand first: such a job is cancelled as well.
_OUTPUT_SAYS = (
    ("oom-kill event", "OutOfMemory"),
    ("exceeded memory limit", "OutOfMemory"),
    ("DUE TO TIME LIMIT", "WalltimeExceeded"),
    ("DUE TO PREEMPTION", "Preempted"),
    ("DUE TO NODE FAILURE", "NodeFailed"),
    ("DUE TO JOB REQUEUE", "Preempted"),
    (" CANCELLED AT ", "CancelledByScheduler"),
)


class Decision(Enum):
    """What to do now."""

    WAIT = "wait"
    ASK_HISTORY = "ask history"
    END = "end"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The final record that a job left in its journal.

    Attributes:
        type, name, message: the state that it claims.
        problem: what is wrong with its result (missing, cut, wrong signature), or None.
        seen: when the record was first seen, in seconds of the driver's clock.
        oom_kills: how many of the job's processes the kernel killed for memory.
    """

    type: StateType
    name: str
    message: str | None = None
    problem: str | None = None
    seen: float = 0.0
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds; the cluster's `grace`."""

    file_system: float = 120.0
    accounting: float = 120.0
    lost: float = 300.0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one task run's job at one time; times in seconds since 1970.

    Attributes:
        token: the job's name, which we made up.
        now: the time.
        submitted: when its submission began.
        patience: how long to wait for what.
        outcome: the final record in the job's journal, or None.
        started: whether the job's journal says that it started.
        queue: the queue's newest word on it, or None when it had none.
        asked: when the queue last answered a question about it; None when it never has.
        reachable: whether the newest question to the queue was answered at all.
        gone_since: when the queue first had no word on it, the last time that this began.
        ended_since: when any witness first said that it ended.
        history: accounting's word on it, or None when it had none.
        history_asked: when accounting last answered a question about it; None when it never has.
        accounting: False where accounting cannot be asked.
        cancelled: why we cancelled it, or None.
        tail: the end of the job's output.
    """

    token: str
    now: float
    submitted: float
    patience: Patience = field(default_factory=Patience)
    outcome: Outcome | None = None
    started: bool = False
    queue: JobStatus | None = None
    asked: float | None = None
    reachable: bool = True
    gone_since: float | None = None
    ended_since: float | None = None
    history: JobStatus | None = None
    history_asked: float | None = None
    accounting: bool = True
    cancelled: str | None = None
    tail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer.

    Attributes:
        decision: what to do.
        seconds: after which to judge again, for WAIT.
        waiting_for: in words, what is waited for.
        type: type of the final state, for END; None takes the outcome record as it is.
        cause: name of the final state.
        clue: what tells the cause apart from others of its name, for the message.
        status: the scheduler's word on which the verdict rests.
        warning: what the user should know while waiting.
    """

    decision: Decision
    seconds: float = 0.0
    waiting_for: str = ""
    type: StateType | None = None
    cause: str = ""
    clue: str = ""
    status: JobStatus | None = None
    warning: str = ""


def judge(facts: Facts) -> Verdict:
    """Return what the facts amount to; see the module's table."""
    token, submitted = facts.token, facts.submitted
    facts = replace(
        facts,
        queue=ours(facts.queue, token, submitted),
        history=ours(facts.history, token, submitted),
    )
    if facts.outcome is not None:
        return _with_outcome(facts, facts.outcome)
    if facts.queue is not None and facts.queue.phase is not Phase.ENDED:
        return _alive(facts, facts.queue)
    status = _last_word(facts)
    if status is not None and status.phase is Phase.ENDED:
        return _ended(facts, status)
    return _unknown(facts)


def ours(status: JobStatus | None, token: str, submitted: float) -> JobStatus | None:
    """Return a scheduler's word, or None when it is about another job of the same id.

    Ids are used again: after a controller lost its state, and when they run over.

    Args:
        status: the word, or None.
        token: the name of our job.
        submitted: when our submission began.
    """
    if status is None or status.name != token:
        return None
    too_old = status.submitted is not None and status.submitted < submitted - CLOCK_SKEW
    return None if too_old else status


def _last_word(facts: Facts) -> JobStatus | None:
    """Choose between an ended job's record in the queue and the one in history."""
    queue, history = facts.queue, facts.history
    if queue is None or history is None:
        return queue or history
    # Accounting lags: it may still say RUNNING. It alone knows used memory and who cancelled.
    return history if history.phase is Phase.ENDED and history.ending is queue.ending else queue


def _end(type_: StateType, cause: str, clue: str = "", status: JobStatus | None = None) -> Verdict:
    return Verdict(Decision.END, type=type_, cause=cause, clue=clue, status=status)


def _wait(seconds: float, waiting_for: str, warning: str = "") -> Verdict:
    return Verdict(Decision.WAIT, max(seconds, 0.05), waiting_for, warning=warning)


def _with_outcome(facts: Facts, outcome: Outcome) -> Verdict:
    killed = facts.queue or facts.history
    if outcome.problem is not None:
        left = outcome.seen + facts.patience.file_system - facts.now
        if left > 0:
            return _wait(min(left, 1.0), f"the result file: {outcome.problem}")
        return _end(StateType.CRASHED, "JobLost", f"result: {outcome.problem}", killed)
    if outcome.type is StateType.COMPLETED and _killed_for_memory(facts, outcome):
        return _end(StateType.CRASHED, "OutOfMemory", "contradicted", killed)
    return Verdict(Decision.END, cause=outcome.name, status=killed)


def _killed_for_memory(facts: Facts, outcome: Outcome) -> bool:
    said = any(
        status is not None and status.ending is Ending.MEMORY
        for status in (facts.queue, facts.history)
    )
    return said or outcome.oom_kills > 0


def _alive(facts: Facts, queue: JobStatus) -> Verdict:
    view = outlook(queue.reason) if queue.phase is Phase.QUEUED else None
    if view is not None and view.kind is Outlook.NEVER and facts.cancelled is None:
        return _end(StateType.FAILED, "Rejected", view.words, queue)
    warning = view.words if view is not None and view.kind is Outlook.HELD else ""
    return _wait(60.0, f"the job, which is {queue.raw}", warning)


def _ended(facts: Facts, status: JobStatus) -> Verdict:
    if status.ending in _MAY_RETURN and facts.queue is None and facts.gone_since is None:
        return _wait(5.0, "the queue to say whether the job runs again")
    known = (facts.ended_since, facts.gone_since)
    since = next((time for time in known if time is not None), facts.now)
    left = since + _grace(facts, status) - facts.now
    if left > 0:
        return _wait(min(left, 1.0), "the job's outcome record")
    if _wants_history(facts, status, since):
        return Verdict(Decision.ASK_HISTORY, 1.0, "accounting", status=status)
    if facts.cancelled is not None and status.ending in (Ending.CANCELLED, Ending.FAILED):
        return _end(StateType.CANCELLED, "Cancelled", facts.cancelled, status)
    cause, clue = _cause(facts, status)
    return _end(StateType.CRASHED, cause, clue, status)


def _grace(facts: Facts, status: JobStatus) -> float:
    """Return how long a record may still be on its way; short where none is to be expected."""
    usual = status.ending in (Ending.COMPLETED, Ending.FAILED) and not status.signal
    full = facts.patience.file_system
    return full if usual and status.exit_code in _OWN_EXITS else min(full, SHORT_GRACE)


def _wants_history(facts: Facts, status: JobStatus, since: float) -> bool:
    """Tell whether accounting could add the cause, who cancelled, or the memory used."""
    if not facts.accounting:
        return False
    asked_since = facts.history_asked is not None and facts.history_asked >= since
    if (asked_since or status.source == "history") and _told(facts, status):
        return False
    longest = facts.patience.accounting
    if asked_since:
        # It answers, and its word of the end may be on its way; this is no reason to wait long.
        longest = min(longest, _grace(facts, status) + SHORT_GRACE)
    return facts.now <= since + longest


def _told(facts: Facts, status: JobStatus) -> bool:
    """Tell whether accounting has said all that it will say of an ending.

    Slurm records a job that ends within seconds of its start in two steps: first its beginning,
    whose state is CANCELLED by then, and only with its end the user who cancelled it.
    """
    told = facts.history
    if told is None or told.phase is not Phase.ENDED:
        return False
    by_others = status.ending is Ending.CANCELLED and facts.cancelled is None
    return not by_others or told.cancelled_by is not None


def _cause(facts: Facts, status: JobStatus) -> tuple[str, str]:
    """Name the cause of an ending without an outcome record, and what tells it apart."""
    ending = status.ending or Ending.OTHER
    said = output_says(facts.tail)
    if ending in _CAUSES:
        # A job that is killed for memory by a site's own watcher is cancelled as well.
        memory = said == "OutOfMemory" and ending is Ending.CANCELLED
        return ("OutOfMemory", "output") if memory else (_CAUSES[ending], status.raw)
    if said is not None and said != "CancelledByScheduler":
        return said, "output"
    return "JobLost", _how_it_ended(status)


def _how_it_ended(status: JobStatus) -> str:
    if status.signal == 53:  # noqa: PLR2004 - what Slurm says when it cannot open the output
        return "no output"
    if status.signal:
        return f"signal {status.signal}"
    if status.exit_code is None:
        return status.raw
    if status.exit_code > 128:  # noqa: PLR2004 - how shells report a child's signal
        return f"signal {status.exit_code - 128}"
    return f"exit {status.exit_code}"


def output_says(tail: str) -> str | None:
    """Return the cause that the scheduler wrote into the job's output, or None."""
    return next((cause for words, cause in _OUTPUT_SAYS if words in tail), None)


def _unknown(facts: Facts) -> Verdict:
    """Judge a job on which no witness has a word that counts."""
    if facts.asked is None or not facts.reachable:
        return _wait(30.0, "the scheduler to answer")
    since = facts.gone_since if facts.gone_since is not None else facts.asked
    fresh = facts.submitted + 2.0 - facts.now
    if fresh > 0:
        return _wait(fresh, "the scheduler to know the job")
    if facts.accounting and (facts.history_asked is None or facts.history_asked < since):
        return Verdict(Decision.ASK_HISTORY, 1.0, "accounting")
    patience = facts.patience.lost if facts.history is not None else _silence(facts)
    left = since + patience - facts.now
    if left > 0:
        again = Decision.ASK_HISTORY if facts.accounting else Decision.WAIT
        return Verdict(again, min(max(left, 0.05), 5.0), "word of the job")
    if facts.cancelled is not None:
        return _end(StateType.CANCELLED, "Cancelled", facts.cancelled)
    said = output_says(facts.tail)
    return _end(StateType.CRASHED, said or "JobLost", "output" if said else "vanished")


def _silence(facts: Facts) -> float:
    """Return how long to wait for a job that neither queue nor accounting knows."""
    if facts.cancelled is not None or (facts.tail and output_says(facts.tail)):
        return min(facts.patience.file_system, SHORT_GRACE)
    if facts.accounting:
        return max(facts.patience.accounting, facts.patience.file_system)
    # Without accounting the queue's forgetting is the only sign there will ever be.
    return max(facts.patience.file_system, facts.patience.lost if not facts.started else 0.0)


def describe(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as JSON-safe facts, for the journal."""
    return {
        name: value
        for name, value in (
            ("decision", verdict.decision.value),
            ("cause", verdict.cause),
            ("clue", verdict.clue),
            ("raw", verdict.status.raw if verdict.status else ""),
        )
        if value
    }
