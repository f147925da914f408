"""Deleting the rows of runs that are marked as removed: in portions, so that nobody waits for long.

SQLite lets one write at a time. A portion is as many rows as take a small part of a second, and
after each the lock is left alone for as long as it was held. Whoever is killed in between has lost
nothing: the mark stays until the last row is gone, and the next start goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, delete, select, tuple_

from hpc_flows.server.db.models import first_key, last_key, metadata, runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Column, ColumnElement, Table

    from hpc_flows.server.db import Database

_LOG = logging.getLogger("hpc_flows.server")

#: Seconds that a portion shall take; it is halved and doubled to come near that.
PORTION_SECONDS = 0.05
#: Rows of the first portion, and of the largest.
_FIRST, _MOST = 256, 16_384
#: Seconds of the least pause after a portion, and of that after an error.
_LEAST_PAUSE, _AFTER_ERROR = 0.002, 60.0

#: Tables whose rows know their run by the range of a key that is not the first of the table's own.
_RANGES = {"flow_run_tags": ("flow_run_pk", "tag")}


class _Part(NamedTuple):
    """The rows of a run in one table, and the columns in whose order they are deleted."""

    table: Table
    within: ColumnElement[bool]
    order: tuple[Column[Any], ...]


def remove_marked(database: Database, rest: Callable[[float], bool] | None = None) -> list[str]:
    """Delete all that is in runs which are marked as removed, and return their ids.

    Args:
        database: where.
        rest: is called between portions with the seconds for which others shall have their turn,
            waits so long, and tells whether to go on; sleeps unless given.

    Returns:
        Ids of the runs of which nothing is left.
    """
    with database.reading() as connection:
        query = select(runs.c.pk, runs.c.id).where(runs.c.removed.is_not(None))
        marked = connection.execute(query.order_by(runs.c.removed)).all()
    return [id_ for key, id_ in marked if _Removal(database, key, rest or _sleep).run()]


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True


class _Removal:
    """The removal of one run."""

    def __init__(self, database: Database, run_pk: int, rest: Callable[[float], bool]) -> None:
        self._database, self._run_pk, self._rest = database, run_pk, rest
        self._most = _FIRST

    def run(self) -> bool:
        """Delete everything; tell whether nothing is left, or `rest` has said to stop."""
        for part in _parts(self._run_pk):
            more = True
            while more:
                began = time.monotonic()
                more = self._delete(part)
                taken = time.monotonic() - began
                self._adapt(taken)
                if not self._rest(max(taken, _LEAST_PAUSE)):
                    return False
        with self._database.writing() as connection:
            connection.execute(delete(runs).where(runs.c.pk == self._run_pk))
        return True

    def _adapt(self, taken: float) -> None:
        if taken > PORTION_SECONDS:
            self._most = max(self._most // 2, 1)
        elif taken < PORTION_SECONDS / 2:
            self._most = min(self._most * 2, _MOST)

    def _delete(self, part: _Part) -> bool:
        """Delete the next rows; tell whether there are more."""
        next_ = select(*part.order).where(part.within).order_by(*part.order)
        with self._database.writing() as connection:
            last = connection.execute(next_.offset(self._most - 1).limit(1)).one_or_none()
            meant = part.within
            if last is not None:
                types = [column.type for column in part.order]
                upto = tuple_(*part.order) <= tuple_(*last, types=types)
                meant = and_(meant, upto)
            connection.execute(delete(part.table).where(meant))
        return last is not None


def _parts(run_pk: int) -> list[_Part]:
    """Return where rows of a run are: what refers to others comes before these."""
    inside = [_part(table, run_pk) for table in reversed(metadata.sorted_tables)]
    return [part for part in inside if part is not None]


def _part(table: Table, run_pk: int) -> _Part | None:
    own = tuple(table.primary_key)
    if "run_pk" in table.primary_key.columns:
        return _Part(table, table.c.run_pk == run_pk, own)
    order = tuple(table.c[name] for name in _RANGES.get(table.name, ())) or own
    if order[0].name not in ("pk", "job_pk", "flow_run_pk") or table is runs:
        return None
    return _Part(table, order[0].between(first_key(run_pk), last_key(run_pk)), order)


class Remover:
    """Removes marked runs in a thread of its own, which lives as long as there is something to do.

    Args:
        database: where.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._asked = False
        self._thread: threading.Thread | None = None
        self._stops = threading.Event()

    def wake(self) -> None:
        """Have it look for runs that are marked, those that were left half removed among them."""
        with self._lock:
            self._asked = True
            if self._thread is None and not self._stops.is_set():
                self._thread = threading.Thread(
                    target=self._work, name="hpc-flows-remover", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Stop after the portion that is at work; what is left is removed after the next start."""
        self._stops.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while self._take_turn():
            try:
                remove_marked(self._database, self._rest)
            except Exception:  # noqa: BLE001 - a full disk or a lock may be gone in a minute
                _LOG.exception("Runs could not be removed; the next attempt is in a minute.")
                self._stops.wait(_AFTER_ERROR)
                with self._lock:
                    self._asked = True

    def _take_turn(self) -> bool:
        with self._lock:
            goes_on, self._asked = self._asked and not self._stops.is_set(), False
            if not goes_on:
                self._thread = None
            return goes_on

    def _rest(self, seconds: float) -> bool:
        return not self._stops.wait(seconds)
