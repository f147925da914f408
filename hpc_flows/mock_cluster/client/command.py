"""What `sbatch`, `squeue` and the others of a mock cluster do: ask the controller, print, exit.

The request is everything the controller cannot know: arguments, folder, umask, environment. The
answer is a row of frames (a letter, four bytes of length, data): `o` for stdout, `e` for stderr,
`i` "send your stdin", `r` "run this here" (srun, salloc), `x` the exit status.
"""

from __future__ import annotations

import posix
import sys
from _signal import SIG_DFL, SIGINT, SIGPIPE, signal
from _socket import AF_UNIX, MSG_NOSIGNAL, SO_PEERCRED, SOCK_STREAM, SOL_SOCKET, socket
from time import monotonic, sleep

from .unreachable import CONNECT_FAILURE, NO_ANSWER, answer_without_controller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER = 5
_CHUNK = 1 << 16


class Link:
    """A connection to the controller."""

    __slots__ = ("sock",)

    def __init__(self, sock: socket) -> None:
        self.sock = sock

    def send(self, letter: bytes, data: bytes) -> None:
        """Send one frame."""
        self.sock.sendall(letter + len(data).to_bytes(4, "big") + data, MSG_NOSIGNAL)

    def frames(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (letter, data) until the controller hangs up."""
        buffer = b""
        while True:
            try:
                more = self.sock.recv(_CHUNK)
            except OSError:
                return
            if not more:
                return
            buffer += more
            while len(buffer) >= _HEADER:
                end = _HEADER + int.from_bytes(buffer[1:_HEADER], "big")
                if len(buffer) < end:
                    break
                letter, data, buffer = buffer[:1], buffer[_HEADER:end], buffer[end:]
                yield letter, data


def main(command: str, path: str, patience: float, version: str) -> int:
    """Run one command against the controller at a socket and return its exit status.

    Args:
        command: its name, such as `sbatch`.
        path: the controller's socket.
        patience: seconds to try to connect.
        version: the played version of Slurm.
    """
    signal(SIGPIPE, SIG_DFL)
    signal(SIGINT, SIG_DFL)
    argv = sys.argv[1:]
    once = command == "scontrol" and argv[:1] == ["ping"]
    link = _connect(path, 0.0 if once else patience)
    if link is None:
        return _fail(command, argv, CONNECT_FAILURE, version)
    try:
        link.send(b"q", _request(command, argv))
    except OSError:
        return _fail(command, argv, NO_ANSWER, version)
    status = _converse(link)
    return _fail(command, argv, NO_ANSWER, version) if status is None else status


def _connect(path: str, patience: float) -> Link | None:
    """Connect, trying again until patience is at its end."""
    give_up = monotonic() + patience
    while True:
        sock = socket(AF_UNIX, SOCK_STREAM)
        try:
            sock.connect(path)
            _check_peer(sock)
        except OSError:
            sock.close()
            if monotonic() >= give_up:
                return None
            sleep(0.05)
        else:
            return Link(sock)


def _check_peer(sock: socket) -> None:
    """Fail unless the listener is this user's (or root's): the request holds the environment.

    The folder of a socket in /tmp goes with its controller, and then anybody may make it.
    """
    user = int.from_bytes(sock.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)[4:8], sys.byteorder)
    if posix.geteuid() not in (0, user) and user != 0:
        raise OSError("somebody else listens there")


def _request(command: str, argv: list[str]) -> bytes:
    umask = posix.umask(0)
    posix.umask(umask)
    head = [command, posix.getcwd(), str(umask), str(posix.getpid()), str(posix.getsid(0))]
    fields = [text.encode("utf-8", "surrogateescape") for text in (*head, str(len(argv)), *argv)]
    fields += [name + b"=" + value for name, value in posix.environ.items()]
    return b"\0".join(fields)


def _converse(link: Link) -> int | None:
    """Do what the frames say; return the exit status, or None when the link broke before one."""
    fallback = None
    for letter, data in link.frames():
        if letter == b"o":
            _write(1, data)
        elif letter == b"e":
            _write(2, data)
        elif letter == b"x":
            return int(data)
        elif letter == b"i":
            link.send(b"i", _read_all(0))
        elif letter == b"r":
            from .steps import run_tasks  # noqa: PLC0415 - only srun and salloc need it

            fallback = run_tasks(link, data)
    return fallback


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[posix.write(fd, data) :]


def _read_all(fd: int) -> bytes:
    chunks = []
    while chunk := posix.read(fd, _CHUNK):
        chunks.append(chunk)
    return b"".join(chunks)


def _fail(command: str, argv: list[str], why: str, version: str) -> int:
    out, err, status = answer_without_controller(command, argv, why, version)
    _write(1, out.encode())
    _write(2, err.encode())
    return status
