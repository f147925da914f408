"""The machine's process table, read from /proc."""

from __future__ import annotations

import os
from typing import NamedTuple

_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


class Process(NamedTuple):
    """One line of the table: parent, session, KiB in memory, state letter, birth in ticks."""

    parent: int
    session: int
    rss: int
    state: str
    born: int


def read(pid: int) -> Process | None:
    """Return one process, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            line = stat.read()
    except OSError:
        return None
    # The name in brackets may hold blanks and brackets; what follows the last one is fields 3 on.
    values = line[line.rindex(b")") + 2 :].split()
    return Process(
        int(values[1]),
        int(values[3]),
        int(values[21]) * _PAGE_KIB,
        values[0].decode(),
        int(values[19]),
    )


def snapshot() -> dict[int, Process]:
    """Return every process of the machine by pid."""
    table: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            process = read(int(name))
            if process is not None:
                table[int(name)] = process
    return table


def children_of(table: dict[int, Process]) -> dict[int, list[int]]:
    """Return the children of every parent."""
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    return children


def below(root: int, children: dict[int, list[int]]) -> list[int]:
    """Return all processes below a root, parents before their children."""
    found: list[int] = []
    queue = list(children.get(root, ()))
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children.get(pid, ()))
    return found


def descendants(root: int) -> list[int]:
    """Return all processes below a root now."""
    return below(root, children_of(snapshot()))


def is_alive(pid: int, born: int) -> bool:
    """Return whether the process that was born then still runs (a zombie does not)."""
    process = read(pid)
    return process is not None and process.born == born and process.state != "Z"
