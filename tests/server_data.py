"""What tests of the server's database need: lines of journals, and rows as `replay` shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from hpc_flows.journal.event import Event, encode, header, seal
from hpc_flows.journal.views import JobView
from hpc_flows.server.db import Sight
from hpc_flows.server.db import models as m
from hpc_flows.server.db.kept import flow_run_view, task_run_view
from hpc_flows.server.db.people import users
from hpc_flows.server.db.texts import loads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from hpc_flows.server.db import Database

#: Sees all runs.
ALL = Sight(None, is_admin=True)


def line(event: Event) -> bytes:
    """Return the line of a journal that says an event."""
    facts = f'{event.seq},"wall":{event.wall!r},"mono":{event.mono!r},"kind":"{event.kind}"'
    body = f'{header(event.run, event.writer)}{facts},"data":{encode(event.data)}}}'
    return seal(body.encode())


def lines(events: Iterable[Event]) -> bytes:
    return b"".join(map(line, events))


def add_user(database: Database, name: str = "ada", *, is_admin: bool = False) -> int:
    with database.writing() as connection:
        row = {"name": name, "is_admin": is_admin, "created": 1.0}
        made = connection.execute(insert(users).values(row))
        return int(made.inserted_primary_key[0])


def stored(connection: Connection, run: str) -> dict[str, Any]:
    """Return a run as its rows have it, in the shape of `RunView.to_dict`."""
    pk = connection.scalar(select(m.runs.c.pk).where(m.runs.c.id == run))
    jobs = _jobs(connection, pk)
    tasks = [_task(row, jobs) for row in _task_rows(connection, pk)]
    query = select(m.flow_runs).where(m.flow_runs.c.run_pk == pk)
    flows = [flow_run_view(row.id, row.made, row.changes) for row in connection.execute(query)]
    return {
        "run": run,
        "flow_runs": [view.to_dict() for view in _by_age(flows)],
        "task_runs": [view.to_dict() for view in _by_age(tasks)],
        "jobs": [jobs[token].to_dict() for token in sorted(jobs)],
        "counts": _counts(connection, pk),
    }


def _by_age(views: list[Any]) -> list[Any]:
    return sorted(views, key=lambda view: (view.created or 0.0, view.id))


def _task_rows(connection: Connection, pk: int | None) -> Any:
    facts = m.task_run_facts
    columns = (m.task_runs, facts.c.made, facts.c.changes)
    joined = m.task_runs.join(facts, facts.c.pk == m.task_runs.c.pk)
    query = select(*columns).select_from(joined).where(m.task_runs.c.run_pk == pk)
    return connection.execute(query)


def _task(row: Any, jobs: dict[str, JobView]) -> Any:
    view = task_run_view(row.id, row.made, row.changes)
    assert (row.state_type, row.state_name) == (view.state_type, view.state_name)
    assert (row.created, row.started, row.ended) == (view.created, view.started, view.ended)
    assert (row.name, row.task, row.attempt) == (view.name, view.task, view.attempt)
    if row.token is not None:
        view.put_into(jobs[row.token], row.job_index)
    return view


def _jobs(connection: Connection, pk: int | None) -> dict[str, JobView]:
    jobs = {}
    joined = m.jobs.outerjoin(m.job_parts, m.job_parts.c.pk == m.jobs.c.pk)
    columns = [column for column in m.job_parts.c if column.name != "pk"]
    query = select(m.jobs, *columns).select_from(joined).where(m.jobs.c.run_pk == pk)
    for row in connection.execute(query).all():
        view = JobView(row.token)
        view.cluster, view.scheduler, view.job = row.cluster, row.scheduler, row.job
        view.intended, view.submitted = row.intended, row.submitted
        view.refusal, view.cancelled, view.script = row.refusal, row.cancelled, row.script
        view.array, view.resources = loads(row.array), loads(row.resources)
        view.task_runs = tuple(loads(row.task_runs, ()))
        for status in connection.execute(
            select(m.job_statuses).where(m.job_statuses.c.job_pk == row.pk)
        ):
            data = {
                name: getattr(status, name)
                for name in ("job", "phase", "raw", "reason", "nodes", "partition")
            }
            data["task_run"] = status.element
            view.report(Event(row.token, status.writer, status.seq, status.wall, 0, "s", data))
        jobs[row.token] = view
    return jobs


def _counts(connection: Connection, pk: int | None) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    query = select(m.task_counts).where(m.task_counts.c.run_pk == pk, m.task_counts.c.n != 0)
    for row in connection.execute(query):
        if row.state_name:
            names = counts.setdefault(row.task, {})
            names[row.state_name] = names.get(row.state_name, 0) + row.n
    return counts


def derived(connection: Connection, run: str) -> dict[str, Any]:
    """Return what is stored of a run beside its views, without keys, sorted."""
    pk = connection.scalar(select(m.runs.c.pk).where(m.runs.c.id == run))
    tables = {
        m.task_counts: ("flow_run", "task", "state_type", "state_name", "n"),
        m.task_spans: ("flow_run", "task", "first_made", "first_started", "last_ended"),
        m.edges: ("source_flow", "source", "target_flow", "target", "n"),
        m.links: ("upstream",),
        m.logs: ("wall", "level", "logger", "message", "task_run", "flow_run"),
        m.events: ("id", "name", "occurred", "resource", "flow_run", "task_run", "body"),
        m.artifacts: ("id", "type", "key", "created", "updated", "flow_run", "tags", "data"),
        m.writers: ("writer", "ranges", "held"),
        m.job_cancels: ("job_base", "wall", "reason"),
        m.run_clusters: ("cluster", "scheduler"),
        m.flow_runs: ("id", "name", "flow", "is_root", "state_name", "parent_task_run", "ended"),
        m.runs: ("id", "name", "flow", "ended", "dropped"),
    }
    found = {}
    for table, names in tables.items():
        mine = table.c.pk if table is m.runs else table.c.run_pk
        query = select(*(table.c[name] for name in names)).where(mine == pk)
        if table in (m.task_counts, m.edges):
            query = query.where(table.c.n != 0)
        if table is m.task_spans:  # those of a group that all runs have left mean nothing
            query = query.where(table.c.task != "")
        found[table.name] = sorted(map(repr, map(tuple, connection.execute(query))))
    return found
