"""The graph of a flow run: its tasks as nodes, one for all runs of each, and what takes what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from hpc_flows.server.db.bulk import found
from hpc_flows.server.db.kept import opened
from hpc_flows.server.db.models import edges, flow_runs, task_counts, task_runs, task_spans
from hpc_flows.server.queries.flow_runs import described, key_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from hpc_flows.server.db.sight import Sight

#: Most runs of a task that is opened, and most tasks and subflows, that become nodes.
OPENED, MOST_NODES = 500, 1000

#: Most tasks that can be open at a time.
MOST_OPEN = 20

Pair = tuple[str, str]


def graph(
    connection: Connection, sight: Sight, id_: str, open_tasks: tuple[str, ...] = ()
) -> dict[str, Any] | None:
    """Return the graph of a flow run.

    Args:
        connection: where to ask.
        sight: who looks.
        id_: of the flow run.
        open_tasks: tasks whose runs shall be nodes of their own.

    Raises:
        ValueError: too many tasks are open.
    """
    if len(open_tasks) > MOST_OPEN:
        raise ValueError(
            f"At most {MOST_OPEN} tasks can be open, and {len(open_tasks)} are asked for."
        )
    key = key_of(connection, sight, id_)
    if key is None:
        return None
    tasks = _tasks(connection, key.run_pk, id_)
    flows = _subflows(connection, key.run_pk, id_)
    shown = dict(list(tasks.items())[:MOST_NODES])
    open_ = [task for task in open_tasks if task in shown]
    runs = {task: _runs(connection, key.run_pk, id_, task) for task in open_}
    left_out = (
        len(tasks) - len(shown) + sum(shown[task]["total"] - len(runs[task]) for task in open_)
    )
    nodes = [node for task, node in shown.items() if task not in runs]
    nodes += [_run_node(task, row) for task, rows in runs.items() for row in rows]
    nodes += flows[: MOST_NODES - len(shown)]
    left_out += len(flows) - len(flows[: MOST_NODES - len(shown)])
    arrows = _edges(connection, key, id_, runs)
    known = {node["id"] for node in nodes}
    kept = [[a, b, n] for (a, b), n in arrows.items() if a in known and b in known and n > 0]
    return {"nodes": nodes, "edges": kept, "left_out": left_out}


def _tasks(connection: Connection, run_pk: int, id_: str) -> dict[str, dict[str, Any]]:
    spans = task_spans.c
    order = select(spans.task).where(spans.run_pk == run_pk, spans.flow_run == id_)
    names = connection.scalars(order.order_by(spans.first_made, spans.task))
    nodes = {task: _node(_task_id(task), "tasks", task, task) for task in names}
    table = task_counts.c
    query = select(table.task, table.state_type, func.sum(table.n)).where(
        table.run_pk == run_pk, table.flow_run == id_
    )
    for task, type_, n in connection.execute(query.group_by(table.task, table.state_type)):
        nodes[task]["total"] += int(n)
        if type_ and n:
            nodes[task]["states"][type_] = int(n)
    return {task: node for task, node in nodes.items() if node["total"]}


def _node(id_: str, kind: str, task: str, label: str) -> dict[str, Any]:
    return {
        "id": id_,
        "kind": kind,
        "task": task,
        "label": label,
        "total": 0,
        "states": {},
        "flow_run": None,
    }


def _task_id(task: str) -> str:
    """Return the id of the node of all runs of a task, which no run's own id can be."""
    return f"tasks:{task}"


def _subflows(connection: Connection, run_pk: int, id_: str) -> list[dict[str, Any]]:
    table = flow_runs.c
    query = select(table.pk).where(table.run_pk == run_pk, table.parent_flow_run == id_)
    nodes = []
    for run in described(connection, list(connection.scalars(query.order_by(table.pk).limit(500)))):
        node = _node(run["id"], "flow", run["flow"], run["name"] or run["flow"])
        node.update(flow_run=run["id"], total=run["total_tasks"], states=run["tasks"])
        node["state_type"] = run["state_type"]
        nodes.append(node)
    return nodes


def _runs(connection: Connection, run_pk: int, id_: str, task: str) -> list[Any]:
    table = task_runs.c
    columns = (table.pk, table.id, table.name, table.state_type)
    query = select(*columns).where(
        table.run_pk == run_pk, table.flow_run == id_, table.task == task
    )
    return list(connection.execute(query.order_by(table.created, table.pk).limit(OPENED)))


def _run_node(task: str, row: Any) -> dict[str, Any]:
    node = _node(row.id, "task", task, row.name or row.id)
    node["total"] = 1
    node["states"] = {row.state_type: 1} if row.state_type else {}
    return node


def _edges(
    connection: Connection, key: Any, id_: str, runs: dict[str, list[Any]]
) -> dict[Pair, int]:
    """Return the edges between nodes; those of opened tasks begin or end at single runs."""
    arrows: dict[Pair, int] = {}
    table = edges.c
    query = select(table.source, table.target_flow, table.target, table.n).where(
        table.run_pk == key.run_pk, table.source_flow == id_, table.n > 0
    )
    for source, target_flow, target, n in connection.execute(query):
        if source not in runs and not (target_flow == id_ and target in runs):
            to = _task_id(target) if target_flow == id_ else target_flow
            _add(arrows, _task_id(source), to, n)
    _add_calls(connection, key.run_pk, id_, runs, arrows)
    rows = {row.pk: row.id for each in runs.values() for row in each}
    seen: set[tuple[str, int]] = set()
    for up, up_task, pk, down, down_flow, down_task in _links(connection, key.run_pk, rows):
        if (up, pk) in seen:  # both ends are open
            continue
        seen.add((up, pk))
        begin = up if up_task in runs else _task_id(up_task)
        inner = down if down_task in runs else _task_id(down_task)
        _add(arrows, begin, inner if down_flow == id_ else down_flow, 1)
    return arrows


def _add(arrows: dict[Pair, int], begin: str, end: str, n: int) -> None:
    arrows[begin, end] = arrows.get((begin, end), 0) + n


def _add_calls(
    connection: Connection,
    run_pk: int,
    id_: str,
    runs: dict[str, list[Any]],
    arrows: dict[Pair, int],
) -> None:
    """Add an edge from each task that has called a subflow to the subflow."""
    table, flows = task_runs.c, flow_runs.c
    query = (
        select(table.id, table.task, flows.id)
        .join(task_runs, (table.run_pk == flows.run_pk) & (table.id == flows.parent_task_run))
        .where(flows.run_pk == run_pk, flows.parent_flow_run == id_)
    )
    for caller, task, flow_run in connection.execute(query):
        _add(arrows, caller if task in runs else _task_id(task), flow_run, 1)


def _links(connection: Connection, run_pk: int, rows: dict[int, str]) -> Iterable[Any]:
    """Return what the opened runs take and who takes theirs: both ends of each edge."""
    if not rows:
        return []
    query = (
        "SELECT u.id, u.task, t.pk, t.id, t.flow_run, t.task FROM links l "
        "JOIN task_runs t ON t.pk = l.pk "
        "JOIN task_runs u ON u.run_pk = l.run_pk AND u.id = l.upstream "
        "WHERE l.run_pk = %s AND l.upstream {among}"
    )
    return [
        *found(connection, query, (run_pk,), list(rows.values())),
        *_taken(connection, run_pk, list(rows)),
    ]


def _taken(connection: Connection, run_pk: int, keys: list[int]) -> Iterable[Any]:
    """Return both ends of the edges that end at some task runs."""
    # What a run takes stands in the event that made it; the links are sorted by where they begin.
    query = (
        "SELECT t.pk, t.id, t.flow_run, t.task, f.made FROM task_runs t "
        "JOIN task_run_facts f ON f.pk = t.pk WHERE f.made IS NOT NULL AND t.pk {among}"
    )
    ends = found(connection, query, (), keys)
    upstream = {end.pk: _upstream(end.made) for end in ends}
    wanted = sorted({id_ for ids in upstream.values() for id_ in ids})
    query = "SELECT id, task FROM task_runs WHERE run_pk = %s AND id {among}"
    tasks = {row.id: row.task for row in found(connection, query, (run_pk,), wanted)}
    for end in ends:
        for id_ in upstream[end.pk]:
            if id_ in tasks:
                yield id_, tasks[id_], end.pk, end.id, end.flow_run, end.task


def _upstream(made: str) -> list[str]:
    ids = opened(made)[1].get("upstream") or ()
    return [id_ for id_ in ids if isinstance(id_, str)]
