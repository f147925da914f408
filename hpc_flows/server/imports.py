"""Runs that were made before the server was: their journals are read and taken like any others."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import JournalError
from hpc_flows.server.db.texts import loads
from hpc_flows.server.ingest import Ingest, NoSuchRun, RunGone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hpc_flows.server.db import Database

#: Bytes of journals that are taken in one transaction.
_PORTION = 256 * 1024

#: Largest script, in bytes, that is taken with its job.
_LARGEST_SCRIPT = 1024 * 1024

_SUFFIX = ".jsonl"


@dataclass(slots=True)
class Imported:
    """What an import brought.

    Attributes:
        runs: ids of the runs of which something was new.
        events: how many events were new.
        refused: how many lines are no events.
        left: why a run was left out, by its id.
    """

    runs: list[str] = field(default_factory=list)
    events: int = 0
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
    ingest = Ingest(database, hears=False)
    imported = Imported()
    names = set(wanted) if wanted is not None else None
    for run_dir in _folders(home):
        run = os.path.basename(run_dir)
        if names is not None and run not in names:
            continue
        try:
            events = _import_run(ingest, run_dir, owner_id, project_id, imported)
        except (JournalError, NoSuchRun, RunGone, ValueError) as error:
            imported.left[run] = str(error)
            continue
        if events:
            imported.runs.append(run)
            if say is not None:
                say(f"{run}: {events} events")
    return imported


def _import_run(
    ingest: Ingest, run_dir: str, owner_id: int, project_id: int | None, imported: Imported
) -> int:
    run = os.path.basename(run_dir)
    ingest.register(run, _about(run_dir), owner_id, project_id)
    events = 0
    for lines in _portions(run_dir):
        taken = ingest.take(run, lines, owner_id)
        events += taken.taken
        imported.refused += taken.refused
    if events:
        _attach_scripts(ingest, run_dir, owner_id)
        _attach_artifacts(ingest, run_dir, owner_id)
    imported.events += events
    return events


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


def _portions(run_dir: str) -> Iterator[bytes]:
    """Give the whole lines of a run's journals in portions; a torn end is left for its relay."""
    folder = os.path.join(run_dir, "journal")
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(_SUFFIX))
    except OSError as error:
        raise JournalError(f"{folder} cannot be read: {error.strerror}.") from error
    portion, size = [], 0
    for name in names:
        for line in _lines(os.path.join(folder, name), name.removesuffix(_SUFFIX)):
            portion.append(line)
            size += len(line)
            if size >= _PORTION:
                yield b"".join(portion)
                portion, size = [], 0
    if portion:
        yield b"".join(portion)


def _lines(path: str, writer: str) -> Iterator[bytes]:
    """Give the lines of a journal that are its own writer's; journals are never links."""
    mark = b'"writer":' + json.dumps(writer).encode()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb") as file:
            for line in file:
                if line.endswith(b"\n") and mark in line:
                    yield line
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}.") from error


def _attach_scripts(ingest: Ingest, run_dir: str, owner_id: int) -> None:
    folder = os.path.join(run_dir, "jobs")
    for token in _names(folder):
        text = _text(os.path.join(folder, token, "script.sh"))
        if text is not None:
            ingest.attach(os.path.basename(run_dir), "script", token, text, owner_id)


def _attach_artifacts(ingest: Ingest, run_dir: str, owner_id: int) -> None:
    folder = os.path.join(run_dir, "artifacts")
    for name in _names(folder):
        text = _text(os.path.join(folder, name)) if name.endswith(".json") else None
        if text is not None and _is_json(text):
            key = name.removesuffix(".json")
            ingest.attach(os.path.basename(run_dir), "artifact", key, text, owner_id)


def _names(folder: str) -> list[str]:
    try:
        return sorted(islice(os.listdir(folder), 100_000))
    except OSError:  # there is none
        return []


def _text(path: str) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(fd, "rb") as file:
            content = file.read(_LARGEST_SCRIPT + 1)
    except OSError:
        return None
    return None if len(content) > _LARGEST_SCRIPT else content.decode(errors="replace")


def _is_json(text: str) -> bool:
    try:
        loads(text)
    except (ValueError, RecursionError):
        return False
    return True
