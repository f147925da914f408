"""Who holds a lease: written into its file, read by whoever waits, asked whether it still lives."""

from __future__ import annotations

import os
from time import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

#: Seconds without renewal that a lease outlives, unless its holder says otherwise.
DEFAULT_TTL = 60.0

_PROC = "/proc"
_LONGEST_FILE = 4096
_LONGEST_TEXT = 500
_machine: list[str] = []
_starts: dict[int, str] = {}


class Holder:
    """The process that holds a lease.

    Attributes:
        token: 16 hexadecimal digits, the same for a lease and for whoever adopts it.
        ttl: seconds without renewal after which others may take the lease.
        host: name of its node, for people.
        machine: the boot of the machine and the process namespace that `pid` counts in.
        pid: its process.
        started: when the process started, in the kernel's words; empty where there is no /proc.
        job: its batch job as people write it, `351` or `351_3`; empty outside of jobs.
        since: when it took the lease, in seconds since 1970 by its own clock; only for messages.
        note: what it says of itself, such as a task run's name.
    """

    __slots__ = ("host", "job", "machine", "note", "pid", "since", "started", "token", "ttl")

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.token = fields.get("token", "")
        self.ttl = _number(fields.get("ttl", ""), DEFAULT_TTL)
        self.host = fields.get("host", "")
        self.machine = fields.get("machine", "")
        self.pid = int(_number(fields.get("pid", ""), 0))
        self.started = fields.get("started", "")
        self.job = fields.get("job", "")
        self.since = _number(fields.get("since", ""), 0.0)
        self.note = fields.get("note", "")

    @classmethod
    def here(cls, ttl: float, note: str = "", token: str = "") -> Self:
        """Return this process as a holder, with a new token unless one is given."""
        pid = os.getpid()
        fields = {
            "token": token or os.urandom(8).hex(),
            "ttl": str(float(ttl)),
            "host": os.uname().nodename,
            "machine": machine(),
            "pid": str(pid),
            "started": _own_start(pid),
            "job": job_id(),
            "since": str(time()),
            "note": " ".join(note.split())[:_LONGEST_TEXT],
        }
        return cls(fields)

    @classmethod
    def read(cls, path: str) -> Self | None:
        """Return the holder that a file names, or None if the file is not there.

        A file that says nothing of use gives a holder of nowhere, which is stale by age only.

        Raises:
            OSError: the file is there and cannot be read.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            text = os.read(fd, _LONGEST_FILE).decode("utf-8", "replace")
        finally:
            os.close(fd)
        lines = (line.partition("=") for line in text.splitlines())
        return cls({key: value for key, _, value in lines})

    def text(self) -> str:
        """Return what the file of the lease says."""
        return "".join(f"{name}={getattr(self, name)}\n" for name in sorted(Holder.__slots__))

    def is_dead(self) -> bool:
        """Tell whether its process is known to have ended; False for processes elsewhere."""
        if not self.machine or self.machine != machine():
            return False
        found = start_of(self.pid)
        # Two different times of start: the number was given to another process since.
        return found is None or bool(found and self.started and found != self.started)

    def __str__(self) -> str:
        """Say who it is: `pid 123 on udc-ba12, job 77_3, since 14:02`."""
        from time import localtime, strftime  # noqa: PLC0415 - only for messages

        job = f", job {self.job}" if self.job else ""
        day = "" if time() - self.since < 86400 else "%Y-%m-%d "  # noqa: PLR2004 - seconds of a day
        since = strftime(f"{day}%H:%M", localtime(self.since)) if self.since else "an unknown time"
        note = f" ({self.note})" if self.note else ""
        return (
            f"pid {self.pid or '?'} on {self.host or 'an unknown host'}{job}, since {since}{note}"
        )

    def __repr__(self) -> str:
        return f"<Holder {self}>"


def _number(text: str, default: float) -> float:
    try:
        number = float(text)
    except ValueError:
        return default
    return number if 0 <= number < float("inf") else default


def job_id() -> str:
    """Return the batch job of this process as people write it, or an empty text."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    return os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID") or ""


def machine() -> str:
    """Return where process ids mean what they mean here: this boot, and this namespace of pids."""
    if not _machine:
        try:
            with open(f"{_PROC}/sys/kernel/random/boot_id", encoding="ascii") as file:
                boot = file.read().strip()
            _machine.append(f"{boot} {os.readlink(f'{_PROC}/self/ns/pid')}")
        except OSError:  # no Linux: the name has to do
            _machine.append(os.uname().nodename)
    return _machine[0]


def start_of(pid: int) -> str | None:
    """Return when a process of this machine started, or None if it has ended.

    The text is empty where nothing is known but that there is such a process. A process that was
    killed and that its parent has not asked after yet has ended.
    """
    try:
        with open(f"{_PROC}/{pid}/stat", "rb") as file:
            # The name of the program is in brackets and may hold anything.
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return "" if _exists(pid) else None
    return None if words[0] in {b"Z", b"X"} else words[19].decode()


def _own_start(pid: int) -> str:
    if pid not in _starts:
        _starts.clear()  # of the process that this one was forked from
        _starts[pid] = start_of(pid) or ""
    return _starts[pid]


def _exists(pid: int) -> bool:
    """Tell whether there is such a process, which /proc may hide from us."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
