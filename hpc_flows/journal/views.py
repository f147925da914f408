"""What is known of flow runs, task runs and jobs after some events of their run.

Each view takes events in any order and any number of times: what it shows depends only on which
events it has seen. Within one attempt the stage of a state decides, not the clock, because the
clocks of nodes differ: Running comes after Pending, and a final state after both. Of two final
states the driver's counts, which has heard both witnesses, the job and the scheduler; of two by
the same kind of writer the earlier. Only RolledBack follows a final state: a run that had completed
was undone with its transaction. A later attempt comes after every state of an earlier one.
"""

from __future__ import annotations

from bisect import insort
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from hpc_flows.journal.event import is_driver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.journal.event import Event

_FINAL = 5
_TOLD_BY_JOB = 6
_UNDONE = 7
_BETWEEN = 3
_STAGES = {
    "SCHEDULED": 0,
    "PENDING": 1,
    "RUNNING": 2,
    "PAUSED": 2,
    # 3 ends what an attempt does by itself, and another one follows: AwaitingRetry, and the
    # InfrastructurePending of a job that the scheduler has queued again.
    "CANCELLING": 4,
    "COMPLETED": _FINAL,
    "FAILED": _FINAL,
    "CANCELLED": _FINAL,
    "CRASHED": _FINAL,
}


class Change(NamedTuple):
    """A state that a run went into; they sort as they count."""

    attempt: int
    stage: int
    wall: float
    writer: str
    seq: int
    type: str
    name: str
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> Change:
        """Return the change that an event of kind `state` tells of.

        Raises:
            KeyError, TypeError, ValueError: the event lacks something, or says nonsense.
        """
        data = event.data
        type_, name = data["type"], data["name"]
        stage = _STAGES[type_]
        if stage < _BETWEEN and (name == "AwaitingRetry" or _is_requeued(data)):
            stage = _BETWEEN
        if stage == _FINAL and name == "RolledBack":
            stage = _UNDONE
        elif stage == _FINAL and not is_driver(event.writer):
            stage = _TOLD_BY_JOB
        # Before its first start a run has counted no attempt; its first one is on its way.
        attempt = max(1, int(data.get("attempt") or 0))
        return cls(attempt, stage, event.wall, event.writer, event.seq, type_, str(name), data)


class StatefulView:
    """A run that goes through states.

    Attributes:
        id: of the run.
        name: of the run, or an empty text before its beginning was seen.
        tags: of the run.
        unheard: how many final states do not count, because another one of the same attempt
            does: an outcome of a job that had been given up, or that the scheduler contradicts.
    """

    __slots__ = ("_changes", "_made", "id", "name", "tags", "unheard")

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.name = ""
        self.tags: tuple[str, ...] = ()
        self.unheard = 0
        self._made: tuple[float, str, int] | None = None
        self._changes: list[Change] = []

    def begin(self, event: Event) -> None:
        """Take what the event says that made the run; of several the earliest counts."""
        if self._made is None or event.order < self._made:
            self._describe(event.data)
            self._made = event.order

    def change(self, event: Event) -> None:
        """Take a state."""
        change = Change.of(event)
        insort(self._changes, change, key=_order)
        if _FINAL <= change.stage < _UNDONE:
            same = (c for c in self._changes if c.attempt == change.attempt)
            self.unheard += sum(_FINAL <= c.stage < _UNDONE for c in same) > 1

    def _describe(self, data: dict[str, Any]) -> None:
        self.name = str(data.get("name", ""))
        self.tags = tuple(data.get("tags") or ())

    @property
    def state(self) -> Change | None:
        """The state that the run is in, or None if it has none yet."""
        if not self._changes:
            return None
        last = self._changes[-1]
        if last.stage < _FINAL or last.stage == _UNDONE:
            return last
        same = (c for c in self._changes if c.attempt == last.attempt and c.stage >= _FINAL)
        return next(same)

    @property
    def state_type(self) -> str | None:
        """One of the nine types, such as `RUNNING`."""
        return self.state.type if self.state else None

    @property
    def state_name(self) -> str | None:
        """The finer name, such as `Retrying` or `OutOfMemory`."""
        return self.state.name if self.state else None

    @property
    def message(self) -> str | None:
        """What the state says to people."""
        return self.state.data.get("message") if self.state else None

    @property
    def details(self) -> dict[str, Any]:
        """The facts of the state."""
        return (self.state.data.get("details") or {}) if self.state else {}

    @property
    def result(self) -> dict[str, Any] | None:
        """The reference to the result of a final state, for `RunResults.load`."""
        return self.state.data.get("result") if self.state else None

    @property
    def attempt(self) -> int:
        """Number of the newest attempt, from 1."""
        return self.state.attempt if self.state else 1

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self.state is not None and self.state.stage >= _FINAL

    @property
    def history(self) -> list[tuple[float, str, str]]:
        """The states that counted, as (wall, type, name), in their order.

        Times never decrease: what a node's clock puts before what led to it is moved up to that.
        """
        return [(wall, change.type, change.name) for wall, change in self._counted()]

    @property
    def created(self) -> float | None:
        """When the run was made, in seconds since 1970."""
        if self._made is not None:
            return self._made[0]
        return min((c.wall for c in self._changes), default=None)

    @property
    def started(self) -> float | None:
        """When the newest attempt that has started did."""
        starts = {c.attempt: wall for wall, c in reversed(self._counted()) if c.type == "RUNNING"}
        return starts[max(starts)] if starts else None

    @property
    def ended(self) -> float | None:
        """When the run ended, or None."""
        return self._counted()[-1][0] if self.is_final else None

    def known(self, name: str) -> Any:
        """Return the newest value that a detail of this name had in any state, or None."""
        for _, change in reversed(self._counted()):
            details = change.data.get("details")
            if isinstance(details, dict) and details.get(name) is not None:
                return details[name]
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, JSON-safe."""
        return {
            "id": self.id,
            "name": self.name,
            "tags": list(self.tags),
            "state_type": self.state_type,
            "state_name": self.state_name,
            "message": self.message,
            "details": self.details,
            "attempt": self.attempt,
            "created": self.created,
            "started": self.started,
            "ended": self.ended,
            "history": [list(entry) for entry in self.history],
        }

    def _counted(self) -> list[tuple[float, Change]]:
        counted: list[tuple[float, Change]] = []
        wall = 0.0
        for change in self._first_finals():
            wall = max(wall, change.wall)
            counted.append((wall, change))
        return counted

    def _first_finals(self) -> Iterator[Change]:
        for _, attempt in groupby(self._changes, key=lambda change: change.attempt):
            has_ended = False
            for change in attempt:
                if not has_ended or change.stage == _UNDONE:
                    yield change
                has_ended = has_ended or change.stage >= _FINAL


class FlowRunView(StatefulView):
    """A flow run.

    Attributes:
        flow: name of the flow.
        parameters: previews of the parameters, as text.
        parent_task_run, parent_flow_run: ids, or None for the root.
        entrypoint: file and function, such as `cv.py:cross_validate`, or None.
    """

    __slots__ = ("entrypoint", "flow", "parameters", "parent_flow_run", "parent_task_run")

    def __init__(self, id_: str) -> None:
        super().__init__(id_)
        self.flow = ""
        self.parameters: dict[str, Any] = {}
        self.parent_task_run: str | None = None
        self.parent_flow_run: str | None = None
        self.entrypoint: str | None = None

    def _describe(self, data: dict[str, Any]) -> None:
        super()._describe(data)
        self.flow = str(data.get("flow", ""))
        self.parameters = dict(data.get("parameters") or {})
        self.parent_task_run = data.get("parent_task_run")
        self.parent_flow_run = data.get("parent_flow_run")
        self.entrypoint = data.get("entrypoint")

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, JSON-safe."""
        return super().to_dict() | {
            "flow": self.flow,
            "parameters": self.parameters,
            "parent_task_run": self.parent_task_run,
            "parent_flow_run": self.parent_flow_run,
            "entrypoint": self.entrypoint,
        }


class TaskRunView(StatefulView):
    """A task run.

    Attributes:
        task, key: name and key of the task.
        flow_run_id: of the flow run that it belongs to, or None.
        upstream: ids of the task runs whose results it takes.
        resources: what it asks for, or None.
        map_index: its place in a map, or None.
    """

    __slots__ = ("_place", "flow_run_id", "key", "map_index", "resources", "task", "upstream")

    def __init__(self, id_: str) -> None:
        super().__init__(id_)
        self.task = ""
        self.key = ""
        self.flow_run_id: str | None = None
        self.upstream: tuple[str, ...] = ()
        self.resources: dict[str, Any] | None = None
        self.map_index: int | None = None
        self._place: tuple[JobView, int] | None = None

    def _describe(self, data: dict[str, Any]) -> None:
        super()._describe(data)
        self.task = str(data.get("task", ""))
        self.key = str(data.get("key", ""))
        self.flow_run_id = data.get("flow_run")
        self.upstream = tuple(data.get("upstream") or ())
        self.resources = data.get("resources")
        self.map_index = data.get("map_index")

    def put_into(self, job: JobView, index: int) -> None:
        """Take note that the run is number `index` of a job; the latest submission counts."""
        if self._place is None or self._place[0].order <= job.order:
            self._place = (job, index)

    @property
    def token(self) -> str | None:
        """The token of its submission, or None."""
        return self._place[0].token if self._place else None

    @property
    def job(self) -> str | None:
        """The scheduler's id of its job or array element, or None."""
        told = self.known("job")
        if told is not None or self._place is None:
            return None if told is None else str(told)
        job, index = self._place
        status = job.statuses.get(self.id)
        if status is not None and status.job:
            return status.job
        return f"{job.job}_{index}" if job.job and job.array else job.job

    @property
    def node(self) -> str | None:
        """The node that it runs or ran on, or None."""
        told = self.known("node")
        if told is not None or self._place is None:
            return None if told is None else str(told)
        status = self._place[0].statuses.get(self.id)
        return (status.nodes or None) if status else None

    @property
    def queued(self) -> float | None:
        """When its newest job got into the scheduler's queue, or None if it never was in one."""
        told = [w for w, change in self._counted() if change.name == "InfrastructurePending"]
        if told:
            return told[-1]
        return self._place[0].submitted if self._place else None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, JSON-safe."""
        return super().to_dict() | {
            "task": self.task,
            "key": self.key,
            "flow_run": self.flow_run_id,
            "upstream": list(self.upstream),
            "resources": self.resources,
            "map_index": self.map_index,
            "queued": self.queued,
            "token": self.token,
            "job": self.job,
            "node": self.node,
        }


class JobStatus(NamedTuple):
    """What the scheduler said last of a job or array element; they sort by when."""

    wall: float
    writer: str
    seq: int
    job: str | None
    phase: str | None
    raw: str | None
    reason: str | None
    nodes: str | None
    partition: str | None


class JobView:
    """A submission: a job or an array of them.

    Attributes:
        token: what the submission is known by, here and in the job's name.
        cluster, scheduler: where it went.
        task_runs: ids, in the order of the array's indices.
        array: the array's indices as they were submitted, or something false for a single job.
        script: path or text of the script, as the intent has it.
        resources: what was asked for.
        intended: when the submission was announced, in seconds since 1970.
        submitted: when the scheduler took it, or None.
        job: the scheduler's id, or None.
        refusal: why the scheduler refused it, or None.
        cancelled: why it was cancelled, or None.
        statuses: by task run id, what the scheduler said last.
    """

    __slots__ = (
        "_taken",
        "array",
        "cancelled",
        "cluster",
        "intended",
        "job",
        "order",
        "refusal",
        "resources",
        "scheduler",
        "script",
        "statuses",
        "submitted",
        "task_runs",
        "token",
    )

    def __init__(self, token: str) -> None:
        self.token = token
        self.order: tuple[float, str, int] = (0.0, "", 0)
        self.cluster = ""
        self.scheduler = ""
        self.task_runs: tuple[str, ...] = ()
        self.array: Any = None
        self.script: str | None = None
        self.resources: dict[str, Any] | None = None
        self.intended: float | None = None
        self.submitted: float | None = None
        self.job: str | None = None
        self.refusal: str | None = None
        self.cancelled: str | None = None
        self.statuses: dict[str, JobStatus] = {}
        self._taken: dict[str, tuple[float, str, int]] = {}

    def intend(self, event: Event) -> None:
        """Take the announcement of the submission."""
        if not self._is_newest(event):
            return
        data = event.data
        self.order = event.order
        self.intended = event.wall
        self.cluster = str(data.get("cluster", ""))
        self.scheduler = str(data.get("scheduler", ""))
        self.task_runs = tuple(map(str, data.get("task_runs") or ()))
        self.array = data.get("array")
        self.script = data.get("script")
        self.resources = data.get("resources")

    def submit(self, event: Event) -> None:
        """Take the scheduler's answer."""
        if self._is_newest(event):
            self.job = str(event.data["job"])
            self.submitted = event.wall

    def refuse(self, event: Event) -> None:
        """Take the scheduler's refusal."""
        if self._is_newest(event):
            self.refusal = str(event.data.get("message", ""))

    def cancel(self, event: Event) -> None:
        """Take note that the job, or one of its elements, was cancelled."""
        if self._is_newest(event):
            self.cancelled = str(event.data.get("reason") or "cancelled")

    def report(self, event: Event) -> None:
        """Take what the scheduler says of the job or one of its elements."""
        texts = (_text(event.data.get(name)) for name in JobStatus._fields[3:])
        status = JobStatus(*event.order, *texts)
        element = str(event.data.get("task_run") or "")
        known = self.statuses.get(element)
        if known is None or known[:3] < status[:3]:
            self.statuses[element] = status

    def _is_newest(self, event: Event) -> bool:
        if self._taken.get(event.kind, (0.0, "", 0)) > event.order:
            return False
        self._taken[event.kind] = event.order
        return True

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, JSON-safe."""
        names = (name for name in JobView.__slots__ if name not in ("order", "statuses", "_taken"))
        elements = {key: status._asdict() for key, status in sorted(self.statuses.items())}
        return {name: getattr(self, name) for name in names} | {
            "task_runs": list(self.task_runs),
            "statuses": elements,
        }


def _order(change: Change) -> tuple[int, int, float, str, int]:
    return change[:5]


def _is_requeued(data: dict[str, Any]) -> bool:
    details = data.get("details")
    return isinstance(details, dict) and details.get("requeued") is True


def _text(value: object) -> str | None:
    return None if value is None else str(value)
