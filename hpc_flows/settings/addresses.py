"""Addresses in settings: of servers, of the way to them, of databases.

Each function returns the address as it is kept, or raises `ValueError` with what it must be: the
words that follow "api_url must be". They are plain checks of form; nobody is called.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

_WEB = ("http", "https")
_SERVER = "http(s)://host:port[/prefix] or unix:///path/to/socket"
_REPORT = "auto, off, relay or ssh://[user@]host[:port]/TARGET"
_DATABASE = "sqlite:////path/to/file or postgresql://user@host/name"

#: Longest path of a Unix socket that Linux takes, in bytes.
LONGEST_SOCKET = 107


class Tunnel(NamedTuple):
    """The way of `report = ssh://…`.

    Attributes:
        user: whom to log in as; None leaves it to the SSH client.
        host: the host, or its name in the user's SSH configuration.
        port: None leaves it to the SSH client.
        target: `host:port` or the path of a Unix socket, as seen from that host; None: what
            `api_url` says, as seen from there.
    """

    user: str | None
    host: str
    port: int | None
    target: str | None


def server_url(text: str) -> str:
    """Return the address of a server, without a slash at its end.

    Raises:
        ValueError: it is no such address.
    """
    parts = _split(text, _SERVER)
    if parts.scheme == "unix":
        return f"unix://{_socket(parts)}"
    if parts.scheme not in _WEB:
        msg = f"{_SERVER}; it begins with {text.partition(':')[0]!r}"
        raise ValueError(msg if ":" in text else f"{_SERVER}; it has no 'http://' in front")
    _check_web(parts)
    return text.rstrip("/")


def _check_web(parts: SplitResult) -> None:
    if "@" in parts.netloc:
        msg = f"{_SERVER} without user or password: a token belongs in api_key"
        raise ValueError(msg)
    if not parts.hostname:
        msg = f"{_SERVER}; it names no host"
        raise ValueError(msg)
    if parts.query or parts.fragment:
        msg = f"{_SERVER}; it goes on after '?' or '#'"
        raise ValueError(msg)


def _split(text: str, form: str) -> SplitResult:
    if text != text.strip() or not text.isprintable() or " " in text:
        msg = f"{form}; it has spaces or signs that cannot be seen"
        raise ValueError(msg)
    try:
        parts = urlsplit(text)
        port = parts.port  # read for its error: a port that is no number, or beyond 65535
    except ValueError as error:
        msg = f"{form}; {str(error)[:1].lower()}{str(error)[1:]}"
        raise ValueError(msg) from None
    if port == 0:
        msg = f"{form}; port 0 is no port to connect to"
        raise ValueError(msg)
    return parts


def _socket(parts: SplitResult) -> str:
    if parts.netloc or not parts.path.strip("/"):
        msg = "unix:///path/to/socket, with three slashes"
        raise ValueError(msg)
    if len(parts.path.encode()) > LONGEST_SOCKET:
        msg = f"unix:///path/to/socket with a path of at most {LONGEST_SOCKET} bytes (Linux)"
        raise ValueError(msg)
    return parts.path


def report(text: str) -> str:
    """Return who reports: `auto`, `off`, `relay`, or the address of a tunnel.

    Raises:
        ValueError: it is none of these.
    """
    if text.lower() in {"auto", "off", "relay"}:
        return text.lower()
    if not text.startswith("ssh://"):
        raise ValueError(_REPORT)
    tunnel(text)
    return text


def tunnel(text: str) -> Tunnel:
    """Return the parts of `ssh://[user@]host[:port]/TARGET`.

    Raises:
        ValueError: it is no such address.
    """
    parts = _split(text, _REPORT)
    if parts.scheme != "ssh" or not parts.hostname:
        msg = f"{_REPORT}; it names no host"
        raise ValueError(msg)
    user, password = parts.username, parts.password
    if password is not None:
        msg = f"{_REPORT} without a password: SSH asks for it, or uses a key"
        raise ValueError(msg)
    _check_no_option(user, parts.hostname)
    # As typed: urlsplit makes host names small, and names of the SSH configuration need not be.
    host = parts.netloc.rpartition("@")[2]
    host = host if parts.port is None else host.rpartition(":")[0]
    return Tunnel(user, host.strip("[]"), parts.port, _target(parts))


def _check_no_option(user: str | None, host: str) -> None:
    """Refuse what the SSH client would take for an option of its own."""
    if host.startswith("-") or (user or "").startswith("-"):
        msg = f"{_REPORT}; no user and no host begins with '-'"
        raise ValueError(msg)


def _target(parts: SplitResult) -> str | None:
    if parts.query or parts.fragment:
        msg = f"{_REPORT}; it goes on after '?' or '#'"
        raise ValueError(msg)
    rest = parts.path.removeprefix("/")
    if not rest:
        return None
    host, colon, port = rest.rpartition(":")
    if colon and host and "/" not in rest:
        if not port.isdecimal() or not 0 < int(port) < 65536:  # noqa: PLR2004 - ports of TCP
            msg = f"{_REPORT}; {port!r} is no port"
            raise ValueError(msg)
        return rest
    # `ssh://host//run/x.sock` and `ssh://host/run/x.sock` mean the same socket.
    return "/" + rest.lstrip("/")


def database(text: str) -> str:
    """Return the address of a database.

    Raises:
        ValueError: it is no such address.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError(_DATABASE) from None
    if parts.scheme == "sqlite" and parts.path.startswith("//") and parts.path.strip("/"):
        return text
    if parts.scheme in {"postgresql", "postgres"} and parts.path.strip("/"):
        return "postgresql" + text.removeprefix(parts.scheme)
    raise ValueError(_DATABASE)


def without_password(text: str) -> str:
    """Return the address with its password masked."""
    try:
        parts = urlsplit(text)
        password = parts.password
    except ValueError:  # what cannot be read may have a password anywhere
        return text.partition("@")[0].partition(":")[0] + ":…" if "@" in text else text
    if not password and "password=" not in parts.query:
        return text
    user, _, place = parts.netloc.rpartition("@")
    masked = f"{user.partition(':')[0]}:********@{place}" if password else parts.netloc
    query = "…" if "password=" in parts.query else parts.query
    return parts._replace(netloc=masked, query=query).geturl()
