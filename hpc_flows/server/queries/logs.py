"""Log records: followed, searched, and read backwards, with cursors that stay right."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select, tuple_

from hpc_flows.server.db.models import flow_runs, logs, runs, task_runs
from hpc_flows.server.db.sight import Sight, visible
from hpc_flows.server.queries.paging import checked_range, pattern

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

#: Most records that one answer looks through. A search that has found too few by then gives what
#: it has and where to go on, so that nobody waits and nothing is left out.
LOOKED_THROUGH = 100_000


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
        other way; `dropped`, how many the run could not keep.

    Raises:
        ValueError: a cursor, the order or the limit cannot be, or the run is not told.
    """
    checked_range(limit, 0)
    if order not in ("asc", "desc"):
        raise ValueError(f"order is asc or desc, and {order!r:.50} is not.")
    run = _run_of(connection, sight, chosen)
    if run is None:
        return {"items": [], "next": None, "previous": None, "dropped": 0}
    looked = _looked_through(run.pk, chosen, after, before, order).subquery()
    of_task = and_(task_runs.c.run_pk == looked.c.run_pk, task_runs.c.id == looked.c.task_run)
    query = select(looked, task_runs.c.name.label("task_run_name"))
    query = query.select_from(looked.outerjoin(task_runs, of_task))
    if chosen.level is not None:
        query = query.where(looked.c.level >= chosen.level)
    if chosen.search is not None:
        text = func.lower(looked.c.message)
        query = query.where(text.like(pattern(chosen.search), escape="/"))
    up = order == "asc"
    by = [column.asc() if up else column.desc() for column in (looked.c.wall, looked.c.pk)]
    rows = connection.execute(query.order_by(*by).limit(limit + 1)).all()
    items = [_record(row) for row in rows[:limit]]
    following = items[-1]["cursor"] if len(rows) > limit else None
    if following is None:
        following = _end_of(connection, looked, up=up)
    previous = items[0]["cursor"] if items else after or before
    return {"items": items, "next": following, "previous": previous, "dropped": run.dropped}


def _run_of(connection: Connection, sight: Sight, chosen: LogFilter) -> Any:
    query = select(runs.c.pk, runs.c.dropped).where(visible(sight))
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


def _looked_through(
    run_pk: int, chosen: LogFilter, after: str | None, before: str | None, order: str
) -> Select[Any]:
    table = logs.c
    query = select(logs).where(table.run_pk == run_pk)
    if chosen.task_run is not None:
        query = query.where(table.task_run == chosen.task_run)
    if chosen.flow_run is not None:
        query = query.where(table.flow_run == chosen.flow_run)
    place = tuple_(table.wall, table.pk)
    if after is not None:
        query = query.where(place > tuple_(*_cursor(after)))
    if before is not None:
        query = query.where(place < tuple_(*_cursor(before)))
    columns = (table.wall, table.pk)
    by = [column.asc() if order == "asc" else column.desc() for column in columns]
    return query.order_by(*by).limit(LOOKED_THROUGH)


def _end_of(connection: Connection, looked: Any, *, up: bool) -> str | None:
    """Return the cursor of the last record that was looked through, if more may follow it."""
    count = connection.scalar(select(func.count()).select_from(looked))
    if count is None or count < LOOKED_THROUGH:
        return None
    by = [column.desc() if up else column.asc() for column in (looked.c.wall, looked.c.pk)]
    last = connection.execute(select(looked.c.wall, looked.c.pk).order_by(*by).limit(1)).one()
    return _written(last.wall, last.pk)


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
