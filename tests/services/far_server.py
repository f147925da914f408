"""What stands at the far end of a tunnel in tests, and how it is asked."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

from hpc_flows.transports.ssh_destination import Target, unix_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class FarServer:
    """What stands at the far end: answers `ping`, gives `big N`, and echoes the rest.

    Attributes:
        target: where it listens, as a tunnel names it.
    """

    def __init__(self, listener: socket.socket, target: Target) -> None:
        self.target = target
        self._listener = listener
        self._listener.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    @classmethod
    def on_tcp(cls) -> FarServer:
        listener = socket.create_server(("127.0.0.1", 0))
        return cls(listener, Target("127.0.0.1", listener.getsockname()[1]))

    @classmethod
    def on_unix(cls, path: Path) -> FarServer:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        return cls(listener, unix_target(str(path)))

    def close(self) -> None:
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=_answer, args=(link,), daemon=True).start()


def _answer(link: socket.socket) -> None:
    with link, link.makefile("rwb") as file:
        try:
            for line in file:
                word, _, rest = line.strip().partition(b" ")
                if word == b"big":
                    link.sendall(b"x" * int(rest))
                    return
                file.write(b"pong " + rest + b"\n")
                file.flush()
        except OSError:
            return


def ask(path: str, words: str = "ping 1", seconds: float = 30.0) -> bytes:
    """Send a line over a Unix socket and return the line that comes back."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(seconds)
        link.connect(path)
        link.sendall(words.encode() + b"\n")
        with link.makefile("rb") as file:
            answer = file.readline()
    if not answer:
        raise ConnectionError("closed without an answer")
    return answer


def received_until_it_broke(link: socket.socket) -> int:
    got = 0
    try:
        while chunk := link.recv(1 << 20):
            got += len(chunk)
    except ConnectionError:
        pass
    return got


def until(what: Callable[[], object], seconds: float = 150.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.05)
