"""What reverse tunnels have published on this machine: sockets that lead to a server elsewhere."""

from __future__ import annotations

import json
import os
import platform
import socket
import stat
from typing import NamedTuple

#: Seconds that a socket of this machine may take to answer.
_CONNECTS_WITHIN = 2.0


class Published(NamedTuple):
    """The end of a reverse tunnel on this machine.

    Attributes:
        path: of the Unix socket.
        url: the same as an `api_url`.
        host: this machine.
        opened: when it was published, in seconds since 1970 by the clock of `origin`.
        origin: the machine that dialled in.
    """

    path: str
    url: str
    host: str
    opened: float
    origin: str


def published(home: str) -> list[Published]:
    """Return the ends of tunnels on this machine that somebody listens at, newest first.

    Files and sockets of other users, and files that others could have written, are passed over.

    Args:
        home: the home folder; login nodes share it, so it may have ends on other nodes as well.
    """
    folder = os.path.join(home, "tunnels")
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = (_read(os.path.join(folder, name)) for name in names if name.endswith(".json"))
    here = [end for end in found if end is not None and end.host == platform.node()]
    return sorted((end for end in here if _answers(end.path)), key=lambda end: -end.opened)


def _read(path: str) -> Published | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, encoding="utf-8") as file:
            if not _is_ours(os.fstat(file.fileno())):
                return None
            data = json.load(file)
        return Published(
            str(data["path"]),
            str(data["url"]),
            str(data["host"]),
            float(data["opened"]),
            str(data["origin"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _answers(path: str) -> bool:
    try:
        if not _is_ours(os.lstat(path)):
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_CONNECTS_WITHIN)
            probe.connect(path)
    except OSError:
        return False
    return True
