"""The interface of schedulers, its data, and the rules that every adapter keeps.

An adapter for a command-line scheduler is pairs of pure functions (build the argument list, parse
the output) over a `Transport`. The conformance suite in tests/conformance runs on each of them.

Rules:

* "cannot ask" is `SchedulerUnavailable`, never an empty answer;
* an id that the scheduler does not know is left out of the answer of `poll` and `history`; absence
  means nothing by itself (schedulers forget ended jobs, and accounting is late);
* `submit` raises `SubmissionRejected` for a lasting no, `SubmissionThrottled` for "not now",
  `SubmissionInDoubt` where the job may have been accepted, `SchedulerUnavailable` where it
  certainly was not;
* `cancel` of ended or unknown jobs is silent: cancelling twice is no error;
* no adapter drops a resource: what it cannot say in directives it refuses with `ResourceError`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from hpc_flows.resources import Resources


#: Endings that a scheduler may take back: it queues the job again under the same id, and its
#: accounting shows the old ending for up to two minutes (Slurm 22.05 after a node failure).
_TAKEN_BACK = frozenset({"node", "preempted", "requeued"})


class Phase(Enum):
    """Where a job stands, the same words for all schedulers."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    ENDING = "ending"
    ENDED = "ended"


class Ending(Enum):
    """How the scheduler says that a job ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WALLTIME = "walltime"
    MEMORY = "memory"
    NODE = "node"
    PREEMPTED = "preempted"
    REQUEUED = "requeued"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What a scheduler said about one job or array element at one time.

    Attributes:
        job: id as users write it, `351` or `351_3`; the key of `poll` and `history`.
        name: the job's name, which holds our token; empty while accounting does not know it yet.
        phase: where it stands.
        raw: the scheduler's own word, such as `OUT_OF_MEMORY`.
        ending: how it ended; None while it has not. A job may have an ending and yet run again
            under the same id (requeue): see `restarts` and `submitted`.
        exit_code: the script's exit status, when known.
        signal: the signal that ended the script, when known.
        reason: why it waits or ended, in the scheduler's words.
        nodes: node names as the scheduler prints them, or an empty text.
        partition: partition or queue it is in; may differ from the one that was asked for.
        submitted, started, ended: seconds since 1970, when known.
        restarts: how often it was queued again, when known.
        cancelled_by: user id of who cancelled it, when known.
        max_rss: most memory that was seen in use, in bytes, when known.
        elapsed: seconds that it ran, when known.
        source: `queue` or `history`.
    """

    job: str
    name: str
    phase: Phase
    raw: str
    ending: Ending | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    nodes: str = ""
    partition: str = ""
    submitted: float | None = None
    started: float | None = None
    ended: float | None = None
    restarts: int | None = None
    cancelled_by: int | None = None
    max_rss: int | None = None
    elapsed: float | None = None
    source: str = "queue"

    @property
    def may_run_again(self) -> bool:
        """Whether this ending may be taken back; wait until the queue lets go of the id."""
        return self.ending is not None and self.ending.value in _TAKEN_BACK


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What to ask the scheduler for: one job, or one array of like jobs.

    Attributes:
        token: our unique name of the submission, `[A-Za-z0-9_.-]+`; the job's name.
        resources: what each job or element asks for, already placed on a partition.
        output: path of the file for stdout and stderr, with the scheduler's own patterns
            (`%A`, `%a` for Slurm) filled in by the caller.
        workdir: working directory of the job.
        array: indexes of an array as a text, such as `0-999` or `0-9,12`; None for a plain job.
        throttle: how many elements may run at the same time; None for no limit.
        depends_on: ids of jobs that must end well first.
        requeue: whether the scheduler may run the job again after a node failure or preemption.
        kill_on_invalid_dependency: whether a job that can never start is removed.
    """

    token: str
    resources: Resources
    output: str
    workdir: str
    array: str | None = None
    throttle: int | None = None
    depends_on: tuple[str, ...] = ()
    requeue: bool = True
    kill_on_invalid_dependency: bool = True


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """A partition as the scheduler describes it; None is "no limit" or "not said".

    Memory in bytes, times in seconds.
    """

    name: str
    nodes: int | None = None
    max_walltime: int | None = None
    default_walltime: int | None = None
    min_nodes: int | None = None
    max_nodes: int | None = None
    cpus_per_node: int | None = None
    memory_per_node: int | None = None
    default_memory_per_cpu: int | None = None
    max_memory_per_cpu: int | None = None
    gpus: tuple[str, ...] = ()
    default: bool = False
    up: bool = True


@dataclass(frozen=True, slots=True)
class SchedulerInfo:
    """What a scheduler says about itself.

    Attributes:
        kind: `slurm` or `pbs`.
        version: as printed, such as `22.05.8`.
        cluster: the cluster's own name.
        max_array_size: how many elements one array may have (largest index + 1).
        max_jobs: how many jobs the controller holds.
        forgets_after: seconds after its end that the queue forgets a job.
        accounting: whether `history` can be asked.
        partitions: by name.
    """

    kind: str
    version: str
    cluster: str = ""
    max_array_size: int | None = None
    max_jobs: int | None = None
    forgets_after: float | None = None
    accounting: bool = False
    partitions: dict[str, PartitionInfo] = field(default_factory=dict)


class Scheduler(ABC):
    """A batch system, reached in some way. Methods may be called from several threads."""

    #: `slurm` or `pbs`.
    kind: str

    @abstractmethod
    def directives(self, spec: JobSpec) -> list[str]:
        """Return the script's header lines for a spec, such as `#SBATCH --cpus-per-task=8`.

        Raises:
            ResourceError: the scheduler has no way to say something that is asked for.
        """

    @abstractmethod
    def submit(self, spec: JobSpec, script: str) -> str:
        """Submit the script at a path and return the job's or array's id.

        Raises:
            SubmissionRejected: refused for good.
            SubmissionThrottled: refused for now.
            SubmissionInDoubt: no answer; look the token up with `find` before sending again.
            SchedulerUnavailable: it was certainly not accepted.
        """

    @abstractmethod
    def poll(self, ids: Sequence[str]) -> dict[str, JobStatus]:
        """Return what the queue knows of jobs, arrays and elements, one entry per element.

        An id of an array stands for all its elements (`351` gives `351_0`, `351_1`, ...). Where
        one record is left for all elements that never started (Slurm, once they are cancelled
        together), its key is the array's own id and it stands for each element that has no entry.

        An element that was cancelled alone before it started may leave no trace at all.

        Raises:
            SchedulerUnavailable: the queue cannot be asked.
        """

    @abstractmethod
    def history(self, ids: Sequence[str], names: Collection[str] = ()) -> dict[str, JobStatus]:
        """Return what accounting knows, the last record of each element; keys as in `poll`.

        Args:
            ids: jobs, arrays and elements.
            names: names of the jobs that are meant. Ids are used again: of the records of one,
                the last of these names counts before any other.

        Raises:
            AccountingUnavailable: the site has no accounting, or it is down.
        """

    @abstractmethod
    def find(self, token: str | Sequence[str], since: float | None = None) -> list[JobStatus]:
        """Return all jobs of this user with our token as name, from the queue and from history.

        Args:
            token: the token; or several, which are asked about together.
            since: seconds since 1970; only jobs submitted after it.

        Raises:
            SchedulerUnavailable: the queue cannot be asked (accounting may be missing).
        """

    @abstractmethod
    def cancel(self, ids: Sequence[str], *, token: str | None = None) -> None:
        """Cancel jobs, arrays or elements in one batched call.

        Args:
            ids: ids as `submit` or `poll` gave them.
            token: when given, only jobs of that name are touched, whatever the ids.

        Raises:
            SchedulerUnavailable: the scheduler cannot be asked; nothing is known.
        """

    @abstractmethod
    def describe(self) -> SchedulerInfo:
        """Return limits, version and partitions.

        Raises:
            SchedulerUnavailable: the scheduler cannot be asked.
        """
