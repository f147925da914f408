"""Reading the lines of journals that are not dealt with yet, as they stand.

Nothing is decoded: a line goes on as it is, with its checksum, which is looked at here so that
what a disk has damaged is not sent.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import NamedTuple
from zlib import crc32

from hpc_flows.journal.event import MAX_LINE
from hpc_flows.reporting.sink import Line

_SUFFIX = ".jsonl"
_SEAL = 9  # a tab and eight digits
_CHUNK = 256 * 1024

#: Seconds for which a line with zero bytes in it is waited for: on NFS, another node may fill it.
HOLE_PATIENCE = 30.0


class Size(NamedTuple):
    """A journal file and how long it is."""

    writer: str
    size: int


def sizes(folder: str) -> list[Size]:
    """Return the journal files of a run with their lengths.

    Raises:
        OSError: the folder cannot be read, or is gone.
    """
    with os.scandir(os.path.join(folder, "journal")) as entries:
        found = [entry for entry in entries if entry.name.endswith(_SUFFIX)]
        return [
            Size(entry.name.removesuffix(_SUFFIX), _length(entry))
            for entry in found
            if entry.is_file(follow_symlinks=False)
        ]


def _length(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


class Piece(NamedTuple):
    """Some lines of one journal file.

    Attributes:
        writer: whose file it is.
        lines: those that are right.
        start, end: the offsets before the first and after the last that were looked at.
        damaged: how many were no events.
    """

    writer: str
    lines: list[Line]
    start: int
    end: int
    damaged: int


class Tail:
    """Reads the journal files of one run from given offsets on.

    It remembers nothing but where it met a hole, and since when.
    """

    def __init__(self, folder: str) -> None:
        self._folder = os.path.join(folder, "journal")
        self._holes: dict[tuple[str, int], float] = {}

    def read(self, writer: str, offset: int, most_lines: int, most_bytes: int) -> Piece:
        """Return the whole lines from `offset` on, and at least one if there is one.

        Raises:
            OSError: the file cannot be read, or is gone.
        """
        fd = os.open(
            os.path.join(self._folder, writer + _SUFFIX),
            os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW,
        )
        try:
            text = _whole_lines(fd, offset, most_bytes)
        finally:
            os.close(fd)
        return self._checked(writer, offset, text, most_lines)

    def holes_of(self, writer: str) -> bool:
        """Tell whether a hole in a writer's file is waited for."""
        return any(name == writer for name, _ in self._holes)

    def line_at(self, writer: str, offset: int, size: int) -> Line | None:
        """Return the line that stands somewhere, if it still does."""
        try:
            piece = self.read(writer, offset, 1, size)
        except OSError:
            return None
        return piece.lines[0] if piece.lines and len(piece.lines[0].text) + 1 == size else None

    def _checked(self, writer: str, start: int, text: bytes, most_lines: int) -> Piece:
        lines: list[Line] = []
        at, damaged = start, 0
        for raw in text.split(b"\n")[:-1]:
            if len(lines) >= most_lines:
                break
            if is_whole(raw):
                lines.append(Line(writer, raw))
            elif raw:
                if b"\0" in raw and self._waits(writer, at):
                    break
                damaged += 1
            at += len(raw) + 1
        return Piece(writer, lines, start, at, damaged)

    def _waits(self, writer: str, offset: int) -> bool:
        now = monotonic()
        if now - self._holes.setdefault((writer, offset), now) < HOLE_PATIENCE:
            return True
        del self._holes[writer, offset]
        return False


def is_whole(line: bytes) -> bool:
    """Tell whether a line has the right checksum."""
    return len(line) > _SEAL and line[-_SEAL:] == b"\t%08x" % crc32(line[:-_SEAL])


def _whole_lines(fd: int, offset: int, most_bytes: int) -> bytes:
    """Return about `most_bytes`, up to a newline; more only for one line that is longer."""
    want = max(min(most_bytes, _CHUNK), 1)
    found = b""
    while True:
        chunk = os.pread(fd, want, offset + len(found))
        found += chunk
        end = found.rfind(b"\n") + 1
        if not chunk or (end and len(found) >= most_bytes):
            return found[:end]
        if not end and len(found) > MAX_LINE:
            return _garbage(fd, offset, found)
        want = min(max(len(found), _CHUNK), MAX_LINE)


def _garbage(fd: int, offset: int, found: bytes) -> bytes:
    """Return the rest of a line that is too long to be one, if its end is there; else nothing.

    It is held as one damaged line of the same length, without keeping it all.
    """
    length = len(found)
    while chunk := os.pread(fd, MAX_LINE, offset + length):
        end = chunk.find(b"\n")
        if end >= 0:
            return b"?" * (length + end) + b"\n"
        length += len(chunk)
    return b""
