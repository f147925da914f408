"""Task runs as the API shows them, made by the journal's views of what the rows have kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, select

from hpc_flows.jobs.reasons import outlook
from hpc_flows.journal.event import Event
from hpc_flows.journal.views import Change, JobView, TaskRunView
from hpc_flows.server.db.kept import Told, restore, task_run_view
from hpc_flows.server.db.models import (
    job_statuses,
    jobs,
    links,
    runs,
    task_run_facts,
    task_runs,
)
from hpc_flows.server.db.texts import loads
from hpc_flows.server.queries.paging import FINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

#: Most task runs that are shown before and after one.
NEIGHBOURS = 100

#: In this phase a job has a reason for waiting.
QUEUED = "queued"


def described(
    connection: Connection, keys: Sequence[int], *, in_detail: bool = False
) -> list[dict[str, Any]]:
    """Return task runs by their keys, in that order, as the API shows them."""
    if not keys:
        return []
    rows = {row.pk: row for row in connection.execute(_with_jobs(keys))}
    return [_task_run(rows[key], in_detail=in_detail) for key in keys]


def _with_jobs(keys: Sequence[int]) -> Any:
    table, facts = task_runs.c, task_run_facts.c
    columns = (
        *(table.pk, table.id, table.token, table.job_index, facts.made, facts.changes),
        *(runs.c.id.label("run"), jobs.c.cluster, jobs.c.job, jobs.c.submitted, jobs.c.is_array),
        *(jobs.c.taken, job_statuses.c.job.label("element"), job_statuses.c.phase),
        *(job_statuses.c.reason, job_statuses.c.nodes, job_statuses.c.partition),
    )
    of_job = and_(jobs.c.run_pk == table.run_pk, jobs.c.token == table.token)
    of_element = and_(job_statuses.c.job_pk == jobs.c.pk, job_statuses.c.element == table.id)
    return (
        select(*columns)
        .join(runs, runs.c.pk == table.run_pk)
        .join(task_run_facts, facts.pk == table.pk)
        .outerjoin(jobs, of_job)
        .outerjoin(job_statuses, of_element)
        .where(table.pk.in_(list(keys)))
    )


def _task_run(row: Any, *, in_detail: bool) -> dict[str, Any]:
    view = task_run_view(row.id, row.made, row.changes)
    _put(view, row)
    facts = view.to_dict()
    if not in_detail:
        facts.pop("history")
    waits = row.phase == QUEUED and row.reason and facts["state_type"] not in FINAL
    return {
        **facts,
        **({"attempts": attempts(row.id, loads(row.changes))} if in_detail else {}),
        "run": row.run,
        "cluster": row.cluster or None,
        "partition": row.partition or None,
        "reason": row.reason if waits else None,
        "reason_words": outlook(row.reason).words if waits else None,
    }


def _put(view: TaskRunView, row: Any) -> None:
    """Put a view into its job, of which only what concerns it is known."""
    if row.token is None:
        return
    job = JobView(row.token)
    job.job, job.submitted, job.array = row.job, row.submitted, bool(row.is_array)
    if row.element is not None or row.phase is not None or row.nodes is not None:
        data = {"task_run": row.id, "job": row.element, "nodes": row.nodes, "phase": row.phase}
        job.report(Event("", "", 0, 0.0, 0.0, "job-status", data))
    view.put_into(job, row.job_index)


def attempts(id_: str, changes: list[Told]) -> list[dict[str, Any]]:
    """Return each attempt of a task run as far as its states tell, in their order."""
    by_number: dict[int, list[Told]] = {}
    for change in changes:
        number = Change.of(Event("", change[1], change[2], change[0], 0.0, "state", change[3]))
        by_number.setdefault(number.attempt, []).append(change)
    return [_attempt(id_, number, by_number[number]) for number in sorted(by_number)]


def _attempt(id_: str, number: int, changes: list[Told]) -> dict[str, Any]:
    view = restore(TaskRunView(id_), None, changes)
    last = view.history[-1]
    has_ended = view.is_final or last[2] == "AwaitingRetry"
    return {
        "attempt": number,
        "created": view.created,
        "queued": view.queued,
        "started": view.started,
        "ended": last[0] if has_ended else None,
        "state_type": view.state_type,
        "state_name": view.state_name,
        "message": view.message,
        "job": view.job,
        "node": view.node,
        "details": view.details,
    }


def neighbours(connection: Connection, run_pk: int, shown: dict[str, Any]) -> dict[str, Any]:
    """Return the task runs whose results one takes, and those that take its own."""
    before = [id_ for id_ in shown["upstream"][:NEIGHBOURS] if isinstance(id_, str)]
    known = {row.id: _neighbour(row) for row in _by_ids(connection, run_pk, before)}
    return {
        "upstream_runs": [known[id_] for id_ in before if id_ in known],
        "downstream": _downstream(connection, run_pk, shown["id"]),
    }


def _downstream(connection: Connection, run_pk: int, id_: str) -> list[dict[str, Any]]:
    after = (
        _neighbours(run_pk)
        .join(links, links.c.pk == task_runs.c.pk)
        .where(links.c.run_pk == run_pk, links.c.upstream == id_)
    )
    return [_neighbour(row) for row in connection.execute(after.limit(NEIGHBOURS))]


def _by_ids(connection: Connection, run_pk: int, ids: list[str]) -> Sequence[Any]:
    return connection.execute(_neighbours(run_pk).where(task_runs.c.id.in_(ids))).all()


def _neighbours(run_pk: int) -> Any:
    table = task_runs.c
    columns = (table.id, table.name, table.state_type, table.state_name)
    return select(*columns).where(table.run_pk == run_pk).order_by(table.pk)


def _neighbour(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "state_type": row.state_type,
        "state_name": row.state_name,
    }
