"""Which server to ask, and with which token.

The environment wins over the profile; without either, a server that was started on this machine:
it leaves `server/endpoint.json` and `server/token` in the home folder.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from hpc_flows.exceptions import SettingsError
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from hpc_flows.settings import Settings


class Endpoint(NamedTuple):
    """A server and what opens it.

    Attributes:
        url: `http(s)://host:port[/prefix]` or `unix:///path/to/socket`.
        token: None when there is none.
        source: where the address came from: a variable, the profiles file, or `endpoint.json`.
        instance: the server's name for itself, where that is known beforehand.
    """

    url: str
    token: str | None
    source: str
    instance: str | None = None


def find_endpoint(settings: Settings | None = None) -> Endpoint | None:
    """Return the server that is configured, else the one started on this machine, else None.

    Args:
        settings: those of a run; None takes the ones in force.

    Raises:
        SettingsError: the files of the server on this machine are wrong, or open to others.
    """
    settings = settings or get_settings()
    if settings.api_url is None:
        return local_endpoint(settings.home, settings.api_key)
    source = settings.sources["api_url"]
    if settings.api_key is not None:
        return Endpoint(settings.api_url, settings.api_key, source)
    local = local_endpoint(settings.home)
    if local is not None and local.url == settings.api_url:
        return local._replace(source=source)
    return Endpoint(settings.api_url, None, source)


def local_endpoint(home: str, key: str | None = None) -> Endpoint | None:
    """Return the server that was started on this machine and still runs.

    Args:
        home: the home folder.
        key: the token where the server left none.

    Raises:
        SettingsError: its files are wrong, or open to others.
    """
    path = f"{home}/server/endpoint.json"
    about = _read(path)
    if about is None or not _is_alive(about):
        return None
    url = about.get("url")
    if not isinstance(url, str):
        msg = f"{path} names no url. Stop the server and start it again."
        raise SettingsError(msg)
    token = _token(f"{home}/server/token") or key
    return Endpoint(url.rstrip("/"), token, path, about.get("instance"))


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(_opened(path), "rb") as file:
            _check_own(path, file.fileno())
            about = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: {error}. Start the server again, or move the file away."
        raise SettingsError(msg) from error
    return about if isinstance(about, dict) else None


def _opened(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _check_own(path: str, file: int) -> None:
    """Refuse a file of another user's: it could lead our token anywhere."""
    if os.fstat(file).st_uid not in {os.getuid(), 0}:
        msg = f"{path} belongs to another user and is not believed. Is HPC_FLOWS_HOME right?"
        raise SettingsError(msg)


def _is_alive(about: dict[str, Any]) -> bool:
    """Tell whether the server is on this machine and its process is there."""
    pid = about.get("pid")
    if about.get("host") != os.uname().nodename or not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's: the number was given away again
        return False
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Tell whether a process has ended and only its parent has not taken note of it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _token(path: str) -> str | None:
    try:
        with open(_opened(path), encoding="ascii") as file:
            _check_own(path, file.fileno())
            mode = os.fstat(file.fileno()).st_mode
            token = file.read(1000).strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read: {error}. `hpc-flows server start` writes it."
        raise SettingsError(msg) from error
    if mode & 0o077:
        msg = f"{path} can be read by others. `chmod 600 {path}`, or start the server again."
        raise SettingsError(msg)
    return token or None
