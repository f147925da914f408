"""Flow runs, task runs and log records that fit a filter.

The server narrows what it gives where it can; whether a row fits is decided here, so that each
filter means what it says whatever the server knows of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpc_flows.client.errors import NOT_FOUND, ServerRefusal
from hpc_flows.client.schemas.filters import FlowFilter, FlowRunFilter, LogFilter, TaskRunFilter
from hpc_flows.client.schemas.objects import FlowRun, TaskRun, log_of
from hpc_flows.client.schemas.sorting import FlowRunSort, LogSort, TaskRunSort
from hpc_flows.exceptions import OptionValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hpc_flows.client.api import Api
    from hpc_flows.client.schemas.objects import Log

#: The server's words for Prefect's orders.
_ORDERS = {
    "START_TIME_ASC": "started",
    "START_TIME_DESC": "-started",
    "EXPECTED_START_TIME_ASC": "created",
    "EXPECTED_START_TIME_DESC": "-created",
    "NAME_ASC": "name",
    "NAME_DESC": "-name",
    "END_TIME_DESC": "-ended",
}
_PAGE = 500


def flow_runs(api: Api, run_filter: Any, flow_filter: Any, sort: Any) -> Iterator[FlowRun]:
    """Give the flow runs that fit both filters."""
    chosen, flow = _given(FlowRunFilter, run_filter), _given(FlowFilter, flow_filter)
    order = _order(FlowRunSort, sort, "-created")
    ids = chosen.get("id", "any_")
    if ids is not None:
        rows: Iterable[FlowRun] = _sorted([FlowRun(row) for row in _each(api.flow_run, ids)], order)
    else:
        narrowed = _narrowed_flow_runs(chosen, flow)
        rows = map(FlowRun, _once(api.every("/flow-runs", sort=order, **narrowed)))
    return (run for run in rows if chosen.fits(run) and flow.fits(run))


def _narrowed_flow_runs(chosen: FlowRunFilter, flow: FlowFilter) -> dict[str, Any]:
    tags = chosen.get("tags", "all_")
    return {
        "state": _states(chosen),
        "flow": _only(flow.get("name", "any_")),
        "tag": tags[0] if tags else None,
        "name": _name(chosen),
        "parent": _only(chosen.get("parent_flow_run_id", "any_")) or "any",
    }


def task_runs(
    api: Api, run_filter: Any, of_flow_runs: tuple[Any, Any], sort: Any
) -> Iterator[TaskRun]:
    """Give the task runs that fit, of the flow runs that fit their filters."""
    chosen, order = _given(TaskRunFilter, run_filter), _order(TaskRunSort, sort, "created")
    inside = _inside(api, chosen, of_flow_runs)
    ids = chosen.get("id", "any_")
    if ids is not None:
        rows: Iterable[TaskRun] = _sorted([TaskRun(row) for row in _each(api.task_run, ids)], order)
    else:
        only = None if inside is None else _only(sorted(inside))
        narrowed = {"flow_run": only, "state": _states(chosen), "name": _name(chosen)}
        # Nothing is in no flow run: the server is not asked for all.
        none = inside is not None and not inside
        rows = () if none else map(TaskRun, _once(api.every("/task-runs", sort=order, **narrowed)))
    return (
        run for run in rows if chosen.fits(run) and (inside is None or run.flow_run_id in inside)
    )


def _inside(api: Api, chosen: TaskRunFilter, filters: tuple[Any, Any]) -> set[str] | None:
    """Return the ids of the flow runs that are meant, or None for any."""
    ids = chosen.get("flow_run_id", "any_")
    inside = None if ids is None else set(ids)
    if filters != (None, None):
        fitting = {run.id for run in flow_runs(api, *filters, None)}
        inside = fitting if inside is None else inside & fitting
    return inside


def log_records(api: Api, log_filter: Any, sort: Any) -> Iterator[Log]:
    """Give the log records of the runs that the filter names.

    Raises:
        OptionValueError: it names no run, or several at once where only one can be read in order.
    """
    chosen = _given(LogFilter, log_filter)
    order = "desc" if LogSort(_word(LogSort, sort)) is LogSort.TIMESTAMP_DESC else "asc"
    whose = _whose(chosen)
    least = chosen.get("level", "ge_")
    narrowed = {"level": None if least is None else max(0, int(least)), "order": order}
    records = [_log_pages(api, {**narrowed, **each}) for each in whose]
    if len(records) == 1:
        return (record for record in records[0] if chosen.fits(record))
    found = [record for each in records for record in each if chosen.fits(record)]
    return iter(sorted(found, key=lambda each: each.timestamp, reverse=order == "desc"))


def _whose(chosen: LogFilter) -> list[dict[str, str]]:
    of_task_runs = chosen.get("task_run_id", "any_")
    if of_task_runs:
        return [{"task_run": id_} for id_ in dict.fromkeys(of_task_runs)]
    of_flow_runs = chosen.get("flow_run_id", "any_")
    if of_flow_runs:
        return [{"flow_run": id_} for id_ in dict.fromkeys(of_flow_runs)]
    msg = (
        "Log records are read of one run at a time: give LogFilter(flow_run_id={'any_': [id]}) or "
        "LogFilter(task_run_id={'any_': [id]})."
    )
    raise OptionValueError(msg)


def _log_pages(api: Api, narrowed: dict[str, Any]) -> Iterator[Log]:
    """Give log records page by page; a page may be empty and yet tell where to go on."""
    place: dict[str, Any] = {}
    side = "before" if narrowed["order"] == "desc" else "after"
    while True:
        page = api.logs(**narrowed, **place, limit=_PAGE)
        yield from map(log_of, page["items"])
        if not page.get("next"):
            return
        place = {side: page["next"]}


# What filters and orders say ----------------------------------------------------------------------


def _given(kind: Callable[..., Any], wanted: Any) -> Any:
    """Return a filter; a dict is read, and None is the filter that everything fits."""
    if wanted is None or isinstance(wanted, dict):
        return kind(**(wanted or {}))
    if not isinstance(wanted, kind):  # type: ignore[arg-type]  # each is a class
        raise OptionValueError(f"Give a {kind.__name__} or a dict, not {wanted!r:.200}.")
    return wanted


def _word(kind: Any, sort: Any) -> str:
    word = str(getattr(sort, "value", sort))
    if word not in kind.__members__:
        known = ", ".join(kind.__members__)
        raise OptionValueError(f"sort is one of {known}; {sort!r:.100} is none.")
    return word


def _order(kind: Any, sort: Any, otherwise: str) -> str:
    return otherwise if sort is None else _ORDERS[_word(kind, sort)]


def _states(chosen: Any) -> list[str] | None:
    """Return the types or names one of which a run has to be in, or None for any."""
    found: list[str] | None = chosen.get("state", "type", "any_")
    return found or chosen.get("state", "name", "any_") or None


def _name(chosen: Any) -> str | None:
    """Return a part of the name that a run has to have, or None."""
    return chosen.get("name", "like_") or _only(chosen.get("name", "any_"))


def _only(texts: list[str] | None) -> str | None:
    return texts[0] if texts is not None and len(texts) == 1 else None


def _each(read: Callable[[str], Any], ids: list[str]) -> Iterator[Any]:
    """Give the rows of those ids that there are."""
    for id_ in dict.fromkeys(ids):
        try:
            yield read(id_)
        except ServerRefusal as error:
            if error.status != NOT_FOUND:
                raise


def _once(rows: Iterator[Any]) -> Iterator[Any]:
    """Give each row once: runs that begin between two pages push others onto the next page."""
    seen: set[str] = set()
    for row in rows:
        if row["id"] not in seen:
            seen.add(row["id"])
            yield row


_ATTRIBUTES = {
    "created": "created",
    "started": "start_time",
    "ended": "end_time",
    "name": "name",
}


def _sorted(runs: list[Any], order: str) -> list[Any]:
    """Return runs in one of the server's orders; those without a time come last."""
    attribute = _ATTRIBUTES[order.removeprefix("-")]
    known = [run for run in runs if getattr(run, attribute) is not None]
    known.sort(key=lambda run: getattr(run, attribute), reverse=order.startswith("-"))
    return known + [run for run in runs if getattr(run, attribute) is None]
