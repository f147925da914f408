"""Reports one run to a Prefect server, batch by batch."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import JournalError
from hpc_flows.journal.reader import iter_run
from hpc_flows.reporting.prefect.checking import MOST_REQUEST_BYTES, check_event
from hpc_flows.reporting.prefect.flow_runs import FlowRuns
from hpc_flows.reporting.prefect.identity import microseconds
from hpc_flows.reporting.prefect.memory import FINAL, GroupRecord, RunMemory
from hpc_flows.reporting.prefect.payloads import (
    artifact_age,
    artifact_body,
    artifact_update,
    group_event,
    group_progress,
    log_body,
    task_event,
)
from hpc_flows.reporting.prefect.planning import Plan, Planner
from hpc_flows.reporting.prefect.replays import Replays
from hpc_flows.reporting.prefect.server import NotThere, PrefectServer, Rejected
from hpc_flows.reporting.sink import Batch, BatchRefused, Receipt, RunAbout, SinkTrouble

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hpc_flows.journal.event import Event
    from hpc_flows.reporting.prefect.marks import Marks
    from hpc_flows.reporting.prefect.memory import FlowRecord
    from hpc_flows.reporting.prefect.pacing import Pace

#: Things of a request at most.
_EVENTS_AT_ONCE, _LOGS_AT_ONCE = 100, 200

#: Seconds between two batches of a run: what comes meanwhile goes in fewer requests, and of states
#: that follow each other so fast only the newest matters to people.
_GAP = 0.5

#: Seconds between two events that tell how far a group is.
_GROUP_PAUSE = 2.0

_KINDS = frozenset(
    "flow-run task-run state job-intent job-submitted job-status log artifact".split()
)
_REMEMBERED = _KINDS - {"log", "artifact"}


class RunReport:
    """The report of one run.

    Args:
        about: the run.
        server: where to.
        pace: shared by all runs.
        marks: what was sent before.
        most: how many runs of a task are shown one by one.
    """

    def __init__(
        self, about: RunAbout, server: PrefectServer, pace: Pace, marks: Marks, most: int
    ) -> None:
        self._about, self._server, self._pace, self._marks = about, server, pace, marks
        self._memory = RunMemory(about.id, most)
        self._root = self._memory.flow(about.id)
        # A task that is called or submitted outside of any flow is a run of its own.
        self._root.is_none = "task" in about.facts and "flow" not in about.facts
        self._planner = Planner(self._memory)
        self._flow_runs = FlowRuns(self._memory, server, marks, self._send_events)
        self._replays = Replays(server, self._memory)
        self._recalled = False
        self._ended = float("-inf")
        self._told_any = False

    def send(self, batch: Batch) -> Receipt:
        """Tell the server of a batch.

        Raises:
            SinkTrouble, SinkRefusal, BatchRefused, RunGone: as `hpc_flows.reporting.sink` says.
        """
        self._pace.pause(self._ended + _GAP - monotonic())
        try:
            return self._send(batch)
        except Rejected as error:
            raise BatchRefused(str(error)) from error
        finally:
            self._ended = monotonic()

    def _send(self, batch: Batch) -> Receipt:
        events = [event for event in batch.events() if event.run == self._about.id]
        fresh = [e for e in events if e.kind in _KINDS and not self._marks.has(e)]
        if not self._recalled:
            self._recall(events)
        plan, refused = self._planner.plan(fresh)
        try:
            refused += self._carry_out(plan)
        except BaseException:
            # These come again with the batch; what waited from earlier ones does not.
            self._planner.restore(plan, set(fresh))
            raise
        self._replays.is_missing = False
        if not self._about.folder:
            self._marks.keep(batch.lines)
        self._marks.sent(events)
        return Receipt(repeated=len(events) - len(fresh), refused=refused)

    def finish(self) -> bool:
        """Tell what was held back for a while; return whether the run has ended."""
        for flow in self._memory.flows.values():
            self._tell_groups(flow, at_once=True)
        if not self._root.is_none:
            return self._root.ended is not None
        newest = [record.newest for record in self._memory.tasks.values()]
        return all(change is not None and change.stage >= FINAL for change in newest)

    def attach(self, artifact: str, content: bytes) -> None:
        """Send the data of an artifact that were too large for its event."""
        known = self._marks.ids["artifact"].get(artifact)
        if known is None:
            return
        try:
            self._server.patch(f"/artifacts/{known[0]}", {"data": json.loads(content)})
        except ValueError as error:
            raise BatchRefused(f"The artifact {artifact} is no JSON.") from error
        except Rejected as error:
            raise BatchRefused(str(error)) from error

    def _recall(self, events: list[Event]) -> None:
        """Read what was sent before this process began: later events build on it."""
        begins = any(event.writer == "driver" and event.seq == 1 for event in events)
        if not (begins and self._marks.is_empty):
            try:
                folder = self._about.folder
                found = iter_run(folder) if folder else self._marks.kept()
                self._planner.plan([event for event in found if event.kind in _REMEMBERED])
            except JournalError as error:
                raise SinkTrouble(str(error)) from error
        self._recalled = True

    def _carry_out(self, plan: Plan) -> int:
        """Send what is planned; return how many things the server did not take."""
        for flow in plan.flows.values():
            if self._planner.is_ready(flow):
                self._flow_runs.ensure(flow)
        self._doubt()
        ends = [(flow, change) for flow, change in plan.flow_states if change.stage >= FINAL]
        for flow, change in plan.flow_states:
            if change.stage < FINAL:
                self._flow_runs.change(flow, change)
        if plan.events > self._pace.available():
            plan.only_newest()
        refused = self._tell_tasks(plan)
        for flow in self._memory.flows.values():
            self._tell_groups(flow, at_once=False)
        refused += self._tell_logs(plan.logs) + self._tell_artifacts(plan.artifacts)
        # Last, since the end of a flow run ends at the server what it does not know to have ended.
        for flow, change in ends:
            self._tell_groups(flow, at_once=True)
            self._flow_runs.change(flow, change)
        return refused

    def _doubt(self) -> None:
        """Find out once whether the server was told before by somebody who has forgotten it."""
        if self._root.is_none and self._marks.is_empty and not self._told_any:
            self._replays.doubtful = self._replays.task_run_is_there()
        self._told_any = True
        self._replays.doubtful = self._replays.doubtful or self._flow_runs.were_there

    def _tell_tasks(self, plan: Plan) -> int:
        refused, ready = 0, []
        for record, flow, changes in plan.task_states.values():
            self._flow_runs.ensure(flow)
            for change in changes:
                place = record.place(change)
                if place is not None:
                    ready.append(task_event(self._about.id, record, place, flow))
        for chunk in _chunks(ready, _EVENTS_AT_ONCE):
            refused += self._send_events(chunk)
        return refused

    def _send_events(self, events: list[dict[str, Any]]) -> int:
        """Send Prefect events; return how many were not fit to be sent."""
        known = self._flow_runs.there()
        good = []
        for event in events:
            try:
                check_event(event, known)
            except (ValueError, KeyError, TypeError):
                continue
            good.append(event)
        if good:
            self._flow_runs.check(good)
            self._pace.take(len(good))
            try:
                self._server.post("/events", good)
            except Rejected as error:
                raise BatchRefused(str(error)) from error
        return len(events) - len(good)

    def _tell_groups(self, flow: FlowRecord, *, at_once: bool) -> None:
        for group in flow.groups.values():
            due = at_once or monotonic() - group.sent >= _GROUP_PAUSE
            if group.dirty and due and self._planner.is_ready(flow):
                self._flow_runs.ensure(flow)
                self._tell_group(flow, group)

    def _tell_group(self, flow: FlowRecord, group: GroupRecord) -> None:
        walls = [change.wall for change in group.members.values() if change is not None]
        stamp = max([microseconds(wall) for wall in walls] or [group.created or 0])
        group.last = max(stamp, group.last + 1)
        self._send_events([group_event(self._about.id, group, flow, group.last)])
        # Only for show: somebody may have deleted it there.
        with suppress(Rejected):
            self._tell_progress(flow, group)
        group.dirty, group.sent = False, monotonic()

    def _tell_progress(self, flow: FlowRecord, group: GroupRecord) -> None:
        progress = group_progress(group)
        there = self._marks.ids["group"].get(group.id)
        if there is None:
            words = f"How many of the runs of {group.task} that are not shown have ended"
            facts = {"id": group.id, "type": "progress", "data": progress, "description": words}
            answer = self._server.post("/artifacts/", artifact_body(facts, flow, group, 0.0))[1]
            self._marks.name("group", group.id, _id_in(answer))
            self._marks.write()
        else:
            self._server.patch(f"/artifacts/{there}", {"data": progress})

    def _tell_logs(self, logs: list[Event]) -> int:
        """Send log records, and take each out of the list once the server has it."""
        refused = 0
        for chunk in list(_by_size(logs)):
            bodies = []
            for event in chunk:
                flow = self._planner.home(event.data)
                self._flow_runs.ensure(flow)
                bodies.append(log_body(event, flow, self._planner.task(event.data)))
            try:
                bodies = [body for body in bodies if body["flow_run_id"] or body["task_run_id"]]
                bodies = self._replays.unsent_logs(bodies)
                if bodies:
                    self._post_once("/logs/", bodies)
            except Rejected:
                refused += len(chunk)
            self._marks.sent(chunk)
            del logs[: len(chunk)]
        return refused

    def _post_once(self, path: str, content: Any) -> Any:
        """Send what the server makes anew each time; where no answer comes, it may have it."""
        try:
            return self._server.post(path, content)[1]
        except SinkTrouble as trouble:
            if not trouble.answered:
                self._replays.missed_an_answer()
            raise

    def _tell_artifacts(self, events: list[Event]) -> int:
        """Send artifacts, and empty the list."""
        refused = 0
        # Of an artifact that was changed several times meanwhile, only the newest data count.
        newest: dict[str, Event] = {}
        for event in sorted(events, key=lambda event: (artifact_age(event), event.order)):
            newest[str(event.data.get("id"))] = event
        for event in newest.values():
            try:
                self._tell_artifact(event)
            except (Rejected, KeyError, TypeError):
                refused += 1
        self._marks.sent(events)
        events.clear()
        return refused

    def _tell_artifact(self, event: Event) -> None:
        id_, age, flow = str(event.data["id"]), artifact_age(event), self._planner.home(event.data)
        self._flow_runs.ensure(flow)
        known = self._marks.ids["artifact"].get(id_) or self._replays.artifact(id_)
        if known is None:
            body = artifact_body(event.data, flow, self._planner.task(event.data), age)
            answer = self._post_once("/artifacts/", body)
            self._marks.name("artifact", id_, [_id_in(answer), age])
        else:
            there, before = known
            if age > before:
                self._server.patch(f"/artifacts/{there}", artifact_update(event.data, age))
            self._marks.name("artifact", id_, [there, max(age, before)])
        self._marks.write()


def _id_in(answer: Any) -> str:
    there = answer.get("id") if isinstance(answer, dict) else None
    if there is None:
        raise NotThere("The Prefect server made an artifact without an id.", 404)
    return str(there)


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _by_size(logs: list[Event]) -> Iterator[list[Event]]:
    """Cut log records into requests that no server refuses for their size."""
    chunk: list[Event] = []
    size = 0
    for event in logs:
        length = len(str(event.data.get("message") or "")) * 4 + 400
        if chunk and (len(chunk) >= _LOGS_AT_ONCE or size + length > MOST_REQUEST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(event)
        size += length
    if chunk:
        yield chunk
