"""When task runs waited, queued and ran: one by one, or counted in steps when they are many."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, literal, or_, select

from hpc_flows.server.db.models import (
    first_key,
    jobs,
    last_key,
    task_counts,
    task_run_facts,
    task_runs,
    task_spans,
)
from hpc_flows.server.db.texts import loads, seconds
from hpc_flows.server.queries.describing import attempts
from hpc_flows.server.queries.flow_runs import key_of
from hpc_flows.server.queries.paging import step_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection

    from hpc_flows.server.db.sight import Sight

#: Most steps of a timeline that is counted.
STEPS = 240

#: Most task runs that are shown one by one, whatever is asked for.
MOST_ROWS = 10_000

#: Least and most seconds for which the timeline of what goes on is shown as it was.
_LEAST_HOLD, _MOST_HOLD = 0.5, 5.0


@dataclass(frozen=True, slots=True)
class TimelineFilter:
    """Which task runs are meant.

    Attributes:
        task: name of the task.
        state: type or name of a state.
        begin, end: only what happened between, in seconds since 1970.
        limit: most task runs that are shown one by one.
    """

    task: str | None = None
    state: str | None = None
    begin: float | None = None
    end: float | None = None
    limit: int = 2000


def timeline(
    connection: Connection, sight: Sight, id_: str, chosen: TimelineFilter
) -> dict[str, Any] | None:
    """Return the timeline of a flow run's task runs.

    Up to the limit, `rows` has each attempt of each; what only a job's submission tells stands in
    as well. Above it, `tasks` has for each task how many of its runs were waiting, queued, running
    and ended at the end of each step; of a run that was tried again, the newest attempt counts.

    Raises:
        ValueError: the limit cannot be.
    """
    if not 0 < chosen.limit <= MOST_ROWS:
        raise ValueError(f"limit is from 1 to {MOST_ROWS}, and {chosen.limit} is not.")
    key = key_of(connection, sight, id_)
    if key is None:
        return None
    mine = [task_runs.c.run_pk == key.run_pk, task_runs.c.flow_run == id_]
    meant = [*mine, *_conditions(chosen)]
    if not _is_many(connection, key.run_pk, id_, chosen):
        rows = connection.execute(_rows_query(meant, chosen.limit + 1)).all()
        if len(rows) <= chosen.limit:
            return _rows(rows, chosen)
    stretch = _stretch(connection, key.run_pk, id_, chosen)
    # The rows of a run lie together: read in that order, all of them come quickest.
    together = task_runs.c.pk.between(first_key(key.run_pk), last_key(key.run_pk))
    return _bins(connection, [together, *meant[1:]], *stretch)


def holds_for(shown: dict[str, Any], chosen: TimelineFilter) -> float | None:
    """Return for how many seconds a timeline can be shown while its run does not change.

    Where something has not ended, its bar grows with time: about a step is not seen. None is for
    as long as the run does not change.
    """
    if chosen.end is not None or not _has_open(shown):
        return None
    step = ((shown["end"] or 0.0) - (shown["begin"] or 0.0)) / STEPS
    return min(max(step, _LEAST_HOLD), _MOST_HOLD)


def _has_open(shown: dict[str, Any]) -> bool:
    if shown["mode"] == "rows":
        return any(row["ended"] is None for row in shown["rows"])
    stages = ("waiting", "queued", "running")
    return any(task[stage][-1] for task in shown["tasks"] for stage in stages)


def _conditions(chosen: TimelineFilter) -> list[ColumnElement[bool]]:
    table = task_runs.c
    meant: list[ColumnElement[bool]] = []
    if chosen.task is not None:
        meant.append(table.task == chosen.task)
    if chosen.state is not None:
        meant.append(or_(table.state_type == chosen.state, table.state_name == chosen.state))
    if chosen.begin is not None:
        meant.append(or_(table.ended.is_(None), table.ended >= chosen.begin))
    if chosen.end is not None:
        meant.append(table.created <= chosen.end)
    return meant


def _is_many(connection: Connection, run_pk: int, id_: str, chosen: TimelineFilter) -> bool:
    """Tell from the counts whether there are more than the limit; False if they cannot tell."""
    if chosen.begin is not None or chosen.end is not None:
        return False
    table = task_counts.c
    query = select(func.sum(table.n)).where(table.run_pk == run_pk, table.flow_run == id_)
    if chosen.task is not None:
        query = query.where(table.task == chosen.task)
    if chosen.state is not None:
        state = or_(table.state_type == chosen.state, table.state_name == chosen.state)
        query = query.where(state)
    return int(connection.scalar(query) or 0) > chosen.limit


def _rows_query(meant: list[ColumnElement[bool]], limit: int) -> Any:
    table, facts = task_runs.c, task_run_facts.c
    columns = (
        *(table.id, table.name, table.task, table.attempt, table.created, table.started),
        *(table.ended, table.state_type, table.state_name, facts.made, facts.changes),
        func.coalesce(table.queued, jobs.c.submitted).label("queued"),
    )
    of_job = and_(jobs.c.run_pk == table.run_pk, jobs.c.token == table.token)
    return (
        select(*columns)
        .join(task_run_facts, facts.pk == table.pk)
        .outerjoin(jobs, of_job)
        .where(*meant)
        .order_by(table.created, table.pk)
        .limit(limit)
    )


def _rows(found: Iterable[Any], chosen: TimelineFilter) -> dict[str, Any]:
    rows = [row for each in found for row in _attempts(each) if _overlaps(row, chosen)]
    times = [
        at
        for row in rows
        for at in (row["created"], row["queued"], row["started"], row["ended"])
        if at is not None
    ]
    begin = chosen.begin if chosen.begin is not None else min(times, default=None)
    end = chosen.end if chosen.end is not None else max(times, default=None)
    if chosen.end is None and any(row["ended"] is None for row in rows):
        end = max(time.time(), end or 0.0)
    return {"mode": "rows", "rows": rows, "begin": begin, "end": end}


def _attempts(row: Any) -> list[dict[str, Any]]:
    names = ("created", "queued", "started", "ended", "state_type", "state_name")
    shared = {"id": row.id, "name": row.name, "task": row.task, "walltime": _walltime(row.made)}
    if row.attempt > 1:
        tried = attempts(row.id, loads(row.changes))
        numbers = ("attempt", *names)
        return [{**shared, **{name: each[name] for name in numbers}} for each in tried]
    return [{**shared, "attempt": 1, **{name: getattr(row, name) for name in names}}]


def _overlaps(row: dict[str, Any], chosen: TimelineFilter) -> bool:
    if chosen.begin is not None and row["ended"] is not None and row["ended"] < chosen.begin:
        return False
    return chosen.end is None or row["created"] is None or row["created"] <= chosen.end


def _walltime(made: str | None) -> float | None:
    """Return the seconds that a task run asked for, from the event that made it."""
    resources = None if made is None else loads(made)[3].get("resources")
    return seconds(resources.get("walltime")) if isinstance(resources, dict) else None


def _stretch(
    connection: Connection, run_pk: int, id_: str, chosen: TimelineFilter
) -> tuple[float, float]:
    table = task_spans.c
    query = select(func.min(table.first_made), func.max(table.last_ended))
    query = query.where(table.run_pk == run_pk, table.flow_run == id_)
    if chosen.task is not None:
        query = query.where(table.task == chosen.task)
    first, last = connection.execute(query).one()
    unended = (
        select(func.count())
        .select_from(task_counts)
        .where(
            task_counts.c.run_pk == run_pk,
            task_counts.c.flow_run == id_,
            task_counts.c.n > 0,
            task_counts.c.state_type.not_in(("COMPLETED", "FAILED", "CANCELLED", "CRASHED")),
        )
    )
    if last is None or connection.scalar(unended):
        last = max(time.time(), last or 0.0)
    begin = first if chosen.begin is None else chosen.begin
    end = last if chosen.end is None else chosen.end
    begin = end if begin is None else begin
    return begin, max(end, begin)


def _bins(
    connection: Connection, meant: list[ColumnElement[bool]], begin: float, end: float
) -> dict[str, Any]:
    # A little longer, so that the very end still lies within the last step.
    step = max((end - begin) / STEPS, 1e-3) * (1 + 1e-9)
    table = task_runs.c
    left_queue = func.coalesce(table.started, table.ended)
    moments = (table.created, func.coalesce(table.queued, left_queue), left_queue, table.ended)
    places = [(moment - literal(begin)) / literal(step) for moment in moments]
    columns = [step_of(connection, place, STEPS) for place in places]
    query = select(table.task, *columns, func.count()).where(*meant)
    tasks: dict[str, list[list[int]]] = {}
    for task, *steps, n in connection.execute(query.group_by(table.task, *columns)):
        arrivals = tasks.setdefault(task, [[0] * STEPS for _ in moments])
        for at, into in zip(steps, arrivals, strict=True):
            if at is not None and at < STEPS:  # else it was after the end
                into[at] += n
    return {
        "mode": "bins",
        "begin": begin,
        "end": end,
        "step": step,
        "tasks": [{"task": task, **_stages(arrivals)} for task, arrivals in tasks.items()],
    }


def _stages(arrivals: list[list[int]]) -> dict[str, list[int]]:
    """Return how many are in each stage at the end of each step, from how many entered it in it."""
    made, left, started, ended = (_sums(each) for each in arrivals)
    return {
        "waiting": [a - b for a, b in zip(made, left, strict=True)],
        "queued": [a - b for a, b in zip(left, started, strict=True)],
        "running": [a - b for a, b in zip(started, ended, strict=True)],
        "ended": ended,
    }


def _sums(numbers: list[int]) -> list[int]:
    total = 0
    sums = []
    for number in numbers:
        total += number
        sums.append(total)
    return sums
