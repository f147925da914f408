"""A TCP port of this machine that leads into a tunnel: browsers open no Unix sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

from hpc_flows.exceptions import TransportError

if TYPE_CHECKING:
    from types import TracebackType

    from hpc_flows.transports.tunnel import Tunnel

_CHUNK = 65_536
_BACKLOG = 64
_PAUSE = 0.1


class Door:
    """A listening port of 127.0.0.1, each of whose connections goes into a tunnel.

    Every user of this machine can reach such a port: what is behind it has to ask who is there.

    Args:
        tunnel: where to.
        port: 0 takes a free one.

    Attributes:
        port: that it listens on.

    Raises:
        TransportError: the port is taken.
    """

    def __init__(self, tunnel: Tunnel, port: int = 0) -> None:
        self._tunnel = tunnel
        try:
            self._listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        except OSError as error:
            msg = f"Port {port} of this machine cannot be listened on: {error.strerror}. Choose "
            raise TransportError(f"{msg}another with --port, or leave it out.") from error
        self.port: int = self._listener.getsockname()[1]
        _in_background(self._accept)

    def close(self) -> None:
        """Take no more connections; a second call does nothing."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                visitor, _ = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:  # closed
                    return
                time.sleep(_PAUSE)  # no more files can be opened, until some are closed
                continue
            _in_background(self._lead, visitor)

    def _lead(self, visitor: socket.socket) -> None:
        with visitor, contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as inside:
            try:
                inside.connect(self._tunnel.path())
            except TransportError:
                return  # the browser tries again; the command line shows what is wrong
            except OSError:
                self._tunnel.suspect()
                return
            back = _in_background(_carry, inside, visitor)
            _carry(visitor, inside)
            back.join()


def _carry(source: socket.socket, into: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(_CHUNK):
            into.sendall(chunk)
    with contextlib.suppress(OSError):
        into.shutdown(socket.SHUT_WR)


def _in_background(what: object, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=what, args=arguments, daemon=True)  # type: ignore[arg-type] # any callable
    thread.start()
    return thread
