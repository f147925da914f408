"""What of some events of a run is to be told to a Prefect server, and in which order.

Nothing is sent here: `Planner` takes events into the memory of the run and says what has become
sendable by them. A state whose run is not heard of yet waits for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc_flows.reporting.prefect.memory import FINAL, FlowRecord, RunMemory, TaskRecord, change_of

if TYPE_CHECKING:
    from hpc_flows.journal.event import Event
    from hpc_flows.journal.views import Change

#: Log records and artifacts that wait for the run that they belong to; older ones are dropped.
_MOST_HELD = 10_000


class Plan:
    """What is to be sent.

    Attributes:
        flows: that are touched, by our id.
        flow_states: states of flow runs, in the order in which they came.
        task_states: of task runs by their id there: the record, its flow run, and the states that
            are to be told.
        logs, artifacts: events of these kinds.
    """

    def __init__(self) -> None:
        self.flows: dict[str, FlowRecord] = {}
        self.flow_states: list[tuple[FlowRecord, Change]] = []
        self.task_states: dict[str, tuple[TaskRecord, FlowRecord, list[Change]]] = {}
        self.logs: list[Event] = []
        self.artifacts: list[Event] = []

    @property
    def events(self) -> int:
        """How many Prefect events it makes."""
        return sum(len(changes) for _, _, changes in self.task_states.values())

    def tell(self, record: TaskRecord, flow: FlowRecord, change: Change) -> None:
        """Add a state of a task run."""
        self.flows[flow.id] = flow
        entry = self.task_states.setdefault(record.id, (record, flow, []))
        if change not in entry[2]:
            entry[2].append(change)

    def only_newest(self) -> None:
        """Leave of each task run the state that counts most, for a server that is behind."""
        for record, _, changes in self.task_states.values():
            newest = max(changes, key=lambda change: change[:5])
            changes[:] = [newest] if newest[:5] >= (record.newest or newest)[:5] else []


class Planner:
    """Takes events of one run."""

    def __init__(self, memory: RunMemory) -> None:
        self._memory = memory
        self._held_flows: list[tuple[FlowRecord, Change]] = []
        self._held_others: list[Event] = []

    def plan(self, events: list[Event]) -> tuple[Plan, int]:
        """Take events; return what is to be sent, and how many events made no sense."""
        plan, refused = Plan(), 0
        for event in events:
            try:
                self._take(event, plan)
            except (AttributeError, KeyError, TypeError, ValueError):
                refused += 1
        self._release(plan)
        return plan, refused

    def restore(self, plan: Plan, again: set[Event]) -> None:
        """Take back what could not be sent, but for events that will be taken again anyway."""
        self._held_flows = [*plan.flow_states, *self._held_flows]
        others = [event for event in (*plan.logs, *plan.artifacts) if event not in again]
        self._held_others = [*others, *self._held_others]
        for record, _, changes in plan.task_states.values():
            record.due = [*changes, *record.due]
        told = {record.id for record, _, _ in plan.task_states.values()}
        for id_, record in self._memory.tasks.items():
            if record.id in told:
                self._memory.due[id_] = record

    def is_ready(self, flow: FlowRecord) -> bool:
        """Tell whether enough is known of a flow run to make it at the server."""
        if flow.is_none:
            return True
        seen = set()
        while flow.known and flow.id not in seen:
            if flow.parent is None:
                return True
            seen.add(flow.id)
            flow = self._memory.flow(flow.parent)
        return False

    def home(self, data: dict[str, Any]) -> FlowRecord:
        """Return the flow run that a log record or an artifact belongs to: the root, if unknown."""
        flow = self._memory.flow(str(data.get("flow_run") or self._memory.run))
        return flow if self.is_ready(flow) else self._memory.flow(self._memory.run)

    def task(self, data: dict[str, Any]) -> TaskRecord | None:
        """Return the task run that a log record or an artifact belongs to, or None."""
        record = self._memory.tasks.get(str(data.get("task_run") or ""))
        return record if record is not None and record.flow_run else None

    def _take(self, event: Event, plan: Plan) -> None:
        kind, data = event.kind, event.data
        if kind == "flow-run":
            flow = self._memory.flow(_text(data["id"]))
            flow.describe(event)
            plan.flows[flow.id] = flow
        elif kind == "task-run":
            self._hold(_text(data["id"]), self._memory.make_task(event))
        elif kind == "state":
            self._take_state(event)
        elif kind == "job-intent":
            self._memory.intend(data)
        elif kind == "job-submitted":
            self._memory.submitted(data)
        elif kind == "job-status":
            told = self._memory.report(event)
            if told is not None:
                self._change_task(*told)
        elif kind in ("log", "artifact"):
            self._held_others.append(event)

    def _take_state(self, event: Event) -> None:
        subject, id_, change = event.data["subject"], _text(event.data["id"]), change_of(event)
        if subject == "flow":
            self._change_flow(self._memory.flow(id_), change)
        elif subject == "task":
            self._change_task(id_, change)
        else:
            raise ValueError(subject)

    def _change_flow(self, flow: FlowRecord, change: Change) -> None:
        if change.type == "RUNNING" and flow.begun is None:
            flow.begun = change.wall
        if change.stage >= FINAL:
            flow.ended = change.wall
        self._held_flows.append((flow, change))

    def _change_task(self, id_: str, change: Change) -> None:
        record = self._memory.task(id_)
        if record.group is not None:
            record.group.note(id_, change)
        elif record.place(change) is not None:
            record.due.append(change)
            self._memory.due[id_] = record

    def _hold(self, id_: str, record: TaskRecord) -> None:
        if record.changes and record.group is None and not record.due:
            record.due.append(record.changes[-1])
            self._memory.due[id_] = record

    def _release(self, plan: Plan) -> None:
        """Move what has become sendable into the plan."""
        held, self._held_flows = self._held_flows, []
        for flow, change in held:
            if not self.is_ready(flow):
                self._held_flows.append((flow, change))
                continue
            plan.flows[flow.id] = flow
            plan.flow_states.append((flow, change))
        for id_, record in list(self._memory.due.items()):
            self._release_task(id_, record, plan)
        if self.is_ready(self._memory.flow(self._memory.run)):
            for event in self._held_others:
                (plan.logs if event.kind == "log" else plan.artifacts).append(event)
            self._held_others = []
        # A run whose first line is damaged is never heard of; its logs must not fill the memory.
        del self._held_others[:-_MOST_HELD]

    def _release_task(self, id_: str, record: TaskRecord, plan: Plan) -> None:
        flow = self._memory.flow(record.flow_run) if record.flow_run else None
        if flow is None or not self.is_ready(flow):
            return
        for change in record.due if record.group is None else ():
            plan.tell(record, flow, change)
        record.due = []
        del self._memory.due[id_]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value))
    return value
