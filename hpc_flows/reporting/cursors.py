"""Cursors: how far a relay came with each run, kept in one small file a run.

A cursor that is lost, torn or older than the truth makes the relay send again what the sink has,
which is harmless; it never makes it leave something out, because it is written only after the sink
has said that it holds what the cursor says.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from json import loads
from typing import TYPE_CHECKING, Any, Protocol
from zlib import crc32

from hpc_flows.exceptions import JournalError
from hpc_flows.journal.event import encode, seal
from hpc_flows.journal.folder import check_name
from hpc_flows.reporting.failpoints import reach

if TYPE_CHECKING:
    from collections.abc import Iterable

_VERSION = 1
_SEAL = 9  # a tab and eight digits
_SUFFIX = ".cursor"
_WHOLE = "a whole number"


@dataclass(slots=True)
class WriterCursor:
    """How far a relay came with one journal file.

    Attributes:
        offset: bytes that are dealt with.
        held: how many different events of the writer the sink said it holds; None: not known.
    """

    offset: int = 0
    held: int | None = None


@dataclass(slots=True)
class Cursor:
    """How far a relay came with one run.

    Attributes:
        run: id of the run.
        writers: by the writer's name.
        epoch: the sink's epoch when the two last agreed.
        registered: whether the sink knows the run.
        gone: whether the sink wants to hear of the run no more.
        refused: lines that the sink will never take.
        damaged: lines that are no events.
        clusters: names of clusters that the run has sent jobs to.
        due: attachments to send: kind, key, and the file's path within the run's folder.
        version: of the run, as the sink has told it last; 0: not known.
        parked: lines on which the sink stumbles: writer, offset, length. They are tried again
            later, so that one line does not keep all others from arriving.
    """

    run: str
    writers: dict[str, WriterCursor] = field(default_factory=dict)
    epoch: str = ""
    registered: bool = False
    gone: bool = False
    refused: int = 0
    damaged: int = 0
    clusters: list[str] = field(default_factory=list)
    due: list[tuple[str, str, str]] = field(default_factory=list)
    version: int = 0
    parked: list[tuple[str, int, int]] = field(default_factory=list)

    def at(self, writer: str) -> WriterCursor:
        """Return the cursor of a writer, at the beginning of its file if it is new."""
        return self.writers.setdefault(writer, WriterCursor())

    def held(self) -> dict[str, int]:
        """Return what the sink said that it holds, by writer."""
        known = ((name, cursor.held) for name, cursor in self.writers.items())
        return {name: held for name, held in known if held is not None}

    def rewind(self, writers: Iterable[str] | None = None) -> None:
        """Go back to the beginning, of some writers or of all."""
        if writers is None:
            self.version = 0
        for name in list(self.writers) if writers is None else writers:
            self.writers[name] = WriterCursor()
            self.parked = [each for each in self.parked if each[0] != name]

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-safe."""
        return {
            "v": _VERSION,
            "run": self.run,
            "writers": {name: [each.offset, each.held] for name, each in self.writers.items()},
            "epoch": self.epoch,
            "registered": self.registered,
            "gone": self.gone,
            "refused": self.refused,
            "damaged": self.damaged,
            "clusters": self.clusters,
            "due": self.due,
            "version": self.version,
            "parked": self.parked,
        }

    @classmethod
    def from_dict(cls, run: str, found: Any) -> Cursor:
        """Return the cursor that `to_dict` gave, or a new one if that cannot be read."""
        try:
            return _read(run, found)
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls(run)


def _read(run: str, found: Any) -> Cursor:
    if found["v"] != _VERSION or found["run"] != run:
        raise ValueError(run)
    writers = {
        str(name): WriterCursor(_number(offset), None if held is None else _number(held))
        for name, (offset, held) in found["writers"].items()
    }
    return Cursor(
        run,
        writers,
        str(found["epoch"]),
        bool(found["registered"]),
        bool(found["gone"]),
        _number(found["refused"]),
        _number(found["damaged"]),
        [str(name) for name in found["clusters"]],
        [(str(kind), str(key), str(path)) for kind, key, path in found["due"]],
        _number(found.get("version", 0)),
        [(str(name), _number(at), _number(size)) for name, at, size in found["parked"]],
    )


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(_WHOLE)
    return value


class CursorStore(Protocol):
    """Where cursors are kept: a folder here, or whoever pulls."""

    def load(self, run: str) -> Cursor:
        """Return the cursor of a run; a new one where none can be read."""

    def save(self, cursor: Cursor) -> None:
        """Keep a cursor.

        Raises:
            OSError: it cannot be kept now.
        """

    def runs(self) -> list[str]:
        """Return the runs that have a cursor."""

    def forget(self, run: str) -> None:
        """Remove the cursor of a run that is no more."""


class CursorFolder:
    """Cursors in a folder of their own, one for each place that is filled.

    Args:
        folder: `<home>/relay/<store>`; made when the first cursor is kept.
    """

    def __init__(self, folder: str) -> None:
        self.folder = os.path.join(folder, "cursors")

    def load(self, run: str) -> Cursor:
        """Return the cursor of a run; a new one where none can be read."""
        try:
            with open(self._path(run), "rb") as file:
                line = file.read()
            body = line[: -_SEAL - 1]
            if line[-_SEAL - 1 :] != b"\t%08x\n" % crc32(body):
                return Cursor(run)
            return Cursor.from_dict(run, loads(body))
        except (OSError, ValueError, RecursionError):
            return Cursor(run)

    def save(self, cursor: Cursor) -> None:
        """Keep a cursor; it appears whole or not at all.

        Raises:
            OSError: it cannot be kept now.
        """
        write_whole(self._path(cursor.run), seal(encode(cursor.to_dict()).encode("ascii")))

    def runs(self) -> list[str]:
        """Return the runs that have a cursor."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        found = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
        return [name for name in found if is_name(name)]

    def forget(self, run: str) -> None:
        """Remove the cursor of a run that is no more."""
        try:
            os.unlink(self._path(run))
        except OSError:
            return

    def _path(self, run: str) -> str:
        check_name(run)
        return os.path.join(self.folder, run + _SUFFIX)


def write_whole(path: str, content: bytes) -> None:
    """Write a file that appears whole or not at all, and stays after a power cut.

    Raises:
        OSError: it cannot be written; the one before stands.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    draft = f"{path}.{os.uname().nodename}-{os.getpid()}"
    try:
        _write_synced(draft, content)
        reach("draft-written")
        os.rename(draft, path)
    except OSError:
        _remove(draft)
        raise
    reach("renamed")


def _write_synced(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while content:
            content = content[os.write(fd, content) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def is_name(name: str) -> bool:
    """Tell whether a name can be that of a run."""
    try:
        check_name(name)
    except JournalError:
        return False
    return True
