"""Which server the settings mean: the one that they name, or the one that runs on this machine."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from hpc_flows.client.errors import NoServer
from hpc_flows.client.requests import Client
from hpc_flows.journal.index import is_zombie

if TYPE_CHECKING:
    from hpc_flows.settings import Settings

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class ServerAddress(NamedTuple):
    """A server that was found.

    Attributes:
        url: as `api_url`.
        token: as `api_key`, or None.
        source: `settings`, or `this machine` for one that was found running here.
    """

    url: str
    token: str | None
    source: str


def find_server(settings: Settings) -> ServerAddress | None:
    """Return the server that is configured, else the one that runs here, else None."""
    if settings.api_url:
        return ServerAddress(settings.api_url, settings.api_key or None, "settings")
    return local_server(settings.home)


def local_server(home: str) -> ServerAddress | None:
    """Return the server that was started in this home and lives, as far as can be told."""
    folder = os.path.join(home, "server")
    try:
        with open(os.path.join(folder, "endpoint.json"), encoding="utf-8") as file:
            found = json.load(file)
        url, host, pid = str(found["url"]), str(found.get("host", "")), int(found.get("pid", 0))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if host != os.uname().nodename or not _lives(pid):
        return None
    return ServerAddress(url, _token_in(os.path.join(folder, "token")), "this machine")


def open_client(settings: Settings, *, patience: float = 10.0, timeout: float = 30.0) -> Client:
    """Return a client of the server that the settings mean.

    Raises:
        NoServer: there is none.
    """
    found = find_server(settings)
    if found is None:
        msg = (
            "No server is configured, and none runs on this machine. Start one with `hpc-flows "
            "server start --background`, or name one: `hpc-flows config set api_url=https://…`."
        )
        raise NoServer(msg)
    return Client(found.url, found.token, patience=patience, timeout=timeout)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError, OverflowError, ValueError):
        return False
    return pid > 0 and not is_zombie(pid)


def _token_in(path: str) -> str | None:
    """Return the token of a file that nobody else could have written or read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(fd, encoding="utf-8") as file:
        facts = os.fstat(fd)
        if facts.st_uid != os.geteuid() or facts.st_mode & _OTHERS:
            return None
        return file.read(1000).strip() or None
