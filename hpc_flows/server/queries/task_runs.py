"""Task runs: lists and single ones, with what their jobs know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, exists, func, literal_column, or_, select

from hpc_flows.server.db.models import (
    IS_BAD,
    IS_OPEN,
    attachments,
    first_key,
    flow_runs,
    job_statuses,
    jobs,
    last_key,
    runs,
    task_counts,
    task_runs,
)
from hpc_flows.server.db.sight import Sight, visible
from hpc_flows.server.queries.describing import described, neighbours
from hpc_flows.server.queries.paging import (
    BAD,
    UNENDED,
    checked_range,
    fits,
    ordered,
    page,
    pattern,
    total_of,
)

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Select

#: When it got into the queue: as its states tell, else as its submission does.
_QUEUED = func.coalesce(task_runs.c.queued, jobs.c.submitted)

_SORTS: dict[str, ColumnElement[Any]] = {
    "created": task_runs.c.created,
    "queued": _QUEUED,
    "started": task_runs.c.started,
    "ended": task_runs.c.ended,
    "duration": task_runs.c.ended - task_runs.c.started,
    "wait": task_runs.c.started - _QUEUED,
    "name": task_runs.c.name,
    "map_index": task_runs.c.map_index,
}
_OF_JOBS = {"queued", "wait"}

#: Digits of an index that no array has.
_DIGITS = 10

_JOB = and_(jobs.c.run_pk == task_runs.c.run_pk, jobs.c.token == task_runs.c.token)
_STATUS = and_(job_statuses.c.job_pk == jobs.c.pk, job_statuses.c.element == task_runs.c.id)


@dataclass(frozen=True, slots=True)
class TaskRunFilter:
    """Which task runs are meant.

    Attributes:
        flow_run, run: ids of the flow run, or of the whole run, that they are in.
        task: name of the task.
        states: types or names of states, any of which will do; none means all.
        name: a part of the name, in letters of any case.
        job: the scheduler's id of a job or of an element of an array.
        node: the node that they run or ran on.
    """

    flow_run: str | None = None
    run: str | None = None
    task: str | None = None
    states: tuple[str, ...] = ()
    name: str | None = None
    job: str | None = None
    node: str | None = None


def list_task_runs(  # what, which, in which order, how many from where
    connection: Connection,
    sight: Sight,
    chosen: TaskRunFilter,
    sort: str = "created",
    limit: int = 50,
    offset: int = 0,
) -> dict[str, Any]:
    """Return a part of the list of task runs.

    Raises:
        ValueError: the order, the limit or the offset cannot be.
    """
    checked_range(limit, offset)
    place = _place(connection, sight, chosen)
    if place is None:
        return page([], 0, limit, offset)
    meant = select(task_runs.c.pk)
    if sort.removeprefix("-") in _OF_JOBS or chosen.job is not None:
        meant = meant.outerjoin(jobs, _JOB)
    if chosen.job is not None:
        meant = meant.outerjoin(job_statuses, _STATUS)
    searched = chosen.name is not None or chosen.node is not None
    by_index = bool(chosen.states) or (sort.removeprefix("-") == "created" and not searched)
    meant = _chosen(connection, place.limited(meant, by_index=by_index), chosen)
    query = ordered(meant, sort, _SORTS, task_runs.c.pk).limit(limit + 1).offset(offset)
    keys = list(connection.scalars(query))
    total = fits(keys, limit, offset)
    if total is None:
        total = _counted(connection, place, chosen)
    if total is None:
        total = total_of(connection, meant)
    return page(described(connection, keys), total, limit, offset)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to look: in one run that may be seen, or in all of these."""

    sight: Sight
    run_pk: int | None

    def limited(self, query: Select[Any], *, by_index: bool) -> Select[Any]:
        """Return a query for task runs there.

        Args:
            query: of `task_runs`.
            by_index: whether an index with the run in it has the order; else the rows of a run,
                which lie together, are read as they lie.
        """
        if self.run_pk is None:
            query = query.join(runs, runs.c.pk == task_runs.c.run_pk)
            return query.where(visible(self.sight))
        if by_index:
            return query.where(task_runs.c.run_pk == self.run_pk)
        keys = (first_key(self.run_pk), last_key(self.run_pk))
        return query.where(task_runs.c.pk.between(*keys))


def _place(connection: Connection, sight: Sight, chosen: TaskRunFilter) -> _Place | None:
    """Return where to look for what is meant; None if that cannot be seen."""
    if chosen.run is None and chosen.flow_run is None:
        return _Place(sight, None)
    query = select(runs.c.pk).where(visible(sight))
    if chosen.run is not None:
        query = query.where(runs.c.id == chosen.run)
    if chosen.flow_run is not None:
        inside = select(flow_runs.c.run_pk).where(flow_runs.c.id == chosen.flow_run)
        query = query.where(runs.c.pk.in_(inside))
    key = connection.scalar(query.order_by(runs.c.pk).limit(1))
    return None if key is None else _Place(sight, key)


def task_run(connection: Connection, sight: Sight, id_: str) -> dict[str, Any] | None:
    """Return a task run with its history, its attempts, and those before and after it."""
    row = _row(connection, sight, id_)
    if row is None:
        return None
    shown = described(connection, [row.pk], in_detail=True)[0]
    has_output = connection.scalar(select(_output(row.run_pk, id_).exists()))
    return {**shown, **neighbours(connection, row.run_pk, shown), "has_output": bool(has_output)}


def output(connection: Connection, sight: Sight, id_: str) -> dict[str, Any] | None:
    """Return the tail of what the job of a task run wrote, or None if it was not sent."""
    row = _row(connection, sight, id_)
    if row is None:
        return None
    kept = connection.execute(_output(row.run_pk, id_)).one_or_none()
    return None if kept is None else {"text": kept.content, "updated": kept.updated}


def _output(run_pk: int, id_: str) -> Select[Any]:
    table = attachments.c
    of_it = (table.run_pk == run_pk, table.kind == "output", table.key == id_)
    return select(table.content, table.updated).where(*of_it)


def _row(connection: Connection, sight: Sight, id_: str) -> Any:
    query = (
        select(task_runs.c.pk, task_runs.c.run_pk)
        .join(runs, runs.c.pk == task_runs.c.run_pk)
        .where(task_runs.c.id == id_, visible(sight))
        .order_by(task_runs.c.pk)
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def _chosen(connection: Connection, query: Select[Any], chosen: TaskRunFilter) -> Select[Any]:
    table = task_runs.c
    for condition in _of_states(chosen.states):
        query = query.where(condition)
    if chosen.flow_run is not None:
        query = query.where(table.flow_run == chosen.flow_run)
    if chosen.task is not None:
        query = query.where(table.task == chosen.task)
    if chosen.name is not None:
        query = query.where(func.lower(table.name).like(pattern(chosen.name), escape="/"))
    if chosen.node is not None:
        query = query.where(_on_node(chosen.node))
    if chosen.job is not None:
        query = query.where(_of_job(connection, chosen))
    return query


def _on_node(node: str) -> ColumnElement[bool]:
    """Return the condition that a task run was on a node: its states tell it, or its job does."""
    job, status = jobs.alias(), job_statuses.alias()
    said = exists().where(
        job.c.run_pk == task_runs.c.run_pk,
        job.c.token == task_runs.c.token,
        status.c.job_pk == job.c.pk,
        status.c.element == task_runs.c.id,
        status.c.nodes == node,
    )
    unsaid = and_(task_runs.c.node.is_(None), task_runs.c.token.is_not(None))
    return or_(task_runs.c.node == node, and_(unsaid, said))


def _of_states(states: tuple[str, ...]) -> list[ColumnElement[bool]]:
    """Return the condition on states, with that of a partial index where it holds as well."""
    if not states:
        return []
    table = task_runs.c
    meant: list[ColumnElement[bool]] = [
        or_(table.state_type.in_(list(states)), table.state_name.in_(list(states)))
    ]
    if set(states) <= set(BAD):
        meant.append(literal_column(f"task_runs.{IS_BAD}"))
    elif set(states) <= set(UNENDED):
        meant.append(literal_column(f"task_runs.{IS_OPEN}"))
    return meant


def _of_job(connection: Connection, chosen: TaskRunFilter) -> ColumnElement[bool]:
    """Return the condition that a task run is in a job: its states tell it, or its job does."""
    table = task_runs.c
    asked = chosen.job or ""
    base, _, index = asked.partition("_")
    keys = list(connection.scalars(select(jobs.c.pk).where(jobs.c.job_base == base)))
    inside: ColumnElement[bool] = jobs.c.pk.in_(keys)
    if index:
        element = func.coalesce(table.job, job_statuses.c.job)
        place = int(index) if index.isdecimal() and len(index) < _DIGITS else -1
        unsaid = and_(element.is_(None), jobs.c.is_array, table.job_index == place)
        inside = and_(inside, or_(element == asked, unsaid))
    # Without a run to look in, what no submission of ours tells of would be looked for everywhere.
    return or_(inside, table.job == asked) if chosen.run or chosen.flow_run else inside


def _counted(connection: Connection, place: _Place, chosen: TaskRunFilter) -> int | None:
    """Return how many are meant where the counts tell; None where the rows must be counted."""
    if chosen.name is not None or chosen.job is not None or chosen.node is not None:
        return None
    table = task_counts.c
    query = select(func.sum(table.n))
    if place.run_pk is None:
        query = query.join(runs, runs.c.pk == table.run_pk).where(visible(place.sight))
    else:
        query = query.where(table.run_pk == place.run_pk)
    if chosen.flow_run is not None:
        query = query.where(table.flow_run == chosen.flow_run)
    if chosen.task is not None:
        query = query.where(table.task == chosen.task)
    if chosen.states:
        states = list(chosen.states)
        query = query.where(or_(table.state_type.in_(states), table.state_name.in_(states)))
    return int(connection.scalar(query) or 0)
