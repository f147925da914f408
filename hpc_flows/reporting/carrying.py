"""Runs as files that are carried where no network goes: written by `export`, read by `import`.

The file is what a relay would have sent, in frames, packed by gzip: the run, its lines, its
attachments, and an end by which a file that was cut is known.
"""

from __future__ import annotations

import gzip
import os
import time
import zlib
from typing import IO, TYPE_CHECKING, NamedTuple

from hpc_flows.exceptions import JournalError
from hpc_flows.journal.folder import check_name
from hpc_flows.journal.index import find_run
from hpc_flows.reporting.cursors import Cursor
from hpc_flows.reporting.describing import describe
from hpc_flows.reporting.feed import RunFeed, RunUnreadable, RunVanished
from hpc_flows.reporting.frames import (
    FrameError,
    attachment_of,
    batch_of,
    read_frame,
    run_of,
    run_to_head,
    spans_of,
    write_frame,
)
from hpc_flows.reporting.sink import Attachment, Batch, Receipt, RunAbout, Sink
from hpc_flows.reporting.tailing import sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.reporting.frames import Frame
    from hpc_flows.reporting.tailing import Size

#: Version of the file's form.
_VERSION = 1
#: Seconds between two looks at what is not there yet, and bytes that are read at once.
_PAUSE, _CHUNK = 0.1, 64 * 1024


class Carried(NamedTuple):
    """What was carried.

    Attributes:
        run: id of the run.
        lines: how many events.
        attachments: how many files.
        refused: lines and files that were not taken.
    """

    run: str
    lines: int
    attachments: int
    refused: int = 0


class _FileSink(Sink):
    """Writes what it gets into a file."""

    takes_attachments = True

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.lines = self.attachments = 0

    def open(self) -> str:
        return ""

    def register(self, run: RunAbout) -> str:
        write_frame(self._stream, {"call": "register", "v": _VERSION, "run": run_to_head(run)})
        return ""

    def send(self, batch: Batch) -> Receipt:
        head = {"call": "send", "run": run_to_head(batch.run), "spans": spans_of(batch.lines)}
        write_frame(self._stream, head, batch.body)
        self.lines += len(batch.lines)
        return Receipt()

    def attach(self, run: RunAbout, attachment: Attachment) -> int:
        head = {"call": "attach", "kind": attachment.kind, "key": attachment.key}
        write_frame(self._stream, {**head, "run": run_to_head(run)}, attachment.content)
        self.attachments += 1
        return 0


class _NoCursors:
    """A store that begins anew each time, and keeps nothing."""

    def load(self, run: str) -> Cursor:
        return Cursor(run)

    def save(self, cursor: Cursor) -> None:
        del cursor

    def runs(self) -> list[str]:
        return []

    def forget(self, run: str) -> None:
        del run


def export_run(home: str, wanted: str, stream: IO[bytes]) -> Carried:
    """Write a run, as it is now, into a file.

    Args:
        home: the setting `home`.
        wanted: an id, the beginning of one, a name, or `latest`.
        stream: the file, open for bytes.

    Raises:
        UnknownRun: there is none.
        OSError: the file cannot be written.
        JournalError: the run's journals cannot be read.
    """
    folder = find_run(home, wanted)
    about = describe(os.path.basename(folder), folder)
    with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as packed:
        sink = _FileSink(packed)  # type: ignore[arg-type]  # a file of bytes in all that is used
        feed = RunFeed(about, sink, _NoCursors())
        _send_all(feed)
        if not feed.cursor.registered:
            sink.register(about)
        write_frame(packed, {"call": "end", "lines": sink.lines})  # type: ignore[arg-type]  # as above
    return Carried(about.id, sink.lines, sink.attachments, feed.cursor.damaged)


def _send_all(feed: RunFeed) -> None:
    """Send what there is now; what a live run writes meanwhile is not waited for."""
    try:
        goal = _goal(feed.about.folder)
        more = True
        while feed.cursor.due or not _has_come(feed, goal):
            # No step forward: a feed waits for a hole to be filled, or for `run.json`.
            time.sleep(0.0 if more else _PAUSE)
            more = feed.step()
            feed.finish()
    except (RunVanished, RunUnreadable) as error:
        msg = f"The run cannot be exported: {feed.about.folder} is gone, or unreadable. {error}"
        raise JournalError(msg) from error


def _goal(folder: str) -> dict[str, int]:
    """Return how much there is of each journal, without a line that has no end yet."""
    try:
        return {each.writer: _whole(folder, each) for each in sizes(folder)}
    except OSError as error:
        raise RunUnreadable(str(error)) from error


def _whole(folder: str, file: Size) -> int:
    """Return where the last newline of a journal is left behind."""
    with open(os.path.join(folder, "journal", f"{file.writer}.jsonl"), "rb") as journal:
        end = file.size
        while end > 0:
            start = max(end - _CHUNK, 0)
            journal.seek(start)
            found = journal.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _has_come(feed: RunFeed, goal: dict[str, int]) -> bool:
    try:
        there = {each.writer for each in sizes(feed.about.folder)}
    except OSError:
        return False  # the next step tells what is wrong
    # A purge may have taken some since.
    return all(feed.cursor.at(name).offset >= goal[name] for name in goal.keys() & there)


def import_run(stream: IO[bytes], sink: Sink) -> Carried:
    """Bring a run from a file of `export_run` to a sink; a second time changes nothing.

    Raises:
        FrameError: the file is none of ours, or was cut; what was read before that is kept.
        SinkTrouble, SinkRefusal, RunGone, RunRefused: the sink's.
    """
    run, lines, attachments, refused = "", 0, 0, 0
    for frame in _frames(stream):
        call = frame.head.get("call")
        if call == "end":
            if frame.head.get("lines") != lines:
                raise FrameError(f"The file should hold {frame.head.get('lines')} events.")
            return Carried(run, lines, attachments, refused)
        about = _checked(run_of(frame.head))
        run = about.id
        if call == "register":
            sink.register(about)
        elif call == "send":
            batch = batch_of(frame)
            refused += sink.send(batch).refused
            lines += len(batch.lines)
        elif call == "attach":
            sink.attach(about, attachment_of(frame))
            attachments += 1
    raise FrameError("The file was cut: its end is missing. Export the run again.")


def _checked(about: RunAbout) -> RunAbout:
    try:
        check_name(about.id)
    except JournalError as error:
        raise FrameError(str(error)) from error
    return about


def _frames(stream: IO[bytes]) -> Iterator[Frame]:
    try:
        with gzip.GzipFile(fileobj=stream, mode="rb") as packed:
            first = True
            while (frame := read_frame(packed)) is not None:  # type: ignore[arg-type]  # as above
                if first and frame.head.get("v") != _VERSION:
                    raise FrameError("The file is of another version of hpc_flows.")
                first = False
                yield frame
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FrameError(f"This is no whole file of an exported run: {error}") from error
