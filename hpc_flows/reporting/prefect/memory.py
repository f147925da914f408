"""What is known of a run while it is reported to a Prefect server.

Prefect tells the state of a task run by time stamps alone, and keeps no two of a task run with the
same stamp; here the attempt and the stage decide (`hpc_flows.journal.views`), because clocks of
nodes differ. So every state gets a stamp of its own that puts it where it counts: its own time
where that fits between its neighbours, else as near to it as they leave room.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from hpc_flows.journal.views import Change
from hpc_flows.reporting.prefect.identity import (
    group_id,
    microseconds,
    placeholder_id,
    task_run_id,
)

if TYPE_CHECKING:
    from hpc_flows.journal.event import Event

#: The stage from which on a state ends a run, and the one of what was undone after its end.
FINAL = 5

#: What all hidden runs share; never changed.
_NOTHING: dict[str, Any] = {}
_NONE: list[Any] = []

_Key = tuple[int, int, float, str, int]


class History:
    """The states of one run, each with the time stamp that it has at the server.

    Attributes:
        changes: in the order in which they count.
        stamps: of each, in microseconds since 1970; they rise.
    """

    __slots__ = ("changes", "stamps")

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.stamps: list[int] = []

    def place(self, change: Change) -> int | None:
        """Take a state; return its place, or None where its neighbours leave it no room."""
        at = bisect_left(self.changes, _key(change), key=_key)
        if at < len(self.changes) and _key(self.changes[at]) == _key(change):
            return at
        stamp = microseconds(change.wall)
        if at > 0:
            stamp = max(stamp, self.stamps[at - 1] + 1)
        if at < len(self.stamps):
            stamp = min(stamp, self.stamps[at] - 1)
            if at > 0 and stamp <= self.stamps[at - 1]:
                return None
        self.changes.insert(at, change)
        self.stamps.insert(at, stamp)
        return at

    @property
    def newest(self) -> Change | None:
        """The state that counts most, or None."""
        return self.changes[-1] if self.changes else None

    def started(self, upto: int) -> int | None:
        """Return the stamp of the first start up to a place, or None."""
        places = range(upto + 1)
        return next((self.stamps[n] for n in places if self.changes[n].type == "RUNNING"), None)

    def starts(self, upto: int) -> int:
        """Return how many attempts have started up to a place."""
        attempts = {c.attempt for c in self.changes[: upto + 1] if c.type == "RUNNING"}
        return len(attempts)

    def seconds_running(self, upto: int) -> float:
        """Return for how long it has run up to a place."""
        total, since = 0, None
        for change, stamp in zip(self.changes[: upto + 1], self.stamps, strict=False):
            if change.type == "RUNNING":
                since = stamp if since is None else since
            elif since is not None:
                total += stamp - since
                since = None
        return total / 1e6


class TaskRecord(History):
    """A task run, or what stands for one: a subflow's placeholder.

    Attributes:
        id: at the server.
        name, task, key: as the journal has them.
        flow_run: our id of its flow run; empty until it is heard of.
        upstream: our ids of the task runs whose results it takes.
        facts: of its job: cluster, scheduler, job, node, partition, …
        is_stand_in: whether it stands for a subflow, whose states the server then gives to it.
        group: what stands for it and others when there are too many to show; None: itself.
        due: states that have come and were not sent.
    """

    __slots__ = (
        *("created", "due", "facts", "flow_run", "group", "id", "is_stand_in", "key", "name"),
        *("resources", "tags", "task", "upstream"),
    )

    def __init__(self, id_: str) -> None:
        super().__init__()
        self.id = id_
        self.name = self.task = self.key = self.flow_run = ""
        self.upstream: tuple[str, ...] = ()
        self.tags: tuple[str, ...] = ()
        self.resources: dict[str, Any] = {}
        self.facts: dict[str, Any] = {}
        self.created: int | None = None
        self.is_stand_in = False
        self.group: GroupRecord | None = None
        self.due: list[Change] = []

    def describe(self, event: Event) -> None:
        """Take the event that made the run."""
        data = event.data
        self.name = str(data.get("name") or data["task"])
        self.task = str(data.get("task") or "")
        self.key = str(data.get("key") or self.task)
        self.flow_run = str(data.get("flow_run") or event.run)
        self.upstream = tuple(map(str, data.get("upstream") or ()))
        self.tags = tuple(map(str, data.get("tags") or ()))
        self.resources = dict(data.get("resources") or {})
        self.created = microseconds(event.wall)

    @property
    def expected(self) -> int | None:
        """The stamp at which it was asked for: in the scheduler's queue, or made."""
        pairs = zip(self.changes, self.stamps, strict=True)
        queued = [stamp for change, stamp in pairs if change.name == "InfrastructurePending"]
        return next((stamp for stamp in (*queued, self.created, *self.stamps) if stamp), None)


class GroupRecord(TaskRecord):
    """What stands for the runs of one task that are too many to be shown one by one.

    Attributes:
        members: their newest states, by our id.
        dirty: whether something has changed since it was sent.
        sent: seconds of the monotonic clock when it was.
        last: the stamp of what was sent.
    """

    __slots__ = ("dirty", "last", "members", "sent")

    def __init__(self, flow_run: str, task: str, key: str) -> None:
        super().__init__(group_id(flow_run, task))
        self.name, self.task, self.key, self.flow_run = f"{task} (more)", task, key, flow_run
        self.members: dict[str, Change | None] = {}
        self.dirty = False
        self.sent = float("-inf")
        self.last = 0

    def join(self, id_: str, created: int | None) -> None:
        """Take one more run."""
        self.members.setdefault(id_, None)
        self.dirty = True
        if created is not None:
            self.created = min(created, self.created or created)

    def note(self, id_: str, change: Change) -> None:
        """Take a member's state."""
        before = self.members.get(id_)
        if before is None or _key(before) < _key(change):
            self.members[id_] = change._replace(data=_NOTHING)
            self.dirty = True


class FlowRecord:
    """A flow run.

    Attributes:
        id: ours.
        is_none: whether there is none: task runs outside of any flow, kept under the run's id.
        there, flow_there: the server's ids of it and of its flow; None until it was made there.
        top: rank of the state that the server has, or -1.
        placeholder: stands for it in its parent; None for the root.
        totals: how many runs of each task there are.
        checked: seconds of the monotonic clock when the server was last seen to have it.
        begun, ended: when it did, in seconds since 1970, or None.
    """

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.is_none = False
        self.there: str | None = None
        self.flow_there: str | None = None
        self.top = -1
        self.known = False
        self.name = self.flow = ""
        self.parent: str | None = None
        self.parent_task: str | None = None
        self.parameters: dict[str, Any] = {}
        self.tags: tuple[str, ...] = ()
        self.entrypoint: str | None = None
        self.created = 0.0
        self.placeholder: TaskRecord | None = None
        self.totals: dict[str, int] = {}
        self.groups: dict[str, GroupRecord] = {}
        self.checked = float("-inf")
        self.begun: float | None = None
        self.ended: float | None = None

    def describe(self, event: Event) -> None:
        """Take the event that made the run."""
        data = event.data
        self.known = True
        self.name = str(data.get("name") or event.run[:8])
        self.flow = str(data.get("flow") or "flow")
        self.parent = data.get("parent_flow_run") or None
        self.parent_task = data.get("parent_task_run") or None
        self.parameters = dict(data.get("parameters") or {})
        self.tags = tuple(map(str, data.get("tags") or ()))
        self.entrypoint = data.get("entrypoint")
        self.created = event.wall
        if self.parent is not None:
            self.placeholder = self._stand_in(event)

    def _stand_in(self, event: Event) -> TaskRecord:
        record = TaskRecord(placeholder_id(self.id))
        record.name = record.task = record.key = self.flow
        record.flow_run, record.is_stand_in = str(self.parent), True
        record.upstream = (self.parent_task,) if self.parent_task else ()
        record.created = microseconds(event.wall)
        first = Change(1, 0, event.wall, event.writer, event.seq, "PENDING", "Pending", {})
        record.place(first)
        return record


class RunMemory:
    """A run as far as it was heard of.

    Args:
        run: id of the root flow run.
        most: how many runs of a task a flow run shows one by one.

    Attributes:
        flows, tasks, jobs: by our id or token.
        due: task runs with states that were not sent, by our id.
    """

    def __init__(self, run: str, most: int) -> None:
        self.run = run
        self._most = most
        self.flows: dict[str, FlowRecord] = {}
        self.tasks: dict[str, TaskRecord] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.due: dict[str, TaskRecord] = {}

    def flow(self, id_: str) -> FlowRecord:
        """Return what is known of a flow run, from now on something."""
        if id_ not in self.flows:
            self.flows[id_] = FlowRecord(id_)
        return self.flows[id_]

    def task(self, id_: str) -> TaskRecord:
        """Return what is known of a task run, from now on something."""
        if id_ not in self.tasks:
            self.tasks[id_] = TaskRecord(task_run_id(id_))
        return self.tasks[id_]

    def make_task(self, event: Event) -> TaskRecord:
        """Take the event that made a task run; above the limit it joins a group."""
        id_ = event.data["id"]
        record = self.task(id_)
        if record.flow_run:
            return record
        record.describe(event)
        flow = self.flow(record.flow_run)
        count = flow.totals[record.task] = flow.totals.get(record.task, 0) + 1
        if count > self._most:
            self._join(flow, id_, record)
        return record

    def _join(self, flow: FlowRecord, id_: str, record: TaskRecord) -> None:
        group = flow.groups.get(record.task)
        if group is None:
            group = flow.groups[record.task] = GroupRecord(flow.id, record.task, record.key)
        group.join(id_, record.created)
        for change in record.changes:
            group.note(id_, change)
        record.group = group
        # Of a hundred thousand hidden runs nothing is kept but their names and newest states.
        record.changes = record.stamps = record.due = _NONE
        record.upstream = record.tags = ()
        record.resources = record.facts = _NOTHING

    def intend(self, data: dict[str, Any]) -> None:
        """Take the announcement of a submission."""
        facts = {
            "token": data.get("token"),
            "cluster": data.get("cluster"),
            "scheduler": data.get("scheduler"),
            "partition": (data.get("resources") or {}).get("partition"),
        }
        ids = tuple(map(str, data.get("task_runs") or ()))
        self.jobs[str(data["token"])] = {"task_runs": ids, "array": bool(data.get("array"))}
        for id_ in ids:
            self._learn(id_, facts)

    def submitted(self, data: dict[str, Any]) -> None:
        """Take the scheduler's id of a submission."""
        job = self.jobs.get(str(data["token"]))
        for index, id_ in enumerate(job["task_runs"] if job else ()):
            whole = f"{data['job']}_{index}" if job and job["array"] else str(data["job"])
            self._learn(id_, {"job": whole})

    def report(self, event: Event) -> tuple[str, Change] | None:
        """Take what the scheduler says of a job; return a task run and its state, with the reason.

        None where nothing is to be shown: its job waits no more, or there is no reason.
        """
        data = event.data
        id_ = data.get("task_run")
        if not id_:
            return None
        record = self.task(str(id_))
        facts = {"node": data.get("nodes"), "partition": data.get("partition")}
        self._learn(str(id_), {**facts, "job": data.get("job")})
        newest = record.newest
        waits = newest is not None and newest.type == "PENDING"
        if newest is None or not waits or data.get("phase") != "queued" or not data.get("reason"):
            return None
        told = {"message": str(data["reason"]), "reason": str(data["reason"])}
        change = newest._replace(
            wall=max(event.wall, newest.wall), writer=event.writer, seq=event.seq, data=told
        )
        return str(id_), change

    def _learn(self, id_: str, facts: dict[str, Any]) -> None:
        record = self.task(id_)
        if record.group is None:
            record.facts.update(_told(facts))


def change_of(event: Event) -> Change:
    """Return the change that a `state` event tells of, without what is not sent (results).

    Raises:
        KeyError, TypeError, ValueError: the event lacks something, or says nonsense.
    """
    change = Change.of(event)
    details = change.data.get("details")
    kept = {
        "message": change.data.get("message"),
        "details": details if isinstance(details, dict) else {},
    }
    return change._replace(data=kept)


def _told(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value}


def _key(change: Change | _Key) -> _Key:
    return (change[0], change[1], change[2], change[3], change[4])
