"""Runs and log records as a server tells of them, with the attributes that Prefect users know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from hpc_flows.exceptions import MissingResult, close_match
from hpc_flows.states import FINAL_TYPES, Pending, State, StateType, StoredValue

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FlowRun",
    "Log",
    "OrchestrationResult",
    "SetStateStatus",
    "State",
    "StateType",
    "TaskRun",
]

#: What Prefect's runs have and ours have not, and what to take instead.
_ABSENT = {
    "flow_id": "a flow has no id here; `flow_name` names it",
    "flow_version": "a server is not told it",
    "idempotency_key": "a run is made by the process that drives it, once",
    "infrastructure_pid": "`raw['host']` says where the driver runs",
    "infrastructure_document_id": "there are no blocks",
    "job_variables": "each task has `resources` of its own",
    "work_queue_name": "there are no work queues",
    "work_pool_name": "there are no work pools",
    "estimated_run_time": "`total_run_time` says how long it ran",
    "empirical_policy": "the run's own process counts retries",
    "labels": "`tags` are words to sort runs by",
    "dynamic_key": "`id` tells the runs of a task apart",
    "task_inputs": "`upstream` holds the ids of the task runs whose results it takes",
    "cache_key": "a server is not told it",
}


class _Run:
    """What flow runs and task runs have in common."""

    _KIND = ""
    _RESULT = ""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.raw = dict(row)
        self.id: str = row["id"]
        self.name: str = row["name"]
        self.tags: list[str] = list(row.get("tags") or ())
        self.run_count: int = row.get("attempt") or 0
        self.created = moment(row.get("created"))
        self.expected_start_time = self.created
        self.start_time = moment(row.get("started"))
        self.end_time = moment(row.get("ended"))
        self.state: State = self._state()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, name={self.name!r}, state={self.state!r})"

    def __getattr__(self, name: str) -> Any:
        reason = _ABSENT.get(name)
        why = f": {reason}." if reason else f".{close_match(name, vars(self))}"
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{why}")

    @property
    def state_type(self) -> StateType:
        """The newest state's type."""
        return self.state.type

    @property
    def state_name(self) -> str:
        """The newest state's name, such as `OutOfMemory`."""
        return self.state.name

    @property
    def total_run_time(self) -> timedelta:
        """How long it has run: to its end, or until now."""
        if self.start_time is None:
            return timedelta(0)
        return (self.end_time or datetime.now(UTC)) - self.start_time

    def states(self) -> list[State]:
        """Return the states that it went through; of a run that was read by its id."""
        told = self.raw.get("history") or ()
        return [self._made(type_, name, None, wall) for wall, type_, name, *_ in told]

    def _state(self) -> State:
        row = self.raw
        type_ = row.get("state_type")
        if type_ is None:
            pending: State = Pending()
            return pending
        since = row.get("ended") if type_ in FINAL_TYPES else row.get("started")
        return self._made(
            type_,
            row.get("state_name"),
            row.get("message"),
            since or row.get("created"),
            row.get("details"),
        )

    def _made(
        self,
        type_: str,
        name: str | None,
        message: str | None,
        wall: float | None,
        details: Mapping[str, Any] | None = None,
    ) -> State:
        state = State(
            StateType(type_),
            name,
            message,
            data=_Elsewhere(self._KIND, self.name, self._RESULT) if type_ == "COMPLETED" else None,
            details=dict(details or {}),
            epoch=wall,
        )
        of_flow = self.raw.get("flow_run") if self._KIND == "task" else None
        state.belongs_to(self._KIND, self.id, of_flow)
        return state


class FlowRun(_Run):
    """A flow run.

    Attributes:
        id, name, tags: as everywhere; the id is the text of a UUID.
        flow_name: the flow's name.
        parameters: previews of them, as texts.
        state, state_type, state_name: the newest state.
        run_count: how often its code has been started.
        created, expected_start_time, start_time, end_time: aware times, or None.
        total_run_time: how long it has run.
        parent_flow_run_id, parent_task_run_id: ids, or None.
        root_id: id of the outermost run.
        deployment_id: None; there are no deployments.
        raw: all that the server told.
    """

    _KIND = "flow"
    _RESULT = "Have the flow write what others need."

    def __init__(self, row: Mapping[str, Any]) -> None:
        super().__init__(row)
        self.flow_name: str = row.get("flow") or ""
        self.parameters: dict[str, Any] = dict(row.get("parameters") or {})
        self.parent_flow_run_id: str | None = row.get("parent_flow_run")
        self.parent_task_run_id: str | None = row.get("parent_task_run")
        self.root_id: str = row.get("run") or self.id
        self.deployment_id = None


class TaskRun(_Run):
    """A task run.

    Attributes:
        id, name, tags, state, state_type, state_name, run_count: as a `FlowRun`'s.
        created, expected_start_time, start_time, end_time, total_run_time: as a `FlowRun`'s.
        task_name, task_key: the task's name, and what tells tasks of one name apart.
        flow_run_id: the flow run that it belongs to, or None.
        map_index: its place in a map, or None.
        upstream: ids of the task runs whose results it takes.
        job_id, node, cluster, partition: its batch job's, or None.
        raw: all that the server told.
    """

    _KIND = "task"
    _RESULT = "@task(persist_result=True, result_storage_key=...) keeps it where others find it."

    def __init__(self, row: Mapping[str, Any]) -> None:
        super().__init__(row)
        self.task_name: str = row.get("task") or ""
        self.task_key: str = row.get("key") or ""
        self.flow_run_id: str | None = row.get("flow_run")
        self.map_index: int | None = row.get("map_index")
        self.upstream: list[str] = list(row.get("upstream") or ())
        self.job_id: str | None = row.get("job")
        self.node: str | None = row.get("node")
        self.cluster: str | None = row.get("cluster")
        self.partition: str | None = row.get("partition")


class Log(NamedTuple):
    """A log record.

    Attributes:
        id: names it on its server.
        name: the logger's.
        level: a number, as in `logging`.
        message: the text.
        timestamp: an aware time.
        flow_run_id, task_run_id: whose it is; None where it is nobody's.
    """

    id: str
    name: str
    level: int
    message: str
    timestamp: datetime
    flow_run_id: str | None
    task_run_id: str | None


def log_of(row: Mapping[str, Any]) -> Log:
    """Return a log record of what the server tells."""
    return Log(
        str(row["id"]),
        row.get("logger") or "",
        row["level"],
        row["message"],
        datetime.fromtimestamp(row["t"], UTC),
        row.get("flow_run"),
        row.get("task_run"),
    )


class SetStateStatus(StrEnum):
    """What became of the wish to set a state."""

    ACCEPT = "ACCEPT"
    ABORT = "ABORT"


class OrchestrationResult(NamedTuple):
    """What became of the wish to set a flow run's state.

    Attributes:
        state: the state that the run's driver was asked for; or that it is in, after ABORT.
        status: ACCEPT when the wish was taken, which the driver hears of in its own time.
        details: what to expect, or why not, in the server's words.
    """

    state: State
    status: SetStateStatus
    details: str


class _Elsewhere(StoredValue):
    """The value of a run, which a server does not have."""

    __slots__ = ("_kind", "_name", "_way")

    def __init__(self, kind: str, name: str, way: str) -> None:
        self._kind, self._name, self._way = kind, name, way

    def get(self) -> Any:
        msg = f"A server is not told the value of {self._kind} run {self._name!r}. {self._way}"
        raise MissingResult(msg)


def moment(seconds: float | None) -> datetime | None:
    """Return seconds since 1970 as an aware time."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
