"""The processes that a process has started, and their end.

Its family are the process itself, all that descend from it, and those of the sessions that any of
them lead. So also those are found that have left the session (`setsid`) or, in it, whose parents
have ended.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Seconds between SIGTERM and SIGKILL, in which programs may put their affairs in order.
GRACE = 5.0
#: Seconds between two looks at whether a family has ended.
_LOOK = 0.02
#: Times that SIGKILL is sent to what has been born meanwhile. A process in an uninterruptible wait
#: (for a file server, say) does not end however often it is asked.
_ROUNDS = 25


class _Process(NamedTuple):
    """What the process table says of a process: parent, session, birth in ticks, and its name."""

    parent: int
    session: int
    born: int
    name: str


class Family:
    """A process and those that it has started."""

    def __init__(self, leader: int, *, spares_leader: bool = False) -> None:
        """Name the family of the process `leader`, which nobody has waited for yet.

        With `spares_leader` its end is that of the others: a process that ends its own family
        would not live to the end of it.
        """
        self.leader = leader
        self._spares_leader = spares_leader
        self._known: dict[int, int] = {}  # birth by pid: a number may be another's by now

    def names(self) -> list[str]:
        """Return the living members, as in `sleep (4711)`."""
        return [f"{process.name} ({pid})" for pid, process in self._members().items()]

    def is_empty(self) -> bool:
        """Tell at little cost whether the leader's process group has ended; it has been reaped."""
        return not _signal_group(self.leader, 0)

    def end(self, grace: float | None = None) -> list[str]:
        """End all members: SIGTERM, and SIGKILL `grace` (5) seconds later; return who is left."""
        try:
            self._send(signal.SIGTERM, signal.SIGCONT)  # what is stopped gets TERM once it goes on
            self._wait(GRACE if grace is None else grace)
        finally:  # also when Ctrl-C cuts the wait short
            for _ in range(_ROUNDS):
                if not self._send(signal.SIGKILL):
                    break
                time.sleep(_LOOK)
        return self.names()

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._members() and time.monotonic() < deadline:
            time.sleep(_LOOK)

    def _send(self, *numbers: int) -> bool:
        """Send signals to all members, parents first; tell whether there are any.

        A shell that waits for a child which is ended before itself would take that for its own good
        end, and not do what it does when it is asked to end.
        """
        members = self._members()
        for number in numbers:
            if not members and not self._spares_leader:
                _signal_group(self.leader, number)  # where there is no process table
            for pid in members:
                _signal(pid, number)
        return bool(members)

    def _members(self) -> dict[int, _Process]:
        table = dict(_table())
        # A session outlives its leader: what was born in it meanwhile is found by its number.
        found = {
            pid
            for pid, process in table.items()
            if self.leader in (pid, process.session)
            or self._known.get(pid) == process.born
            or process.session in self._known
        }
        while more := {
            pid
            for pid, process in table.items()
            if pid not in found and (process.parent in found or process.session in found)
        }:
            found |= more
        self._known.update({pid: table[pid].born for pid in found})
        if self._spares_leader:
            found.discard(self.leader)
        return {pid: table[pid] for pid in sorted(found, key=lambda pid: _depth(pid, table))}


def _table() -> Iterable[tuple[int, _Process]]:
    """Yield the living processes of this machine; nothing where there is no /proc."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    for name in names:
        if name.isdecimal() and (process := _read(name)) is not None:
            yield int(name), process


def _depth(pid: int, table: dict[int, _Process]) -> int:
    """Return how many ancestors of a process stand in the table."""
    depth = 0
    while (pid := table[pid].parent) in table and depth < len(table):  # it was not read at once
        depth += 1
    return depth


def _read(pid: str) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
    except OSError:  # it has ended
        return None
    # The name stands in brackets and may hold brackets and blanks; field 3 follows the last one.
    start, end = line.index(b"("), line.rindex(b")")
    fields = line[end + 2 :].split()
    if fields[0] in b"ZX":
        return None
    name = line[start + 1 : end].decode(errors="replace")
    return _Process(int(fields[1]), int(fields[3]), int(fields[19]), name)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):  # it has ended, or became somebody else's
        return


def _signal_group(leader: int, number: int) -> bool:
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
