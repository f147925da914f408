"""Forgetting runs: when a person says so, or when they ended long enough ago.

A deleted run leaves a tombstone, so that its relay is told to stop and does not bring it back.
The files of the run stay where they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from hpc_flows.server.db.models import (
    first_key,
    flow_runs,
    gone,
    job_parts,
    job_statuses,
    jobs,
    last_key,
    metadata,
    runs,
    task_run_facts,
)
from hpc_flows.server.db.opening import now
from hpc_flows.server.db.people import commands

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from hpc_flows.server.db import Database

_DAY = 86_400.0


def delete_run(database: Database, run: str, reason: str) -> bool:
    """Delete a run with all that is in it; tell whether there was one.

    Args:
        database: where.
        run: id of the root flow run.
        reason: why, for its relay.
    """
    with database.writing() as connection:
        query = select(runs.c.pk).where(runs.c.id == run).with_for_update()
        key = connection.scalar(query)
        if key is None:
            return False
        _empty(connection, key)
        connection.execute(delete(commands).where(commands.c.run == run))
        connection.execute(delete(runs).where(runs.c.pk == key))
        connection.execute(insert(gone), {"id": run, "at": now(), "reason": reason[:200]})
    return True


def sweep(database: Database, days: float) -> list[str]:
    """Delete the runs that ended more than some days ago, and return their ids.

    Raises:
        ValueError: the number of days cannot be.
    """
    if not days > 0:
        raise ValueError(f"Runs are kept for more than 0 days, and {days} is not.")
    before = now() - days * _DAY
    with database.reading() as connection:
        old = list(connection.scalars(select(runs.c.id).where(runs.c.ended < before)))
    reason = f"it ended more than {days:g} days ago"
    # One transaction for each, so that ingest need not wait for all of them.
    return [run for run in old if delete_run(database, run, reason)]


def _empty(connection: Connection, run_pk: int) -> None:
    """Delete what is in a run, in ranges of keys where the rows know no run."""
    first, last = first_key(run_pk), last_key(run_pk)
    for table in (task_run_facts, job_parts):
        connection.execute(delete(table).where(table.c.pk.between(first, last)))
    connection.execute(delete(job_statuses).where(job_statuses.c.job_pk.between(first, last)))
    tags = metadata.tables["flow_run_tags"]
    connection.execute(delete(tags).where(tags.c.flow_run_pk.between(first, last)))
    for table in _of_runs():
        connection.execute(delete(table).where(table.c.run_pk == run_pk))
    for table in (flow_runs, jobs):
        connection.execute(delete(table).where(table.c.run_pk == run_pk))


def _of_runs() -> list[Table]:
    """Return the tables whose rows name the run that they belong to, but for what others name."""
    later = (flow_runs, jobs)
    return [table for table in metadata.sorted_tables if "run_pk" in table.c and table not in later]
