"""Where an ssh connection goes, and what is wanted behind it: read and checked in one place."""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from hpc_flows.exceptions import SettingsError

#: What a host, a user or a socket's path may be made of. Narrower than what systems allow: these
#: words go into command lines and into `-L` specifications, where other signs have a meaning.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*")
_PATH = re.compile(r"/[A-Za-z0-9._/@+=,-]*[A-Za-z0-9._@+=,-]")
_TCP = re.compile(r"/(\[[^\]]+\]|[^/:\[\]]+):(\d+)")

_EXAMPLE = "Write ssh://[user@]host[:port]/TARGET, for example ssh://login.hpc.edu/127.0.0.1:4200."
_PORTS = {"http": 80, "https": 443}
_LAST_PORT = 65535


class Destination(NamedTuple):
    """A machine to log in to.

    Attributes:
        host: its name, or a `Host` of the ssh configuration.
        user: None takes what the ssh configuration says.
        port: None takes what the ssh configuration says.
    """

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{user}{host}:{self.port}" if self.port else f"{user}{host}"


class Target(NamedTuple):
    """What is wanted, as seen from where the tunnel ends: a TCP port or a Unix socket.

    Attributes:
        host: of a TCP port; empty for a Unix socket.
        port: of a TCP port; 0 for a Unix socket.
        path: of a Unix socket; empty for a TCP port.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """Return it as ssh writes it behind `-L`."""
        if self.path:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class SshOptions(NamedTuple):
    """How to connect.

    Attributes:
        config: configuration file instead of ~/.ssh/config; None takes that one.
        connect_timeout: seconds until a host that does not answer counts as unreachable.
        alive_interval: seconds of silence after which the other side is asked for a sign of life.
        alive_count: signs of life that may be missing.
    """

    config: str | None = None
    connect_timeout: int = 15
    alive_interval: int = 15
    alive_count: int = 3


def parse_destination(text: str) -> Destination:
    """Read `[user@]host[:port]`, with or without `ssh://` before it.

    Raises:
        SettingsError: it cannot be read.
    """
    body = text.removeprefix("ssh://")
    if "/" in body:
        raise SettingsError(f"{text!r} is no machine to log in to: it has a '/'. {_EXAMPLE}")
    return _destination(text, f"ssh://{body}")


def parse_report(text: str) -> tuple[Destination, Target | None]:
    """Read `ssh://[user@]host[:port]/TARGET`; the target is None where TARGET is empty.

    TARGET is `host:port`, or the absolute path of a Unix socket, as seen from the host.

    Raises:
        SettingsError: it cannot be read.
    """
    if not text.startswith("ssh://"):
        raise SettingsError(f"{text!r} does not begin with ssh://. {_EXAMPLE}")
    destination = _destination(text, text)
    path = urlsplit(text).path
    return destination, None if path in ("", "/") else _target(text, path)


def target_of(api_url: str) -> Target:
    """Return what an `api_url` names: its TCP port, or its Unix socket.

    Raises:
        SettingsError: it is neither `http(s)://host[:port]` nor `unix:///path`.
    """
    try:
        parts = urlsplit(api_url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme == "unix" and not parts.netloc:
        return _target(api_url, unquote(parts.path))
    if parts.scheme not in _PORTS or not parts.hostname:
        msg = (
            f"{api_url!r} cannot be reached through a tunnel: it is neither http(s)://host[:port] "
            "nor unix:///path/of/a/socket. Set `api_url`, or name the target: "
            f"{_EXAMPLE}"
        )
        raise SettingsError(msg)
    host = _checked(api_url, parts.hostname, _HOST, "host")
    return Target(host=host, port=port or _PORTS[parts.scheme])


def unix_target(path: str) -> Target:
    """Return a Unix socket as a target.

    Raises:
        SettingsError: the path is not absolute, or has signs that ssh would not take as they are.
    """
    return Target(path=os.path.normpath(_checked(path, path, _PATH, "socket's path")))


def _destination(text: str, url: str) -> Destination:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"{text!r} cannot be read: {error}. {_EXAMPLE}") from None
    if parts.password is not None:
        msg = (
            f"There is a password in the address of {parts.hostname}. hpc-flows takes none: use a "
            "key, or log in once with `hpc-flows connect`. Remove it from wherever it stands now."
        )
        raise SettingsError(msg)
    if parts.query or parts.fragment:
        raise SettingsError(f"{text!r} has a '?' or a '#', which means nothing here. {_EXAMPLE}")
    # Not `hostname`: it is in lower case, and a `Host` of ssh's configuration may not be.
    named = parts.netloc.rpartition("@")[2]
    host = named[1:].partition("]")[0] if named.startswith("[") else named.partition(":")[0]
    user = _checked(text, unquote(parts.username), _USER, "user") if parts.username else None
    return Destination(_checked(text, host, _HOST, "host"), user, port)


def _target(text: str, path: str) -> Target:
    tcp = _TCP.fullmatch(path)
    if tcp is None:
        if path.startswith("//"):
            path = path[1:]
        return unix_target(path)
    host = _checked(text, tcp[1].strip("[]"), _HOST, "target's host")
    port = int(tcp[2])
    if not 0 < port <= _LAST_PORT:
        raise SettingsError(f"{text!r}: {port} is no port; ports go from 1 to {_LAST_PORT}.")
    return Target(host=host, port=port)


def _checked(text: str, value: str, form: re.Pattern[str], what: str) -> str:
    if form.fullmatch(value):
        return value
    found = f"{value!r}, which cannot be one" if value else "missing"
    raise SettingsError(f"{text!r}: the {what} is {found}. {_EXAMPLE}")
