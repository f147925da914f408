"""One run on its way to one sink: what is new is read, sent, and noted as sent.

The rule that finds out what a sink has lost: before a batch it said to hold `held` events of a
writer, the batch brings `n` lines, after it the sink says `got`. Whatever is missing in `held + n -
got`, beyond the lines that it had before (`repeated`) or refused, it has lost, as when an older
copy of its database was put back. Then the writers that lack something are sent again from their
beginning. Writers of which nothing is known yet travel in batches of their own, so that the sums
stay exact.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from hpc_flows.journal.event import is_driver
from hpc_flows.reporting.attachments import Attachments
from hpc_flows.reporting.cursors import WriterCursor
from hpc_flows.reporting.describing import describe
from hpc_flows.reporting.failpoints import reach
from hpc_flows.reporting.sink import (
    MOST_BYTES,
    MOST_EVENTS,
    Batch,
    BatchRefused,
    Line,
    Receipt,
    RunGone,
    RunUnknown,
    SinkTrouble,
)
from hpc_flows.reporting.tailing import Piece, Tail, sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpc_flows.reporting.cursors import Cursor, CursorStore
    from hpc_flows.reporting.sink import RunAbout, Sink
    from hpc_flows.reporting.tailing import Size

#: Errors of the sink's own, in a row, after which a batch is made smaller; and with a single line,
#: after which that is put aside.
_STUMBLES = 3
#: Most lines that are put aside at a time, and seconds after which they are tried again.
_MOST_PARKED, _PARKED_AGAIN = 100, 300.0
#: How often a sink that has not been started anew is believed that it has lost something.
_MOST_REWINDS = 10
#: Seconds for which a run without a `run.json` is waited for; then it is reported as it is.
_FACTS_PATIENCE = 10.0
#: Seconds between two writings of a cursor, and the most of its time that writing may take.
_SAVE_PERIOD, _SAVE_SHARE = 1.0, 0.05


class RunVanished(Exception):
    """The folder of a run is not there any more."""


class RunUnreadable(Exception):
    """The journals of a run cannot be read now; other runs' can."""


class RunFeed:
    """Sends the events of one run to one sink, from where its cursor stands.

    Args:
        about: the run.
        sink: where its events go.
        store: where its cursor is kept.

    Attributes:
        cursor: how far it came.
        sent: lines that were sent and taken since the feed was made.
        epoch: of the sink, as its last answer had it.
        unsaved: why the cursor could not be kept, or an empty text.
        heard_driver: whether the last batch had lines of the driver.
    """

    def __init__(self, about: RunAbout, sink: Sink, store: CursorStore) -> None:
        self.about = about
        self.cursor: Cursor = store.load(about.id)
        self.sent = 0
        self.epoch = ""
        self.unsaved = ""
        self.heard_driver = True
        self._sink, self._store = sink, store
        self._tail = Tail(about.folder)
        self._attachments = Attachments(about, self.cursor)
        self._most = MOST_EVENTS
        self._stumbles = 0
        self._turn = self._rewinds = 0
        self._stuck: dict[str, int] = {}  # sizes at which a writer had no whole line to give
        self._changed = self._unfinished = False
        self._saved_at = self._save_cost = 0.0
        self._made, self._parked_at = time.monotonic(), float("-inf")

    def step(self) -> bool:
        """Send one batch and some attachments; tell whether there is more to send.

        Raises:
            RunVanished, RunUnreadable: the run's folder is gone, or cannot be read.
            SinkTrouble, SinkRefusal, RunRefused: nothing was lost; step again later.
        """
        if self.cursor.gone:
            return False
        try:
            more = self._send_some()
            if not more and self._unfinished:
                self._sink.finish(self.about)
                self._unfinished = False
        except RunGone:
            self.cursor.gone = True
            self.cursor.due.clear()
            self._changed, more = True, False
        except RunUnknown:
            self.rewind()
            more = True
        self.save(force=not more)
        return more

    def unsent(self) -> int:
        """Return how many bytes of journals are not sent yet; 0 too when nobody wants them.

        Lines that were put aside are among them: they are tried again, also after the run's end.

        Raises:
            RunVanished, RunUnreadable: the run's folder is gone, or cannot be read.
        """
        if self.cursor.gone:
            return 0
        waiting = self._waiting(self._sizes())
        unread = sum(each.size - self.cursor.at(each.writer).offset for each in waiting)
        return unread + sum(length for _, _, length in self.cursor.parked)

    def finish(self) -> None:
        """Wait for nothing more: what can be sent is sent with the next steps."""
        self._attachments.hurry()

    def save(self, *, force: bool = False) -> None:
        """Keep the cursor: at most once a second unless forced; a full disk is only noted."""
        now = time.monotonic()
        pause = max(_SAVE_PERIOD, self._save_cost / _SAVE_SHARE)
        if not self._changed or (not force and now - self._saved_at < pause):
            return
        try:
            self._store.save(self.cursor)
        except OSError as error:
            self.unsaved = f"{error.filename or 'cursor'}: {error.strerror or error}"
            self._saved_at = now
            return
        self._changed, self.unsaved = False, ""
        self._saved_at = time.monotonic()
        self._save_cost = self._saved_at - now

    def rewind(self, writers: Sequence[str] | None = None) -> None:
        """Send some writers again; or the whole run, which is registered anew."""
        self.cursor.rewind(writers)
        self._stuck.clear()
        if writers is None:
            self.cursor.registered = False
        self._changed = True

    def agreed(self, epoch: str) -> None:
        """Note that the cursor was brought in line with the sink as it is in this epoch."""
        self.epoch = epoch
        self._rewinds = 0
        self._stuck.clear()
        self._changed = True

    # What is sent ---------------------------------------------------------------------------------

    def _send_some(self) -> bool:
        found = self._waiting(self._sizes())
        self._register(anything=bool(found))
        self._try_parked()
        may_read = self.cursor.registered and not self._attachments.is_full
        pieces = self._pieces(found) if may_read else []
        lines = [line for piece in pieces for line in piece.lines]
        self.heard_driver = any(is_driver(piece.writer) for piece in pieces)
        if lines:
            self._send(lines, pieces)
        if self._sink.takes_attachments:
            self._attachments.note(lines)
        self._move(pieces)
        if self.cursor.due:
            self._changed |= self._attachments.send(self._sink, self._heed)
        return bool(lines) or self._attachments.is_ready()

    def _register(self, *, anything: bool) -> None:
        if self.cursor.registered or not anything:
            return
        if not self.about.facts:  # its `run.json` was being made when the run was found
            self.about = describe(self.about.id, self.about.folder)
            if not self.about.facts and time.monotonic() - self._made < _FACTS_PATIENCE:
                return
        self.epoch = self._sink.register(self.about)
        reach("registered")
        self.cursor.registered = self._changed = True
        self.cursor.epoch = self.epoch

    def _sizes(self) -> list[Size]:
        try:
            return sizes(self.about.folder)
        except FileNotFoundError:
            raise RunVanished(self.about.id) from None
        except OSError as error:
            raise RunUnreadable(_unreadable(self.about.folder, error)) from error

    def _waiting(self, found: Sequence[Size]) -> list[Size]:
        writers = self.cursor.writers
        new = WriterCursor()
        return [
            each
            for each in found
            if each.size > writers.get(each.writer, new).offset
            and self._stuck.get(each.writer) != each.size
        ]

    def _pieces(self, waiting: list[Size]) -> list[Piece]:
        """Read what fits into a batch, beginning with another writer each time."""
        pieces: list[Piece] = []
        lines, room = self._most, MOST_BYTES
        self._turn += 1
        first = self._turn % len(waiting) if waiting else 0
        known: bool | None = None
        for each in waiting[first:] + waiting[:first]:
            cursor = self.cursor.at(each.writer)
            known = cursor.held is not None if known is None else known
            if known != (cursor.held is not None) or lines <= 0 or room <= 0:
                continue
            piece = self._piece(each, cursor, lines, room)
            if piece is None:
                continue
            pieces.append(piece)
            lines -= len(piece.lines)
            room -= piece.end - piece.start
        return pieces

    def _piece(self, size: Size, cursor: WriterCursor, lines: int, room: int) -> Piece | None:
        try:
            piece = self._tail.read(size.writer, cursor.offset, lines, room)
        except FileNotFoundError:
            return None  # the next listing tells whether only the file is gone
        except OSError as error:
            raise RunUnreadable(_unreadable(self.about.folder, error)) from error
        if piece.end == piece.start:
            # An unfinished line, or a hole: looked at again when the file has grown.
            if not self._tail.holes_of(size.writer):
                self._stuck[size.writer] = size.size
            return None
        return piece

    def _send(self, lines: list[Line], pieces: Sequence[Piece]) -> None:
        try:
            self._deliver(Batch(self.about, lines))
        except SinkTrouble as trouble:
            if trouble.answered:
                self._stumble(pieces)
            raise
        self._stumbles = 0
        self._most = min(MOST_EVENTS, self._most * 2)

    def _deliver(self, batch: Batch) -> None:
        """Send a batch, in smaller parts where it is refused as a whole."""
        try:
            receipt = self._sink.send(batch)
        except BatchRefused:
            if len(batch.lines) == 1:
                self.cursor.refused += 1
                self._changed = True
                return
            for half in batch.halves():
                self._deliver(half)
            return
        reach("batch-sent")
        self._accept(batch, receipt)

    def _accept(self, batch: Batch, receipt: Receipt) -> None:
        self.epoch = receipt.epoch or self.epoch
        self.cursor.refused += receipt.refused
        self.sent += len(batch.lines) - receipt.refused
        self._unfinished = True
        self._changed = True
        if not self._heed(receipt.version, changed=receipt.changed) or receipt.held is None:
            return
        lines: dict[str, int] = {}
        for line in batch.lines:
            lines[line.writer] = lines.get(line.writer, 0) + 1
        self._compare(lines, receipt)

    def _heed(self, version: int, *, changed: bool = True) -> bool:
        """Note a version of the run; send all of it again if the sink has lost a change.

        This finds attachments that are missing, of which there is no count. Tells whether the sink
        has lost nothing, as far as this shows.
        """
        known = self.cursor.version
        if not version:
            return True
        self.cursor.version = version
        if not known or version >= known + changed:
            return True
        self._rewinds += 1
        if self._rewinds <= _MOST_REWINDS:
            self.rewind()
        return False

    def _compare(self, lines: dict[str, int], receipt: Receipt) -> None:
        short = {}
        for writer, count in lines.items():
            cursor = self.cursor.at(writer)
            got = (receipt.held or {}).get(writer, 0)
            if cursor.held is not None:
                short[writer] = cursor.held + count - got
            cursor.held = got
        if sum(short.values()) > receipt.repeated + receipt.refused:
            lacking = [writer for writer, missing in short.items() if missing > 0]
            self._rewinds += 1
            # A sink that miscounts for good shall not be sent the same for ever.
            if self._rewinds <= _MOST_REWINDS:
                self.rewind(lacking)

    def _move(self, pieces: Sequence[Piece]) -> None:
        """Note how far the pieces go, unless their writer was rewound meanwhile."""
        for piece in pieces:
            cursor = self.cursor.at(piece.writer)
            if cursor.offset != piece.start:
                continue
            cursor.offset = piece.end
            self.cursor.damaged += piece.damaged
            self._changed = True

    # What the sink stumbles on --------------------------------------------------------------------

    def _stumble(self, pieces: Sequence[Piece]) -> None:
        """Make batches smaller, and put a single line aside, while the sink fails on them."""
        self._stumbles += 1
        if self._stumbles < _STUMBLES:
            return
        self._stumbles = 0
        if self._most > 1:
            self._most = max(1, self._most // 8)
            return
        self._park(pieces)

    def _park(self, pieces: Sequence[Piece]) -> None:
        if len(self.cursor.parked) >= _MOST_PARKED:
            return
        piece = next(piece for piece in pieces if piece.lines)
        length = len(piece.lines[0].text) + 1
        self.cursor.parked.append((piece.writer, piece.end - length, length))
        self._move([piece])
        self._parked_at = time.monotonic()

    def _try_parked(self) -> None:
        if not self.cursor.parked or time.monotonic() - self._parked_at < _PARKED_AGAIN:
            return
        self._parked_at = time.monotonic()
        writer, offset, length = self.cursor.parked[0]
        line = self._tail.line_at(writer, offset, length)
        if line is not None:
            try:
                self._deliver(Batch(self.about, [line]))
            except SinkTrouble as trouble:
                if not trouble.answered:
                    raise
                self.cursor.parked.append(self.cursor.parked.pop(0))
                return
        self.cursor.parked = [
            each for each in self.cursor.parked if each != (writer, offset, length)
        ]
        self._changed = True
        self._parked_at = float("-inf")  # the sink is well again: the others have not to wait


def _unreadable(folder: str, error: OSError) -> str:
    return f"The journal in {folder} cannot be read: {os.strerror(error.errno or 0)}."
