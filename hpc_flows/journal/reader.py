"""Readers of journals: one that follows a run as it is written, and two that read it whole.

A reader believes nothing: a line counts only with the right checksum, the right form and its
file's own writer. A line that does not is skipped and counted; the end of a file without a
newline is left until it has one. Memory is bounded by what is asked for at a time, not by the
length of the journal.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from json import JSONDecoder
from math import isfinite
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any
from zlib import crc32

from hpc_flows.exceptions import JournalError
from hpc_flows.journal.event import MAX_LINE, VERSION, Event

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes that are read of one file at a time.
CHUNK = 64 * 1024

#: How many events `poll` returns at most when the caller does not say.
BATCH = 50_000

_SUFFIX = ".jsonl"
_SEAL = 9  # a tab and eight digits
_KEYS = frozenset({"v", "run", "writer", "seq", "wall", "mono", "kind", "data"})
_BIGGEST_SEQ = 1 << 62

_order = attrgetter("order")


class NumberSet:
    """A set of whole numbers that mostly come in order, kept as ranges."""

    __slots__ = ("_starts", "_stops")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._stops[at]

    def add(self, number: int) -> bool:
        """Add a number; tell whether it was not there before."""
        stops = self._stops
        if stops and number == stops[-1]:
            stops[-1] = number + 1
            return True
        if number in self:
            return False
        at = bisect_right(self._starts, number)
        touches_left = at > 0 and stops[at - 1] == number
        touches_right = at < len(stops) and self._starts[at] == number + 1
        if touches_left and touches_right:
            stops[at - 1] = stops.pop(at)
            del self._starts[at]
        elif touches_left:
            stops[at - 1] = number + 1
        elif touches_right:
            self._starts[at] = number
        else:
            self._starts.insert(at, number)
            stops.insert(at, number + 1)
        return True


@dataclass(slots=True)
class Damage:
    """What a reader met that is no event.

    Attributes:
        bad_lines: lines without a right checksum or form.
        duplicates: events whose number their writer had used before; only the first counts.
        newer: lines of a newer version of hpc_flows, which this one does not understand.
    """

    bad_lines: int = 0
    duplicates: int = 0
    newer: int = 0


class NewerVersionError(ValueError):
    """A line was written by a newer version of hpc_flows."""


class JournalReader:
    """Follows the journals of a run as they are written.

    Args:
        run_dir: folder of the run.
        hole_patience: seconds for which a line with zero bytes in it is waited for. An NFS
            client may show such a hole where another node has written and not everything has
            arrived; it is taken as damage only when it stays.

    Attributes:
        damage: what was met that is no event.
    """

    def __init__(self, run_dir: str, *, hole_patience: float = 30.0) -> None:
        self.run_dir = os.fspath(run_dir)
        self.damage = Damage()
        self._patience = hole_patience
        self._files: dict[str, _File] = {}
        self._ignored: set[str] = set()
        self._next = 0

    @property
    def bad_lines(self) -> int:
        """How many lines were skipped because they are damaged."""
        return self.damage.bad_lines

    def poll(self, limit: int = BATCH) -> list[Event]:
        """Return the events that came since the last call, ordered by wall, writer and seq.

        Args:
            limit: the most to return; the rest comes with the next call.

        Raises:
            JournalError: the folder or a file cannot be read.
        """
        self._look_for_files()
        files = [file for name, file in self._files.items() if name not in self._ignored]
        found: list[Event] = []
        # Begins with the file after the one where the limit was met, so that none waits for ever.
        first = self._next % len(files) if files else 0
        for at, file in enumerate(files[first:] + files[:first], start=first + 1):
            found.extend(islice(file.events(self._patience), limit - len(found)))
            if len(found) >= limit:
                self._next = at
                break
        found.sort(key=_order)
        return found

    def ignore(self, writer: str) -> None:
        """Look at the journal of `writer` no more: it is finished, or one's own."""
        self._ignored.add(writer)
        self._files.pop(writer, None)

    def unread(self) -> dict[str, int]:
        """Return, for each writer with a torn tail or more to read, how many bytes that is."""
        sizes = ((name, file.unread()) for name, file in self._files.items())
        return {name: size for name, size in sizes if size}

    def _look_for_files(self) -> None:
        known = self._files.keys() | self._ignored
        for writer in _writers(self.run_dir) - known:
            self._files[writer] = _File(self.run_dir, writer, self.damage)


def iter_run(run_dir: str, damage: Damage | None = None) -> Iterator[Event]:
    """Give the events of a run ordered by wall, writer and seq, holding few of them in memory.

    Args:
        run_dir: folder of the run.
        damage: is filled with what is met that is no event.

    Raises:
        JournalError: the folder or a file cannot be read.
    """
    damage = damage or Damage()
    files = [_File(run_dir, writer, damage) for writer in sorted(_writers(run_dir))]
    return merge(*(file.events() for file in files), key=_order)


def read_run(run_dir: str) -> list[Event]:
    """Return all events of a run, ordered by wall, writer and seq.

    Raises:
        JournalError: the folder or a file cannot be read.
    """
    return sorted(iter_run(run_dir), key=_order)


def decode(line: bytes) -> Event:
    """Return the event that a line says, without its newline.

    Raises:
        NewerVersionError: only a newer version of hpc_flows understands it.
        ValueError: it is damaged, or no event.
    """
    body = line[:-_SEAL]
    if line[-_SEAL:] != b"\t%08x" % crc32(body):
        raise ValueError("wrong checksum")
    try:
        facts = _parse(body.decode())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(facts, dict) or not facts.keys() >= _KEYS:
        raise ValueError("not the fields of an event")
    return _checked(facts)


def _checked(facts: dict[str, Any]) -> Event:
    version, seq = facts["v"], facts["seq"]
    if type(version) is int and version > VERSION:
        raise NewerVersionError(f"version {version}")
    if version != VERSION or type(seq) is not int or not 0 < seq < _BIGGEST_SEQ:
        raise ValueError("wrong version or number")
    texts = (facts["run"], facts["writer"], facts["kind"])
    if not all(isinstance(text, str) for text in texts) or not isinstance(facts["data"], dict):
        raise ValueError("fields of a wrong type")
    wall, mono = _seconds(facts["wall"]), _seconds(facts["mono"])
    return Event(facts["run"], facts["writer"], seq, wall, mono, facts["kind"], facts["data"])


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("not a number of seconds")  # noqa: TRY004 - counted like any damage
    try:
        seconds = float(value)
    except OverflowError as error:
        raise ValueError("not a number of seconds") from error
    if not isfinite(seconds):
        raise ValueError("not a number of seconds")
    return seconds


def _no_number(text: str) -> float:
    raise ValueError(text)


# NaN and the infinities are not JSON, though Python would read them.
_parse = JSONDecoder(parse_constant=_no_number).decode


@dataclass(slots=True)
class _File:
    """How far one journal file was read."""

    run_dir: str
    writer: str
    damage: Damage
    offset: int = 0  # of the first byte of the first line not yet taken
    seen: NumberSet = field(default_factory=NumberSet)
    skipping: bool = False  # inside a line that is too long to be one
    hole: tuple[int, float] = (-1, 0.0)  # offset of a line with zeros, and when it was first met

    @property
    def path(self) -> str:
        return os.path.join(self.run_dir, "journal", self.writer + _SUFFIX)

    def events(self, hole_patience: float = 0.0) -> Iterator[Event]:
        """Give the events from `offset` to the last newline; `offset` follows them."""
        for line in self._lines():
            start = self.offset
            self.offset += len(line) + 1
            if self.skipping:
                self.skipping = False
                continue
            event = self._understood(line)
            if event is not None:
                yield event
            elif b"\0" in line and self._waits(start, hole_patience):
                self.offset = start
                self.damage.bad_lines -= 1
                return

    def unread(self) -> int:
        return max(0, os.stat(self.path).st_size - self.offset)

    def _lines(self) -> Iterator[bytes]:
        rest = b""
        at = self.offset
        # As much again as waits for its newline, so that long lines cost no more than short ones.
        while chunk := self._read(at, max(CHUNK, len(rest))):
            at += len(chunk)
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            yield from lines
            if self.skipping or len(rest) > MAX_LINE:
                self.damage.bad_lines += not self.skipping
                self.skipping = True
                self.offset += len(rest)
                rest = b""

    def _read(self, at: int, size: int) -> bytes:
        # Opened each time: NFS looks at a file anew when it is opened, and a run may have more
        # files than a process may hold open.
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise JournalError(_unreadable(self.path, error)) from error
        try:
            return os.pread(fd, size, at)
        except OSError as error:
            raise JournalError(_unreadable(self.path, error)) from error
        finally:
            os.close(fd)

    def _understood(self, line: bytes) -> Event | None:
        if not line:  # ends a torn record
            return None
        try:
            event = decode(line)
            if event.writer != self.writer:
                raise ValueError("another writer's")  # noqa: TRY301 - counted like the others
        except NewerVersionError:
            self.damage.newer += 1
            return None
        except ValueError:
            self.damage.bad_lines += 1
            return None
        if not self.seen.add(event.seq):
            self.damage.duplicates += 1
            return None
        return event

    def _waits(self, start: int, patience: float) -> bool:
        now = monotonic()
        if self.hole[0] != start:
            self.hole = (start, now)
        return now - self.hole[1] < patience


def _writers(run_dir: str) -> set[str]:
    folder = os.path.join(os.fspath(run_dir), "journal")
    try:
        # Scanned, not asked for by name: NFS remembers for long that a file was not there.
        with os.scandir(folder) as entries:
            return {
                entry.name.removesuffix(_SUFFIX)
                for entry in entries
                if entry.name.endswith(_SUFFIX) and entry.is_file(follow_symlinks=False)
            }
    except OSError as error:
        raise JournalError(_unreadable(folder, error)) from error


def _unreadable(path: str, error: OSError) -> str:
    return (
        f"The journal cannot be read: {path}: {error.strerror}. `hpc-flows runs ls` shows the "
        f"runs that HPC_FLOWS_HOME has."
    )
