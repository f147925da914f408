"""The folder of a run: who makes it, what lies in it, and the key that signs its pickles.

::

    <home>/runs/<run id>/        0700
        run.json                 what the run is, written once
        key                      32 secret bytes, 0600
        reserve                  space for states, should the disk get full
        journal/<writer>.jsonl   the events
        payloads/  results/  jobs/  control/
"""

from __future__ import annotations

import os
from errno import EEXIST
from time import time

from hpc_flows.exceptions import JournalError
from hpc_flows.journal.event import encode
from hpc_flows.journal.reserve import NO_ROOM, restore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_LONGEST_NAME = 200
_KEY_BYTES = 32


def create_run(home: str, run_id: str, meta: dict[str, Any] | None = None) -> str:
    """Make the folder of a run, with its key and `run.json`, and return its path.

    Args:
        home: the setting `home`.
        run_id: id of the root flow run; the folder's name.
        meta: what else `run.json` shall say, such as `name` and `flow`.

    Raises:
        JournalError: the folder cannot be made, or is there already.
    """
    check_name(run_id)
    run_dir = os.path.join(os.fspath(home), "runs", run_id)
    try:
        os.makedirs(os.path.dirname(run_dir), mode=0o700, exist_ok=True)
        os.mkdir(run_dir, 0o700)
        for name in ("journal", "payloads", "results", "jobs", "control"):
            os.mkdir(os.path.join(run_dir, name), 0o700)
        _write_new(os.path.join(run_dir, "key"), os.urandom(32))
        _write_new(os.path.join(run_dir, "run.json"), _describe(run_id, meta or {}))
    except OSError as error:
        raise JournalError(_no_folder(run_dir, home, error)) from error
    restore(run_dir)
    return run_dir


def read_key(run_dir: str) -> bytes:
    """Return the 32 secret bytes that sign what the run pickles.

    Raises:
        JournalError: the key is not there, or others than its owner could have changed it.
    """
    path = os.path.join(os.fspath(run_dir), "key")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        msg = f"The key of the run cannot be read: {path}: {error.strerror}."
        raise JournalError(msg) from error
    try:
        facts = os.fstat(fd)
        key = os.read(fd, 64)
    finally:
        os.close(fd)
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        msg = (
            f"The key of the run could have been changed by someone else, so nothing of the run "
            f"is unpickled: {path} has mode {facts.st_mode & 0o777:04o} and owner "
            f"{facts.st_uid}. If you trust it: chmod 600 {path}"
        )
        raise JournalError(msg)
    if len(key) != _KEY_BYTES:
        msg = f"The key of the run is damaged: {path} has {len(key)} bytes, not {_KEY_BYTES}."
        raise JournalError(msg)
    return key


def check_name(name: str) -> None:
    """Raise JournalError unless `name` can be the name of a file everywhere."""
    fits = 0 < len(name) <= _LONGEST_NAME and not name.startswith(".") and _NAME.issuperset(name)
    if not fits:
        msg = (
            f"{name!r} cannot name a run or a journal: use 1 to {_LONGEST_NAME} letters, digits, "
            f"'.', '_' and '-', not beginning with '.'."
        )
        raise JournalError(msg)


def _write_new(path: str, content: bytes) -> None:
    """Write a file that is there with its whole content or not at all."""
    draft = f"{path}.{os.getpid()}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while content:
            content = content[os.write(fd, content) :]
    finally:
        os.close(fd)
    os.rename(draft, path)


def _describe(run_id: str, meta: dict[str, Any]) -> bytes:
    # Here, because jobs never make a run.
    import sys  # noqa: PLC0415

    from hpc_flows._version import __version__  # noqa: PLC0415

    facts = {
        "v": 1,
        "id": run_id,
        "created": time(),
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "cwd": _cwd(),
        "python": sys.executable,
        "hpc_flows": __version__,
    }
    return (encode(facts | meta) + "\n").encode("ascii")


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # removed under the driver
        return None


def _no_folder(run_dir: str, home: str, error: OSError) -> str:
    if error.errno == EEXIST and os.path.isdir(run_dir):
        return f"There is a run {run_dir} already; every run needs an id of its own."
    if error.errno in NO_ROOM:
        cure = "Free space there, or set HPC_FLOWS_HOME to a folder on another file system."
    else:
        cure = "Set HPC_FLOWS_HOME to a folder that you may write."
    what = error.filename or run_dir
    if error.errno == EEXIST:
        cure = f"Move away what is there, which is no folder. {cure}"
    return f"The folder of the run cannot be made in {home}: {what}: {error.strerror}. {cure}"
