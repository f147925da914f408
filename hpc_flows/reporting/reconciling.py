"""Finding out what a sink has lost while nobody was sending, as when an old copy was put back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hpc_flows.reporting.failpoints import reach

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.reporting.cursors import Cursor, CursorStore
    from hpc_flows.reporting.roster import Roster
    from hpc_flows.reporting.sink import Comparison, Sink

#: Most runs, and about the most writers, that are asked about together.
_MOST_RUNS, _MOST_WRITERS = 200, 20_000


def reconcile(sink: Sink, store: CursorStore, roster: Roster, epoch: str) -> int:
    """Compare what was sent with what the sink holds; have sent again what it lacks.

    Returns how many runs lacked something. A run that lacks anything is sent again as a whole, so
    that its attachments, of which there is no count, come along. That only attachments are missing
    shows in the run's version, which rises with each of them.

    Raises:
        SinkTrouble, SinkRefusal: what was compared before stands; call it again.
    """
    lacking = 0
    for cursors in _chunks(_outdated(store, roster, epoch)):
        held = {cursor.run: cursor.held() for cursor in cursors}
        found = sink.compare(held, {cursor.run: cursor.version for cursor in cursors})
        reach("compared")
        for cursor in cursors:
            lacking += _settle(cursor, found, store, roster, epoch)
    return lacking


def _outdated(store: CursorStore, roster: Roster, epoch: str) -> Iterator[Cursor]:
    """Give the cursors of runs that exist, of which the sink may have lost something."""
    for run in store.runs():
        if not roster.covers(run):
            continue
        feed = roster.feed_of(run)
        cursor = feed.cursor if feed is not None else store.load(run)
        if not os.path.isdir(roster.folder_of(run)):
            store.forget(run)
        elif cursor.registered and not cursor.gone and cursor.epoch != epoch:
            yield cursor


def _chunks(cursors: Iterator[Cursor]) -> Iterator[list[Cursor]]:
    chunk: list[Cursor] = []
    writers = 0
    for cursor in cursors:
        chunk.append(cursor)
        writers += len(cursor.writers)
        if len(chunk) >= _MOST_RUNS or writers >= _MOST_WRITERS:
            yield chunk
            chunk, writers = [], 0
    if chunk:
        yield chunk


def _settle(
    cursor: Cursor, found: Comparison, store: CursorStore, roster: Roster, epoch: str
) -> bool:
    """Bring one cursor in line with what the sink said; tell whether the sink lacks something."""
    run = cursor.run
    lacks = run in found.behind or run in found.unknown
    if lacks:
        cursor.rewind()
        cursor.registered = run not in found.unknown
    cursor.gone = cursor.gone or run in found.gone
    cursor.epoch = epoch
    feed = roster.feed_of(run)
    if feed is not None:
        feed.agreed(epoch)
    else:
        try:
            store.save(cursor)
        except OSError:
            return lacks  # compared once more next time
    if lacks:
        roster.hurry(run)
    return lacks
