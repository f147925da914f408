"""Flow runs: lists, single ones, their counts, and the chart of when they ran for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, func, or_, select

from hpc_flows.server.db.bulk import found
from hpc_flows.server.db.kept import flow_run_view
from hpc_flows.server.db.models import flow_run_tags, flow_runs, run_clusters, runs, task_counts
from hpc_flows.server.db.models import task_spans as spans
from hpc_flows.server.db.people import projects, users
from hpc_flows.server.db.sight import Sight, visible
from hpc_flows.server.queries.paging import checked_range, ordered, page, pattern, total_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection, Select

_SORTS: dict[str, ColumnElement[Any]] = {
    "created": flow_runs.c.created,
    "started": flow_runs.c.started,
    "ended": flow_runs.c.ended,
    "duration": flow_runs.c.ended - flow_runs.c.started,
    "name": flow_runs.c.name,
}

#: Most points of the chart.
MOST_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class FlowRunFilter:
    """Which flow runs are meant.

    Attributes:
        states: types or names of states, any of which will do; none means all.
        flow, tag, cluster, owner, project: exactly these, or None for any.
        name: a part of the name, in letters of any case.
        parent: `root` for those that are a whole run, `any`, or the id of a flow run for those
            that it has called.
        since, until: when they were made, in seconds since 1970; `until` is not included.
    """

    states: tuple[str, ...] = ()
    flow: str | None = None
    tag: str | None = None
    name: str | None = None
    cluster: str | None = None
    owner: str | None = None
    project: str | None = None
    parent: str = "root"
    since: float | None = None
    until: float | None = None


def list_flow_runs(  # what, which, in which order, how many from where
    connection: Connection,
    sight: Sight,
    chosen: FlowRunFilter,
    sort: str = "-created",
    limit: int = 50,
    offset: int = 0,
) -> dict[str, Any]:
    """Return a part of the list of flow runs.

    Raises:
        ValueError: the order, the limit or the offset cannot be.
    """
    checked_range(limit, offset)
    meant = _chosen(select(flow_runs.c.pk), sight, chosen)
    query = ordered(meant, sort, _SORTS, flow_runs.c.pk).limit(limit + 1).offset(offset)
    keys = list(connection.scalars(query))
    rows = described(connection, keys)
    return page(rows, total_of(connection, meant), limit, offset)


def flow_run(connection: Connection, sight: Sight, id_: str) -> dict[str, Any] | None:
    """Return a flow run with its history."""
    key = key_of(connection, sight, id_)
    if key is None:
        return None
    return described(connection, [key.pk], with_history=True)[0]


def key_of(connection: Connection, sight: Sight, id_: str) -> Any:
    """Return `pk`, `run_pk`, `run` (id of the root) and `version` of a flow run."""
    columns = (flow_runs.c.pk, flow_runs.c.run_pk, runs.c.id.label("run"), runs.c.version)
    query = select(*columns).join(runs, runs.c.pk == flow_runs.c.run_pk)
    query = query.where(flow_runs.c.id == id_, visible(sight)).order_by(flow_runs.c.pk).limit(1)
    return connection.execute(query).one_or_none()


def root_of(connection: Connection, sight: Sight, id_: str) -> tuple[str, str, float | None] | None:
    """Return of a flow run the id of its run, its owner's name, and when it was last heard."""
    query = (
        select(runs.c.id, users.c.name, runs.c.heard)
        .join(flow_runs, flow_runs.c.run_pk == runs.c.pk)
        .join(users, users.c.id == runs.c.owner_id)
        .where(flow_runs.c.id == id_, visible(sight))
        .order_by(flow_runs.c.pk)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else (row[0], row[1], row[2])


def counts(connection: Connection, sight: Sight, id_: str) -> dict[str, Any] | None:
    """Return how many task runs of each task are in which state, tasks as they were first heard."""
    key = key_of(connection, sight, id_)
    if key is None:
        return None
    table = task_counts.c
    times = select(spans).where(spans.c.run_pk == key.run_pk, spans.c.flow_run == id_)
    order = (spans.c.first_made, spans.c.task)
    tasks = {row.task: _no_counts(row) for row in connection.execute(times.order_by(*order))}
    query = select(table.task, table.state_type, table.state_name, table.n)
    query = query.where(table.run_pk == key.run_pk, table.flow_run == id_, table.n > 0)
    for task_name, type_, name, n in connection.execute(query.order_by(*task_counts.primary_key)):
        task = tasks[task_name]
        task["total"] += n
        if name:
            task["states"].append({"name": name, "type": type_, "count": n})
    counted = [task for task in tasks.values() if task["total"]]
    return {"tasks": counted, "version": key.version}


def _no_counts(span: Any) -> dict[str, Any]:
    return {
        "task": span.task,
        "total": 0,
        "states": [],
        "first_started": span.first_started,
        "last_ended": span.last_ended,
    }


def scatter(
    connection: Connection, sight: Sight, chosen: FlowRunFilter, points: int = 2000
) -> dict[str, Any]:
    """Return when flow runs ran and for how long: the newest `points` of those that have started.

    Raises:
        ValueError: there are too many points, or none.
    """
    if not 0 < points <= MOST_POINTS:
        raise ValueError(f"points is from 1 to {MOST_POINTS}, and {points} is not.")
    table = flow_runs.c
    columns = (table.id, table.name, table.flow, table.started, table.ended, table.state_type)
    meant = _chosen(select(*columns), sight, chosen).where(table.started.is_not(None))
    rows = connection.execute(meant.order_by(table.started.desc()).limit(points)).all()
    found_ = [
        [id_, name, flow, at, None if ended is None else ended - at, type_]
        for id_, name, flow, at, ended, type_ in rows
    ]
    left = 0
    if len(rows) == points:
        left = (connection.scalar(select(func.count()).select_from(meant.subquery())) or 0) - points
    return {"points": found_, "left_out": left}


def _chosen(query: Select[Any], sight: Sight, chosen: FlowRunFilter) -> Select[Any]:
    table = flow_runs.c
    query = query.join(runs, runs.c.pk == table.run_pk).where(visible(sight))
    for condition in _conditions(chosen):
        query = query.where(condition)
    if chosen.parent == "root":
        return query.where(table.is_root)
    return query if chosen.parent == "any" else query.where(table.parent_flow_run == chosen.parent)


def _conditions(chosen: FlowRunFilter) -> list[ColumnElement[bool]]:
    table = flow_runs.c
    meant: list[ColumnElement[bool]] = []
    if chosen.states:
        states = list(chosen.states)
        meant.append(or_(table.state_type.in_(states), table.state_name.in_(states)))
    if chosen.flow is not None:
        meant.append(table.flow == chosen.flow)
    if chosen.name is not None:
        meant.append(func.lower(table.name).like(pattern(chosen.name), escape="/"))
    if chosen.since is not None:
        meant.append(table.created >= chosen.since)
    if chosen.until is not None:
        meant.append(table.created < chosen.until)
    return meant + _of_others(chosen)


def _of_others(chosen: FlowRunFilter) -> list[ColumnElement[bool]]:
    """Return the conditions that other tables decide."""
    meant: list[ColumnElement[bool]] = []
    if chosen.tag is not None:
        tagged = select(flow_run_tags.c.flow_run_pk).where(flow_run_tags.c.tag == chosen.tag)
        meant.append(flow_runs.c.pk.in_(tagged))
    if chosen.cluster is not None:
        mine = run_clusters.c.run_pk == flow_runs.c.run_pk
        meant.append(exists().where(mine, run_clusters.c.cluster == chosen.cluster))
    if chosen.owner is not None:
        owner = select(users.c.id).where(users.c.name == chosen.owner)
        meant.append(runs.c.owner_id.in_(owner))
    if chosen.project is not None:
        project = select(projects.c.id).where(projects.c.name == chosen.project)
        meant.append(runs.c.project_id.in_(project))
    return meant


def described(
    connection: Connection, keys: Sequence[int], *, with_history: bool = False
) -> list[dict[str, Any]]:
    """Return flow runs by their keys, in that order, as the API shows them."""
    if not keys:
        return []
    table = flow_runs.c
    columns = (
        *(table.pk, table.run_pk, table.id, table.made, table.changes),
        *(runs.c.id.label("run"), runs.c.host, runs.c.heard, runs.c.skew, runs.c.version),
        *(users.c.name.label("owner"), projects.c.name.label("project")),
    )
    query = (
        select(*columns)
        .join(runs, runs.c.pk == table.run_pk)
        .join(users, users.c.id == runs.c.owner_id)
        .outerjoin(projects, projects.c.id == runs.c.project_id)
        .where(table.pk.in_(list(keys)))
    )
    rows = {row.pk: row for row in connection.execute(query)}
    tasks = _task_states(connection, list(rows.values()))
    clusters = _clusters(connection, {row.run_pk for row in rows.values()})
    shown = []
    for key in keys:
        row = rows[key]
        flow_run_ = _flow_run(row, tasks.get((row.run_pk, row.id), {}), clusters)
        if not with_history:
            flow_run_.pop("history")
        shown.append(flow_run_)
    return shown


def _flow_run(row: Any, tasks: dict[str, int], clusters: dict[int, list[str]]) -> dict[str, Any]:
    facts = flow_run_view(row.id, row.made, row.changes).to_dict()
    total = sum(tasks.values())
    return {
        **facts,
        "run": row.run,
        "owner": row.owner,
        "project": row.project,
        "clusters": clusters.get(row.run_pk, []),
        "host": row.host,
        "tasks": {type_: n for type_, n in tasks.items() if type_},
        "total_tasks": total,
        "heard": row.heard,
        "skew": row.skew,
        "version": row.version,
    }


def _task_states(connection: Connection, rows: list[Any]) -> dict[tuple[int, str], dict[str, int]]:
    table = task_counts.c
    query = (
        select(table.run_pk, table.flow_run, table.state_type, func.sum(table.n))
        .where(table.run_pk.in_({row.run_pk for row in rows}))
        .where(table.flow_run.in_({row.id for row in rows}))
        .group_by(table.run_pk, table.flow_run, table.state_type)
    )
    states: dict[tuple[int, str], dict[str, int]] = {}
    for run_pk, id_, type_, n in connection.execute(query):
        if n:
            states.setdefault((run_pk, id_), {})[type_] = int(n)
    return states


def _clusters(connection: Connection, run_pks: set[int]) -> dict[int, list[str]]:
    clusters: dict[int, list[str]] = {}
    query = "SELECT run_pk, cluster FROM run_clusters WHERE run_pk {among} ORDER BY cluster"
    for run_pk, cluster in found(connection, query, (), sorted(run_pks)):
        clusters.setdefault(run_pk, []).append(cluster)
    return clusters
