"""Log records: followed, searched, and read backwards, with cursors that stay right."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, tuple_

from hpc_flows.server.db.models import first_key, flow_runs, last_key, logs, runs, task_runs
from hpc_flows.server.db.sight import Sight, visible
from hpc_flows.server.queries.paging import checked_range, pattern

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select

#: Most records that one answer looks through. A search that has found too few by then gives what
#: it has and where to go on, so that nobody waits and nothing is left out.
LOOKED_THROUGH = 50_000


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which log records are meant; at least one of the first three has to be given.

    Attributes:
        run, flow_run, task_run: whose, by id.
        level: the least number of a level, such as 30 for warnings and worse.
        search: a part of the message, in letters of any case.
    """

    run: str | None = None
    flow_run: str | None = None
    task_run: str | None = None
    level: int | None = None
    search: str | None = None


def list_logs(  # what, which, from where to where, in which order, how many
    connection: Connection,
    sight: Sight,
    chosen: LogFilter,
    after: str | None = None,
    before: str | None = None,
    order: str = "asc",
    limit: int = 200,
) -> dict[str, Any]:
    """Return log records after or before a cursor.

    Returns:
        `items`, each with its `cursor`; `next`, from where to go on in the same order (as `after`
        when it is ascending, as `before` when descending) or None at the end; `previous`, the
        other way; `dropped`, how many the run could not keep; `arrived`, for `list_arrivals`.

    Raises:
        ValueError: a cursor, the order or the limit cannot be, or the run is not told.
    """
    checked_range(limit, 0)
    if order not in ("asc", "desc"):
        raise ValueError(f"order is asc or desc, and {order!r:.50} is not.")
    run = _run_of(connection, sight, chosen)
    if run is None:
        return dict(_NOTHING)
    place = _Place(order == "asc", after, before)
    meant = _of(run.pk, chosen)
    of_task_run = chosen.task_run is not None
    end = _end(connection, meant, place, task_run=of_task_run) if _is_search(chosen) else None
    rows = connection.execute(_found(meant, chosen, place, end).limit(limit + 1)).all()
    items = [_record(row) for row in rows[:limit]]
    if len(rows) > limit:
        end = items[-1]["cursor"]
    previous = items[0]["cursor"] if items else after or before
    return {
        "items": items,
        "next": end,
        "previous": previous,
        "dropped": run.dropped,
        "arrived": _last_of(run),
    }


def list_arrivals(
    connection: Connection, sight: Sight, chosen: LogFilter, arrived: str, limit: int = 200
) -> dict[str, Any]:
    """Return the log records that came after an answer, in the order in which they came.

    Who follows a log asks for these: what a node has written is often seen later than what the
    driver wrote after it, and then lies before every cursor that was reached.

    Returns:
        As `list_logs`; `arrived` is where to go on, and `next` is the same while more are there.

    Raises:
        ValueError: `arrived` is none that an answer had, the limit cannot be, or the run is not
            told.
    """
    checked_range(limit, 0)
    place = _cursor(f"0:{arrived}")[1]
    run = _run_of(connection, sight, chosen)
    if run is None:
        return dict(_NOTHING)
    # By the key alone, whose end is what is new.
    new = [logs.c.pk > max(place, first_key(run.pk)), logs.c.pk <= last_key(run.pk)]
    query = _narrowed(_records([*new, *_of(run.pk, chosen)[1:]]), chosen).order_by(logs.c.pk)
    rows = connection.execute(query.limit(limit + 1)).all()
    items = [_record(row) for row in rows[:limit]]
    more = items[-1]["id"] if len(rows) > limit else None
    return {
        "items": items,
        "next": more,
        "previous": arrived,
        "dropped": run.dropped,
        "arrived": more or _last_of(run),
    }


_NOTHING: dict[str, Any] = {
    "items": [],
    "next": None,
    "previous": None,
    "dropped": 0,
    "arrived": "0",
}


def _last_of(run: Any) -> str:
    """Return the number of the last thing that a run has heard of."""
    return str(first_key(run.pk) + run.counter)


def _run_of(connection: Connection, sight: Sight, chosen: LogFilter) -> Any:
    query = select(runs.c.pk, runs.c.dropped, runs.c.counter).where(visible(sight))
    if chosen.run is not None:
        query = query.where(runs.c.id == chosen.run)
    if chosen.flow_run is not None:
        inside = select(flow_runs.c.run_pk).where(flow_runs.c.id == chosen.flow_run)
        query = query.where(runs.c.pk.in_(inside))
    if chosen.task_run is not None:
        inside = select(task_runs.c.run_pk).where(task_runs.c.id == chosen.task_run)
        query = query.where(runs.c.pk.in_(inside))
    if chosen.run is chosen.flow_run is chosen.task_run is None:
        raise ValueError("Say whose log it shall be: run, flow_run or task_run.")
    return connection.execute(query.order_by(runs.c.pk).limit(1)).one_or_none()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one reads, and whether upwards."""

    up: bool
    after: str | None
    before: str | None

    def bounded(self, query: Select[Any]) -> Select[Any]:
        """Return a query for records between the cursors, in order."""
        place = tuple_(logs.c.wall, logs.c.pk)
        if self.after is not None:
            query = query.where(place > tuple_(*_cursor(self.after)))
        if self.before is not None:
            query = query.where(place < tuple_(*_cursor(self.before)))
        columns = (logs.c.wall, logs.c.pk)
        return query.order_by(*(each.asc() if self.up else each.desc() for each in columns))


def _of(run_pk: int, chosen: LogFilter) -> list[ColumnElement[bool]]:
    if chosen.task_run is not None:
        # With a sum the index of the run is of no use, so that the task run's own one is taken.
        meant = [logs.c.run_pk + 0 == run_pk, logs.c.task_run == chosen.task_run]
    else:
        meant = [logs.c.run_pk == run_pk]
    if chosen.flow_run is not None:
        meant.append(logs.c.flow_run == chosen.flow_run)
    return meant


def _is_search(chosen: LogFilter) -> bool:
    return chosen.search is not None or chosen.level is not None


def _end(
    connection: Connection, meant: list[ColumnElement[bool]], place: _Place, *, task_run: bool
) -> str | None:
    """Return the cursor of the last record that is looked at, or None if that is the last one."""
    # By what an index has: a flow run's filter would look at the rows.
    by_index = meant[:2] if task_run else meant[:1]
    query = place.bounded(select(logs.c.wall, logs.c.pk).where(*by_index))
    last = connection.execute(query.limit(1).offset(LOOKED_THROUGH - 1)).one_or_none()
    return None if last is None else _written(last.wall, last.pk)


def _found(
    meant: list[ColumnElement[bool]], chosen: LogFilter, place: _Place, end: str | None
) -> Select[Any]:
    query = _narrowed(place.bounded(_records(meant)), chosen)
    if end is not None:
        last = tuple_(logs.c.wall, logs.c.pk)
        query = query.where(
            last <= tuple_(*_cursor(end)) if place.up else last >= tuple_(*_cursor(end))
        )
    return query


def _records(meant: list[ColumnElement[bool]]) -> Select[Any]:
    name = (
        select(task_runs.c.name)
        .where(task_runs.c.run_pk == logs.c.run_pk, task_runs.c.id == logs.c.task_run)
        .scalar_subquery()
    )
    return select(logs, name.label("task_run_name")).where(*meant)


def _narrowed(query: Select[Any], chosen: LogFilter) -> Select[Any]:
    """Return a query for those records only that are searched for."""
    if chosen.level is not None:
        query = query.where(logs.c.level >= chosen.level)
    if chosen.search is not None:
        text = func.lower(logs.c.message)
        query = query.where(text.like(pattern(chosen.search), escape="/"))
    return query


def _record(row: Any) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "cursor": _written(row.wall, row.pk),
        "t": row.wall,
        "level": row.level,
        "message": row.message,
        "logger": row.logger,
        "task_run": row.task_run,
        "task_run_name": row.task_run_name,
        "flow_run": row.flow_run,
    }


def _written(t: float, pk: int) -> str:
    return f"{t!r}:{pk}"


def _cursor(text: str) -> tuple[float, int]:
    """Return the place that a cursor names.

    Raises:
        ValueError: it is none.
    """
    t, colon, pk = text.partition(":")
    try:
        place = float(t), int(pk)
    except ValueError:
        place = float("nan"), 0
    if not colon or isnan(place[0]) or not 0 <= place[1] < 2**63:
        raise ValueError(f"{text!r:.80} is no cursor: give one that an answer had.")
    return place
