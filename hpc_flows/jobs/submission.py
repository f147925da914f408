"""What the driver knows of what it submits: one `Submission` per sbatch, one `Element` per run."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from hpc_flows.jobs.causes import Subject, read_tail
from hpc_flows.jobs.evidence import Facts, Outcome, Patience

if TYPE_CHECKING:
    from hpc_flows.clusters import Cluster
    from hpc_flows.jobs.packing import PayloadFile
    from hpc_flows.jobs.script import Folders
    from hpc_flows.resources import Resources
    from hpc_flows.schedulers.base import JobStatus
    from hpc_flows.states import State
    from hpc_flows.task_runners.base import TaskCall


#: How every token begins.
PREFIX = "hf-"


class Stage(Enum):
    """How far a submission has come."""

    COLLECTING = "collecting"
    WAITING = "waiting"
    IN_DOUBT = "in doubt"
    SUBMITTED = "submitted"
    OVER = "over"


def new_token(run_id: str) -> str:
    """Return a unique name for a submission; it becomes the job's name in the scheduler."""
    return f"{PREFIX}{run_id[:8]}-{os.urandom(4).hex()}"


@dataclass(eq=False, slots=True)
class Element:
    """One task run in a submission.

    Attributes:
        call: the call.
        submission: the submission.
        index: its number in the payload and in the array.
        restart: newest start of its job that has left a journal; -1 before the first.
        offsets: how far the journals of its starts were read, in bytes.
        holes: where in them bytes are missing that a network file system has not shown yet, and
            since when on the monotonic clock.
        marked: starts that have left the mark of a finished job.
        job_seen: id of the job that really runs it, as that job says; may differ from the one
            that we know when a submission was doubled.
        node: where it runs, as the job says.
        final: the final state event of its job, and when it was seen.
        problem: why that event is not believed yet, or None.
        attempt: newest attempt that the job has begun.
        queue, asked, gone_since, ended_since, history, history_asked, cancelled: see
            `evidence.Facts`.
        look_at: when to judge next, in seconds since 1970; None while there is nothing to judge.
        read_at, read_pause: when to read its journal again, and how long to pause after that.
        wants_history: whether accounting should be asked about it.
        over: whether its future is resolved.
    """

    call: TaskCall
    submission: Submission
    index: int
    restart: int = -1
    offsets: dict[int, int] = field(default_factory=dict)
    holes: dict[int, tuple[int, float]] = field(default_factory=dict)
    marked: set[int] = field(default_factory=set)
    job_seen: str = ""
    node: str = ""
    final: tuple[State, dict[str, Any], float] | None = None
    problem: str | None = None
    attempt: int = 0
    queue: JobStatus | None = None
    asked: float | None = None
    gone_since: float | None = None
    ended_since: float | None = None
    history: JobStatus | None = None
    history_asked: float | None = None
    cancelled: str | None = None
    look_at: float | None = None
    read_at: float = 0.0
    read_pause: float = 0.25
    wants_history: bool = False
    over: bool = False

    @property
    def job(self) -> str:
        """Id of its job or array element as users write it; empty while there is none."""
        if self.job_seen:
            return self.job_seen
        job = self.submission.job
        return f"{job}_{self.index}" if job and self.submission.array else job

    @property
    def output(self) -> str:
        """Path of the file with its job's output."""
        return self.submission.folders.output(self.index)

    def subject(self) -> Subject:
        """Return whom a message about it is about."""
        submission = self.submission
        return Subject(
            run=self.call.run.name,
            job=self.job,
            node=self.node,
            requested=submission.resources,
            output=self.output,
            tail=read_tail(self.output),
            python=submission.cluster.python or sys.executable,
            run_dir=submission.folders.run_dir,
            cluster=submission.cluster.name,
            token=submission.token,
        )

    def facts(self, *, reachable: bool, accounting: bool) -> Facts:
        """Return all that is known of it now.

        Args:
            reachable: whether the scheduler answered the newest question.
            accounting: whether accounting can be asked.
        """
        submission, grace = self.submission, self.submission.cluster.grace
        suspect = self.ended_since is not None or self.gone_since is not None
        return Facts(
            token=submission.folders.token,
            now=time.time(),
            submitted=submission.began,
            patience=Patience(grace.file_system, grace.accounting, grace.lost),
            outcome=self._outcome(),
            started=self.restart >= 0,
            queue=self.queue,
            asked=self.asked,
            reachable=reachable,
            gone_since=self.gone_since,
            ended_since=self.ended_since,
            history=self.history,
            history_asked=self.history_asked,
            accounting=accounting,
            cancelled=self.cancelled,
            tail=read_tail(self.output) if suspect and self.final is None else "",
        )

    def _outcome(self) -> Outcome | None:
        if self.final is None:
            return None
        state, data, seen = self.final
        kills = int(data.get("details", {}).get("oom_kills", 0))
        return Outcome(state.type, state.name, state.message, self.problem, seen, kills)


@dataclass(eq=False, slots=True)
class Submission:
    """Runs that are submitted together, as a job or as an array.

    Attributes:
        cluster: where to.
        folders: its files.
        request: what its runs ask for, before placing.
        task: the task's name.
        payload: the payload that is being written.
        elements: its runs.
        resources: what is asked for, complete; `request` until it is placed.
        array: whether it is an array.
        stage: how far it has come.
        prepared: whether its files and its intent are written.
        job: the scheduler's id, once known.
        opened: when it was made, seconds of the monotonic clock; `due`: when to close it.
        began: when its submission began, seconds since 1970.
        tries: how often it was sent, or looked for; `not_before`: when to try again.
        held_since: since when it has been held back, monotonic; None while it is not.
        ended: how many of its runs are over.
        asked: the elements that its script asks for.
        sent: those that were asked for when it was sent.
        doubts: how often sbatch gave no clear answer; `doubt`: what it said the last time.
        looks: how often it was looked for in vain since then.
        told: what the user and the journal have been told about its waiting.
        outputs: ends of its jobs' outputs that the user has been shown, without digits.
    """

    cluster: Cluster
    folders: Folders
    request: Resources
    task: str
    payload: PayloadFile
    elements: list[Element] = field(default_factory=list)
    resources: Resources = None  # type: ignore[assignment]  # set just below
    array: bool = False
    stage: Stage = Stage.COLLECTING
    prepared: bool = False
    job: str = ""
    opened: float = field(default_factory=time.monotonic)
    due: float = 0.0
    began: float = field(default_factory=time.time)
    tries: int = 0
    not_before: float = 0.0
    held_since: float | None = None
    doubts: int = 0
    doubt: str = ""
    looks: int = 0
    ended: int = 0
    asked: frozenset[int] = frozenset()
    sent: frozenset[int] = frozenset()
    told: set[Any] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.resources = self.request

    @property
    def token(self) -> str:
        """Its unique name, which is its jobs' name in the scheduler."""
        return self.folders.token

    @property
    def left(self) -> int:
        """How many of its runs are not over."""
        return len(self.elements) - self.ended

    def alive(self) -> list[Element]:
        """Return the runs whose futures are not resolved."""
        return [element for element in self.elements if not element.over]
