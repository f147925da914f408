"""How many core-hours the jobs of a flow run took, and how long they kept their cores busy."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select

from hpc_flows.server.db.models import job_parts, jobs, runs, task_run_facts, task_runs
from hpc_flows.server.db.texts import loads, seconds
from hpc_flows.server.queries.flow_runs import key_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from hpc_flows.server.db.kept import Told
    from hpc_flows.server.db.sight import Sight

#: Task runs that are added up at most: all of their states have to be read.
MOST = 20_000
HOUR = 3600.0
#: What one of the resources counts as where it was not asked for.
FACTORS = ("cpus", "nodes", "tasks_per_node")


@dataclass(slots=True)
class Usage:
    """What jobs took, in hours of one core.

    Attributes:
        task_runs: how many task runs with jobs were added up; `left_out`: were not, for there are
            too many.
        core_hours: the cores that were asked for × the time that attempts ran.
        asked_core_hours: the cores × the walltime that those attempts had asked for.
        busy_core_hours: what their processors worked, as far as jobs have told that;
            `told_core_hours`: the part of `core_hours` that was told of.
    """

    task_runs: int = 0
    left_out: int = 0
    core_hours: float = 0.0
    asked_core_hours: float = 0.0
    busy_core_hours: float = 0.0
    told_core_hours: float = 0.0


def usage(connection: Connection, sight: Sight, id_: str) -> dict[str, Any] | None:
    """Return what the jobs of a flow run took, a root run's with those of its subflows.

    None where there is no such flow run, or one that may not be seen.
    """
    key = key_of(connection, sight, id_)
    if key is None:
        return None
    table = task_runs.c
    meant = [table.run_pk == key.run_pk, table.started.is_not(None)]
    if key.run != id_:
        meant.append(table.flow_run == id_)
    of_job = and_(jobs.c.run_pk == table.run_pk, jobs.c.token == table.token)
    carried = select(table.pk).join(jobs, of_job).where(*meant)
    query = (
        carried.add_columns(task_run_facts.c.changes, job_parts.c.resources)
        .join(task_run_facts, task_run_facts.c.pk == table.pk)
        .outerjoin(job_parts, job_parts.c.pk == jobs.c.pk)
        .limit(MOST)
    )
    # What still ran when the run ended, as its driver knew, took nothing after that.
    until = connection.scalar(select(runs.c.ended).where(runs.c.pk == key.run_pk)) or time.time()
    found = Usage()
    for row in connection.execute(query):
        found.task_runs += 1
        _add(found, loads(row.changes) or [], _table(loads(row.resources)), until)
    if found.task_runs == MOST:
        every = connection.scalar(select(func.count()).select_from(carried.subquery())) or 0
        found.left_out = every - MOST
    return asdict(found)


def _add(found: Usage, changes: list[Told], resources: dict[str, Any], until: float) -> None:
    cores = 1.0
    for name in FACTORS:
        cores *= _number(resources.get(name)) or 1.0
    walltime = _number(resources.get("walltime"))
    for lasted, busy in _attempts(changes, until):
        found.core_hours += cores * lasted / HOUR
        found.asked_core_hours += cores * max(walltime or 0.0, lasted) / HOUR
        if busy is not None:
            found.busy_core_hours += busy / HOUR
            found.told_core_hours += cores * lasted / HOUR


def _attempts(changes: list[Told], until: float) -> Iterator[tuple[float, float | None]]:
    """Yield of each attempt how long it ran, in seconds, and the processors' seconds if told."""
    began: float | None = None
    for wall, _, _, data in sorted(changes, key=lambda change: change[0]):
        if data.get("type") == "RUNNING":
            began = wall if began is None else began
        elif began is not None:
            details = _table(data.get("details"))
            yield _number(details.get("elapsed")) or wall - began, _number(details.get("cpu"))
            began = None
    if began is not None:
        yield max(0.0, until - began), None


def _table(value: Any) -> dict[str, Any]:
    """Return a table that was reported; what is none tells nothing."""
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    number = seconds(value)
    return None if number is None or number < 0 else number
