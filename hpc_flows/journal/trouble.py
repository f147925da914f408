"""What a journal's writer says when something is wrong."""

from __future__ import annotations

from hpc_flows.journal.event import MAX_LINE
from hpc_flows.journal.reserve import NO_ROOM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def log_record(level: str, message: str) -> dict[str, Any]:
    """Return the facts of a log record of the journal's own."""
    return {"level": level, "message": message, "logger": "hpc_flows.journal"}


def loss(path: str, lost: int) -> dict[str, Any]:
    """Return the record that says how many were dropped."""
    message = (
        f"{lost} log record{'s were' if lost > 1 else ' was'} dropped, because {path} could not "
        f"be written for a while; states were kept."
    )
    return {**log_record("WARNING", message), "dropped": lost}


def trouble(path: str, error: OSError) -> str:
    """Return why a journal cannot be written, and what to do."""
    if error.errno in NO_ROOM:
        cure = "Free space in that file system, or ask for more quota, then run again."
    else:
        cure = "Set HPC_FLOWS_HOME to a folder that you may write, on a disk that works."
    return f"The journal {path} cannot be written: {error.strerror}. {cure}"


def shut_message(path: str) -> str:
    """Return that a journal is closed, and who may have wanted it."""
    return (
        f"The journal {path} is closed in this process. A forked child, or whoever writes after "
        f"the end of a run, needs a JournalWriter of its own."
    )


def too_long(path: str, kind: str, size: int) -> str:
    """Return that an event is longer than a line may be."""
    return (
        f"An event of kind {kind!r} of {size} bytes is too long for the journal {path}, which "
        f"takes {MAX_LINE}. Keep large data in a result or a file, and its name in the event."
    )
