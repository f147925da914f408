"""Forgetting runs: when a person says so, or when they ended long enough ago.

A run is marked first: from then on nobody sees it, and its relay is told to stop by a tombstone, so
that it does not bring it back. Then its rows are deleted, in portions: see `removing`. The files of
the run stay where they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update

from hpc_flows.server.db.models import gone, runs
from hpc_flows.server.db.opening import now
from hpc_flows.server.db.people import commands
from hpc_flows.server.removing import remove_marked

if TYPE_CHECKING:
    from hpc_flows.server.db import Database

_DAY = 86_400.0


def mark_run(database: Database, run: str, reason: str) -> bool:
    """Have a run look deleted from now on; tell whether there was one.

    Args:
        database: where.
        run: id of the root flow run.
        reason: why, for its relay.
    """
    with database.writing() as connection:
        query = select(runs.c.pk).where(runs.c.id == run, runs.c.removed.is_(None))
        key = connection.scalar(query.with_for_update())
        if key is None:
            return False
        at = now()
        mark = {"removed": at, "changed": at, "version": runs.c.version + 1}
        connection.execute(update(runs).where(runs.c.pk == key).values(mark))
        connection.execute(delete(commands).where(commands.c.run == run))
        connection.execute(insert(gone), {"id": run, "at": at, "reason": reason[:200]})
    return True


def delete_run(database: Database, run: str, reason: str) -> bool:
    """Delete a run with all that is in it, and return when that is done; see `mark_run`."""
    if not mark_run(database, run, reason):
        return False
    remove_marked(database)
    return True


def mark_old(database: Database, days: float) -> list[str]:
    """Mark the runs that ended more than some days ago, and return their ids.

    Raises:
        ValueError: the number of days cannot be.
    """
    if not days > 0:
        raise ValueError(f"Runs are kept for more than 0 days, and {days} is not.")
    before = now() - days * _DAY
    query = select(runs.c.id).where(runs.c.ended < before, runs.c.removed.is_(None))
    with database.reading() as connection:
        old = list(connection.scalars(query))
    reason = f"it ended more than {days:g} days ago"
    return [run for run in old if mark_run(database, run, reason)]


def sweep(database: Database, days: float) -> list[str]:
    """Delete the runs that ended more than some days ago, and return their ids.

    Raises:
        ValueError: the number of days cannot be.
    """
    old = mark_old(database, days)
    remove_marked(database)
    return old
