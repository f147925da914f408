"""Flow runs at a Prefect server: made once, and taken through their states in order, once each."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from hpc_flows.reporting.prefect.identity import Rank, microseconds, rank_in, transition_id
from hpc_flows.reporting.prefect.memory import FINAL
from hpc_flows.reporting.prefect.payloads import (
    flow_body,
    flow_run_body,
    flow_state_body,
    flow_times,
    task_event,
)
from hpc_flows.reporting.prefect.server import NotThere, PrefectServer, Rejected
from hpc_flows.reporting.sink import BatchRefused, RunGone, SinkTrouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.journal.views import Change
    from hpc_flows.reporting.prefect.marks import Marks
    from hpc_flows.reporting.prefect.memory import FlowRecord, RunMemory

_CREATED = 201

#: Seconds for which the server is believed still to have a flow run that it had.
_TRUSTED = 15.0

#: Seconds for which the server may take to record a placeholder, which its subflow needs.
_RECORDED_WITHIN = 15.0
_GLANCE = 0.2


class FlowRuns:
    """The flow runs of one run.

    Args:
        memory: of the run.
        server: where they are made.
        marks: remember the server's ids.
        send_events: sends Prefect events.

    Attributes:
        were_there: whether the server had one that nothing here remembers: it was told of this
            run before.
    """

    def __init__(
        self,
        memory: RunMemory,
        server: PrefectServer,
        marks: Marks,
        send_events: Callable[[list[dict[str, Any]]], int],
    ) -> None:
        self._memory, self._server, self._marks = memory, server, marks
        self._send_events = send_events
        self.were_there = False

    def there(self) -> set[str]:
        """Return the server's ids of those that it has; with an empty one where none is needed."""
        flows = self._memory.flows.values()
        return {flow.there or "" for flow in flows if flow.there is not None or flow.is_none}

    def ensure(self, flow: FlowRecord) -> None:
        """Make a flow run at the server, unless it is there.

        Raises:
            SinkTrouble, SinkRefusal, BatchRefused, RunGone: as `hpc_flows.reporting.sink` says.
        """
        if flow.there is not None or flow.is_none:
            return
        if flow.parent is not None:
            self.ensure(self._memory.flow(flow.parent))
        known = self._marks.ids["flow"].get(flow.id)
        if known:
            flow.flow_there, there = known[1], known[0]
            self._catch_up(flow, there)
        else:
            there = self._make(flow)
        flow.there, flow.checked = there, monotonic()

    def check(self, events: list[dict[str, Any]]) -> None:
        """Check that the server still has the flow runs of some events, or they would choke it.

        Raises:
            RunGone: one was deleted there.
        """
        ids = (event["related"][0]["prefect.resource.id"] for event in events if event["related"])
        wanted = {id_.rpartition(".")[2] for id_ in ids}
        for flow in self._memory.flows.values():
            if flow.there in wanted and monotonic() - flow.checked > _TRUSTED:
                try:
                    self._server.get(f"/flow_runs/{flow.there}")
                except NotThere:
                    raise _gone(flow) from None
                flow.checked = monotonic()

    def change(self, flow: FlowRecord, change: Change) -> None:
        """Put a flow run into a state, unless the server has it or a later one.

        Raises:
            SinkTrouble, SinkRefusal, BatchRefused, RunGone: as `hpc_flows.reporting.sink` says.
        """
        # The one in which it is made.
        if change.attempt == 1 and change.type == "PENDING" and change.name == "Pending":
            return
        self.ensure(flow)
        rank = Rank(change.attempt, change.stage, microseconds(change.wall) // 1000)
        if int(rank) <= flow.top:
            return
        if change.stage >= FINAL:
            # Only for show, and an older server may have no such path.
            with suppress(Rejected):
                self._server.patch(f"/flow_runs/{flow.there}/labels", flow_times(flow))
        transition = transition_id(rank, flow.id, f"{change.writer}:{change.seq}")
        if not self._set(flow, change, transition, force=False):
            self._set(flow, change, transition, force=True)
        flow.top = int(rank)

    def _set(self, flow: FlowRecord, change: Change, transition: str, *, force: bool) -> bool:
        """Ask for a state; tell whether the flow run has it, or had it already."""
        body = flow_state_body(change, transition, force=force)
        try:
            _, answer = self._server.post(f"/flow_runs/{flow.there}/set_state", body)
        except NotThere:
            raise _gone(flow) from None
        except Rejected as error:
            raise BatchRefused(str(error)) from error
        told = answer if isinstance(answer, dict) else {}
        details = (told.get("state") or {}).get("state_details") or {}
        return told.get("status") == "ACCEPT" or details.get("transition_id") == transition

    def _make(self, flow: FlowRecord) -> str:
        try:
            flow.flow_there = self._server.post("/flows/", flow_body(flow))[1]["id"]
            if flow.placeholder is not None:
                self._make_placeholder(flow)
            body = flow_run_body(flow, str(flow.flow_there), self._memory.run)
            status, made = self._server.post("/flow_runs/", body)
            there = str(made["id"])
        except Rejected as error:
            raise BatchRefused(str(error)) from error
        except (KeyError, TypeError) as error:
            msg = f"The Prefect server at {self._server} made a flow run without an id."
            raise SinkTrouble(msg, answered=True) from error
        if status != _CREATED:
            self.were_there = True
            self._catch_up(flow, there)
        self._marks.name("flow", flow.id, [there, flow.flow_there])
        self._marks.write()
        return there

    def _catch_up(self, flow: FlowRecord, there: str) -> None:
        """Learn from the server how far a flow run had come."""
        states = self._server.get(f"/flow_run_states/?flow_run_id={there}")
        if not states:
            raise _gone(flow)
        found = (state.get("state_details") or {} for state in states)
        ranks = (rank_in(details.get("transition_id") or "", flow.id) for details in found)
        flow.top = max([flow.top, *(rank for rank in ranks if rank is not None)])

    def _make_placeholder(self, flow: FlowRecord) -> None:
        stand_in, parent = flow.placeholder, self._memory.flow(str(flow.parent))
        if stand_in is None:
            return
        self._send_events([task_event(self._memory.run, stand_in, 0, parent)])
        end = monotonic() + _RECORDED_WITHIN
        while not self._has_task_run(stand_in.id):
            if monotonic() > end:
                raise SinkTrouble(
                    f"The Prefect server at {self._server} has not recorded an event for "
                    f"{_RECORDED_WITHIN:.0f} s; it is behind.",
                    retry_after=5.0,
                    answered=True,
                )
            sleep(_GLANCE)

    def _has_task_run(self, id_: str) -> bool:
        try:
            self._server.get(f"/task_runs/{id_}")
        except NotThere:
            return False
        return True


def _gone(flow: FlowRecord) -> RunGone:
    return RunGone(
        f"The flow run {flow.name!r} was deleted at the Prefect server; nothing more of its run is "
        "reported there."
    )
