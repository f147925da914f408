"""What a row keeps of events, and how the journal's views are made of it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from hpc_flows.journal.event import Event
from hpc_flows.journal.views import FlowRunView, StatefulView, TaskRunView
from hpc_flows.server.db.texts import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Iterable

#: When and by whom an event was written, which is how events of a run are sorted.
Order = tuple[float, str, int]

#: A state: its order and its data, as a list of four.
Told = list[Any]

#: What of a state's data counts; results are not the server's to keep.
_OF_STATE = ("type", "message", "details", "attempt")

View = TypeVar("View", bound=StatefulView)


def pressed(event: Event, names: Iterable[str]) -> str:
    """Return what counts of an event: its order, and of its data what has one of the names."""
    data = {name: event.data[name] for name in names if name in event.data}
    return dumps([event.wall, event.writer, event.seq, data])


def opened(text: str) -> tuple[Order, dict[str, Any]]:
    """Return the order and the data of an event that was pressed."""
    wall, writer, seq, data = loads(text)
    return (wall, writer, seq), data


def told(event: Event) -> Told:
    """Return what counts of an event of kind `state`."""
    data = event.data
    facts = {name: data[name] for name in _OF_STATE if data.get(name) is not None}
    return [event.wall, event.writer, event.seq, {**facts, "name": data["name"]}]


def restore(view: View, made: str | None, changes: Iterable[Told]) -> View:
    """Let an empty view take again what a row has kept, and return it."""
    if made is not None:
        view.begin(_event(*opened(made), kind="begin"))
    for wall, writer, seq, data in changes:
        view.change(_event((wall, writer, seq), data, kind="state"))
    return view


def task_run_view(id_: str, made: str | None, changes: str) -> TaskRunView:
    """Return the view of a task run; of its jobs it knows nothing."""
    return restore(TaskRunView(id_), made, loads(changes))


def flow_run_view(id_: str, made: str | None, changes: str) -> FlowRunView:
    """Return the view of a flow run."""
    return restore(FlowRunView(id_), made, loads(changes))


def _event(order: Order, data: dict[str, Any], *, kind: str) -> Event:
    return Event("", order[1], order[2], order[0], 0.0, kind, data)
