"""Runs that were made before the server was: their journals are read and taken like any others.

How far each was read is remembered: a second import reads what has come since.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import JournalError
from hpc_flows.server.imported import Memory, Place, mark_of
from hpc_flows.server.ingest import Ingest, NoSuchRun, RunGone
from hpc_flows.server.ingest.kept_texts import LARGEST, OverQuota

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hpc_flows.server.db import Database

#: Bytes of journals that are taken in one transaction.
_PORTION = 256 * 1024

#: Largest script, in bytes, that is taken with its job.
_LARGEST_SCRIPT = 1024 * 1024

_SUFFIX = ".jsonl"

#: Seconds after which zero bytes in a line are no hole that will be filled, but damage.
_HOLES_LAST = 60.0


@dataclass(slots=True)
class Imported:
    """What an import brought.

    Attributes:
        runs: ids of the runs of which something was new.
        events: how many events were new.
        repeated: how many were read that the server had already.
        unchanged: how many runs were not read, because nothing was added since the last import.
        read: how many bytes of journals were read.
        refused: how many lines are no events.
        left: why a run was left out, by its id.
    """

    runs: list[str] = field(default_factory=list)
    events: int = 0
    repeated: int = 0
    unchanged: int = 0
    read: int = 0
    refused: int = 0
    left: dict[str, str] = field(default_factory=dict)


def import_home(  # where from, where to, whose, which, and who is told
    database: Database,
    home: str,
    owner_id: int,
    project_id: int | None = None,
    *,
    wanted: Iterable[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Imported:
    """Take the runs below a home into the database; what is there already changes nothing.

    Args:
        database: where to.
        home: the folder that the setting `home` names.
        owner_id: the user whose runs they will be.
        project_id: the project that new ones belong to, or None.
        wanted: ids of the runs to import; all of them unless given.
        say: is told a line for each run that brought something.

    Raises:
        JournalError: the home cannot be read.
    """
    imported = Imported()
    names = set(wanted) if wanted is not None else None
    for run_dir in _folders(home):
        run = os.path.basename(run_dir)
        if names is not None and run not in names:
            continue
        one = _RunImport(database, run_dir, owner_id, imported)
        try:
            events = one.take(project_id)
        except (JournalError, NoSuchRun, RunGone, ValueError) as error:
            imported.left[run] = str(error)
            continue
        if events:
            imported.runs.append(run)
            if say is not None:
                say(f"{run}: {events} events")
    return imported


class _RunImport:
    """The import of one run."""

    def __init__(self, database: Database, run_dir: str, owner_id: int, imported: Imported) -> None:
        self._run, self._run_dir = os.path.basename(run_dir), run_dir
        self._owner, self._imported = owner_id, imported
        self._ingest = Ingest(database, hears=False)
        self._memory = Memory(database, self._run, owner_id)

    def take(self, project_id: int | None) -> int:
        """Take what is new, and return how many events that are.

        Raises:
            JournalError: a journal cannot be read.
            NoSuchRun, RunGone, ValueError: the run is not to be taken.
        """
        paths = _journals(self._run_dir)
        if self._memory.has_all_of(paths):
            self._imported.unchanged += 1
            return 0
        self._ingest.register(self._run, _about(self._run_dir), self._owner, project_id)
        was_whole = self._memory.is_whole
        self._memory.begin_import()
        events = sum(self._take_portion(portion) for portion in self._portions(paths))
        self._imported.events += events
        if events or not was_whole:
            _attach_scripts(self._ingest, self._run_dir, self._owner)
            self._attach_artifacts()
        self._memory.end_import()
        return events

    def _attach_artifacts(self) -> None:
        folder = os.path.join(self._run_dir, "artifacts")
        for name in _names(folder):
            text = _text(os.path.join(folder, name), LARGEST) if name.endswith(".json") else None
            if text is None or not _is_json(text):
                continue
            try:
                key = name.removesuffix(".json")
                self._ingest.attach_artifact(self._run, key, text, self._owner)
            except OverQuota as error:
                self._imported.left[f"{self._run}: artifact {key}"] = str(error)

    def _take_portion(self, portion: _Portion) -> int:
        taken = self._ingest.take(self._run, b"".join(portion.lines), self._owner)
        self._memory.keep(portion.places.values())
        self._imported.repeated += taken.repeated
        self._imported.refused += taken.refused + portion.refused
        self._imported.read += portion.size
        return taken.taken

    def _portions(self, paths: list[str]) -> Iterator[_Portion]:
        """Give the whole lines that are new; a torn end is left for the next time."""
        portion = _Portion()
        for path in paths:
            for is_at_end in self._read(path, portion):
                if not is_at_end or portion.size >= _PORTION:
                    yield portion
                    portion.clear()
        if portion.places:
            yield portion

    def _read(self, path: str, portion: _Portion) -> Iterator[bool]:
        """Read a journal into a portion; stop whenever that is full, and once at the end."""
        writer = b'"writer":' + json.dumps(os.path.basename(path)[: -len(_SUFFIX)]).encode()
        try:
            # Journals are never links.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(fd, "rb") as file:
                facts = os.fstat(fd)
                done = self._memory.begin(file, path)
                waits = False
                for line in file:
                    waits = b"\0" in line and _may_be_filled(facts)
                    if waits or not line.endswith(b"\n"):
                        break
                    done += len(line)
                    portion.add(line, writer)
                    if portion.size >= _PORTION:
                        portion.places[path] = Place(path, 0, 0, done, mark_of(file, done))
                        yield False
                # A hole that nobody fills changes nothing, and what follows it is read later.
                size, modified = (0, 0) if waits else (facts.st_size, facts.st_mtime_ns)
                portion.places[path] = Place(path, size, modified, done, mark_of(file, done))
        except OSError as error:
            raise JournalError(f"{path} cannot be read: {error.strerror}.") from error
        yield True


class _Portion:
    """Lines of several journals, and how far these are read with them."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin the next one."""
        self.lines: list[bytes] = []
        self.places: dict[str, Place] = {}
        self.size = self.refused = 0

    def add(self, line: bytes, writer: bytes) -> None:
        """Take a line; one that is not the writer's is counted as refused."""
        self.size += len(line)
        if writer in line:
            self.lines.append(line)
        elif line != b"\n":  # it ends a record that was torn
            self.refused += 1


def _may_be_filled(facts: os.stat_result) -> bool:
    """Tell whether zero bytes may be a hole on NFS that another node is about to fill."""
    return time.time() - facts.st_mtime < _HOLES_LAST


def _folders(home: str) -> list[str]:
    folder = os.path.join(os.path.expanduser(home), "runs")
    try:
        with os.scandir(folder) as entries:
            found = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        msg = (
            f"The runs cannot be listed: {folder}: {error.strerror}. Name a home that you may read."
        )
        raise JournalError(msg) from error
    return sorted(found)


def _about(run_dir: str) -> dict[str, Any]:
    """Return what run.json says; nothing of a damaged one."""
    try:
        with open(os.path.join(run_dir, "run.json"), "rb") as file:
            about = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _journals(run_dir: str) -> list[str]:
    folder = os.path.join(run_dir, "journal")
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(_SUFFIX))
    except OSError as error:
        raise JournalError(f"{folder} cannot be read: {error.strerror}.") from error
    return [os.path.join(folder, name) for name in names]


def _attach_scripts(ingest: Ingest, run_dir: str, owner_id: int) -> None:
    folder = os.path.join(run_dir, "jobs")
    for token in _names(folder):
        text = _text(os.path.join(folder, token, "script.sh"))
        if text is not None:
            ingest.attach(os.path.basename(run_dir), "script", token, text, owner_id)


def _names(folder: str) -> list[str]:
    try:
        return sorted(islice(os.listdir(folder), 100_000))
    except OSError:  # there is none
        return []


def _text(path: str, most: int = _LARGEST_SCRIPT) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb") as file:
            content = file.read(most + 1)
    except OSError:
        return None
    return None if len(content) > most else content.decode(errors="replace")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
