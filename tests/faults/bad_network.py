"""A network between relays and their server that fails in the ways in which networks fail."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

#: The ways to fail: connections are reset and refused; they are closed at once; no byte comes
#: through and nothing is closed, and what was under way arrives after the mending; what is asked
#: arrives, and no answer comes back.
REFUSED, CLOSED, SILENT, ONE_WAY = "refused", "closed", "silent", "one-way"
CUTS = (REFUSED, CLOSED, SILENT, ONE_WAY)

_CHUNK = 65536


class Network:
    """A TCP port that leads to another one, until it is cut.

    Args:
        port: where it leads.

    Attributes:
        delay: seconds by which each piece of what is carried comes later.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.delay = 0.0
        self._cut = ""
        self._whole = threading.Event()
        self._whole.set()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._is_closed = False
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self, how: str = CLOSED) -> None:
        """Let nothing useful through any more, beginning in the middle of what is carried."""
        self._cut = how
        self._whole.clear()
        if how == REFUSED:
            _shut(self._listener)
        if how in (REFUSED, CLOSED):
            for each in self._open:
                _shut(each, reset=how == REFUSED)
            self._open.clear()

    def mend(self) -> None:
        """Let everything through again."""
        if self._cut == REFUSED:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        if self._cut == ONE_WAY:  # bytes are missing in these
            for each in self._open:
                _shut(each)
            self._open.clear()
        self._cut = ""
        self._whole.set()

    def close(self) -> None:
        """End all connections, and take no new ones."""
        self._is_closed = True
        self.cut(REFUSED)
        self._whole.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._take, args=(near,), daemon=True).start()

    def _take(self, near: socket.socket) -> None:
        if self._cut == SILENT:
            self._whole.wait()
        try:
            if self._cut == CLOSED:
                raise ConnectionRefusedError
            far = socket.create_connection(("127.0.0.1", self._to), 5)
            far.settimeout(None)
        except OSError:
            _shut(near)
            return
        self._open += [near, far]
        for pair in ((near, far, False), (far, near, True)):
            threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:  # noqa: FBT001 - given by a thread
        try:
            while data := source.recv(_CHUNK):
                time.sleep(self.delay)
                if self._cut == SILENT:
                    self._whole.wait()
                if self._cut == ONE_WAY and is_answer:
                    continue
                target.sendall(data)
        except OSError:
            pass
        finally:
            if self._cut == SILENT:  # nobody hears of an end, either
                self._whole.wait()
            _shut(source)
            _shut(target)


def _shut(found: socket.socket, *, reset: bool = False) -> None:
    with contextlib.suppress(OSError):
        if reset:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            found.shutdown(socket.SHUT_RDWR)
    if reset:  # a thread that waits in it has to wake up
        with contextlib.suppress(OSError):
            found.shutdown(socket.SHUT_RD)
    found.close()
