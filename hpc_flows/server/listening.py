"""Where the server listens: a Unix socket that nobody else can reach, or a TCP port.

The rule: a machine on which others may be logged in gets a Unix socket in a folder of mode 0700,
because any user of it could connect to a TCP port, or take the port before us (threats T1, T11).
Any other machine gets TCP on 127.0.0.1. `shared_because` says what decided.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import struct
import tempfile
from typing import NamedTuple
from urllib.parse import urlsplit

from hpc_flows.exceptions import ServerError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 4200
#: AF_UNIX paths hold 108 bytes with the ending zero.
LONGEST_SOCKET = 107
#: Accounts below this number belong to the system, and 65534 is nobody.
_FIRST_PERSON, _NOBODY = 1000, 65534
_BACKLOG = 2048
_BATCH_COMMANDS = ("sbatch", "qsub", "bsub")


class Address(NamedTuple):
    """Where to listen.

    Attributes:
        socket: path of the Unix socket; empty for TCP.
        host: the address to bind for TCP.
        port: 0 takes any that is free.
        why: what decided, for people.
    """

    socket: str = ""
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    why: str = ""


def shared_because(proc: str = "/proc") -> str | None:
    """Return why others may be logged in on this machine; None when nothing says so."""
    if os.environ.get("SSH_CONNECTION"):
        return "you are logged in over SSH, so others may be too"
    for command in _BATCH_COMMANDS:
        if shutil.which(command):
            return f"the batch command {command} is here, as on login nodes"
    other = _other_person(proc)
    if other is not None:
        return f"a process of another user (number {other}) runs here"
    return None


def _other_person(proc: str) -> int | None:
    """Return a person, not us and no account of the system, who has a process here."""
    try:
        names = os.listdir(proc)
    except OSError:  # no Linux
        return None
    for name in names:
        if name.isdecimal():
            try:
                owner = os.stat(os.path.join(proc, name)).st_uid
            except OSError:
                continue
            if owner >= _FIRST_PERSON and owner not in {_NOBODY, os.getuid()}:
                return owner
    return None


def choose(host: str | None, port: int | None, path: str | None, instance: str) -> Address:
    """Return where to listen: as asked for, else by the rule above.

    Args:
        host: as asked for; None when not.
        port: the same.
        path: the same, for a Unix socket.
        instance: the database's name for itself; it is in the name of the socket.

    Raises:
        ServerError: the wishes exclude each other.
    """
    if path is not None:
        if host is not None or port is not None:
            raise ServerError("Take either --socket, or --host and --port, not both.")
        return Address(socket=os.path.abspath(path), why="you asked for it")
    if host is not None or port is not None:
        chosen = DEFAULT_PORT if port is None else port
        return Address(host=host or DEFAULT_HOST, port=chosen, why="you asked for it")
    reason = shared_because()
    if reason is None:
        return Address(why="nothing says that others are logged in on this machine")
    return Address(socket=os.path.join(_socket_folder(), f"{instance[:8]}.sock"), why=reason)


def _socket_folder() -> str:
    """Return a private folder with a short path on a local disk.

    Its name is known beforehand, so somebody may have made it before us: then a folder with a
    name by chance is taken instead (threat T16).
    """
    place = tempfile.gettempdir()
    folder = os.path.join(place, f"hpc-flows-{os.getuid()}")
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        if not _is_private(folder):
            return tempfile.mkdtemp(prefix=f"hpc-flows-{os.getuid()}-", dir=place)
    return folder


def _is_private(folder: str) -> bool:
    facts = os.lstat(folder)
    return (
        stat.S_ISDIR(facts.st_mode)
        and facts.st_uid == os.geteuid()
        and not facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    )


def open_socket(address: Address) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ServerError: it cannot be had, or others could reach it.
    """
    try:
        return _open_unix(address.socket) if address.socket else _open_tcp(address)
    except OSError as error:
        where = address.socket or f"{address.host}:{address.port}"
        cure = (
            "--socket PATH takes another place"
            if address.socket
            else "--port 0 takes any port that is free"
        )
        msg = f"The server cannot listen on {where}: {error.strerror or error}. {cure}."
        raise ServerError(msg) from error


def _open_tcp(address: Address) -> socket.socket:
    family, kind, number, _, where = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, number)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _open_unix(path: str) -> socket.socket:
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        msg = f"The path of the socket has more than {LONGEST_SOCKET} bytes (Linux): {path}"
        raise ServerError(msg)
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if not _is_private(folder):
        msg = (
            f"{folder} can be entered by others, who could then reach the server. "
            f"chmod 700 {folder}, or name a socket in a folder of your own."
        )
        raise ServerError(msg)
    _remove_left_over(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(path)
        os.chmod(path, 0o600)
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _remove_left_over(path: str) -> None:
    """Remove the socket of a server that was killed; refuse while somebody answers on it."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ServerError(f"{path} is there and is no socket. Name another with --socket.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            os.unlink(path)
            return
    raise ServerError(f"A server listens on {path} already: hpc-flows server status")


def peer_user(sock: socket.socket) -> int | None:
    """Return the number of the user at the other end of a Unix socket; None where unknown."""
    if sock.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return None
    form = struct.Struct("3i")
    facts = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size)
    user: int = form.unpack(facts)[1]
    return user


def url_of(sock: socket.socket, address: Address, *, tls: bool, prefix: str = "") -> str:
    """Return the address that clients are told: `http(s)://host:port` or `unix:///path`."""
    if address.socket:
        return f"unix://{address.socket}"
    host = address.host
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound: all addresses have no name
        host = socket.getfqdn()
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{sock.getsockname()[1]}{prefix}"


def name_of(url: str) -> str:
    """Return the host's name in a URL, in lower case."""
    return (urlsplit(url).hostname or "").lower()
