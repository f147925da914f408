"""The controller of a mock cluster: one process, one thread, one Unix socket.

It sleeps until a command asks, a job ends or a timer is due. Everything that must not be lost is
in the store before a command gets its answer, so it may be killed and started again at any time.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import struct
import traceback
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.mock_cluster.clock import Clock

_HEADER = 5
_CHUNK = 1 << 16
_CREDENTIALS = struct.Struct("3i")


class Call:
    """One command that waits for its answer."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server = server
        self._sock = sock
        self._inbox = b""
        self._outbox = b""
        self._finished = False
        self.command = ""
        self.argv: list[str] = []
        self.cwd = "/"
        self.umask = 0o022
        self.sid = 0
        self.env: dict[str, str] = {}
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid, self.uid, self.gid = _CREDENTIALS.unpack(raw)
        self.on_stdin: Callable[[bytes], None] = lambda _data: None
        self.on_report: Callable[[str], None] = lambda _text: None
        self.on_hang_up: Callable[[], None] = lambda: None

    # -- answering

    def out(self, text: str) -> None:
        """Print on the command's stdout."""
        self._send(b"o", _encode(text))

    def err(self, text: str) -> None:
        """Print on the command's stderr."""
        self._send(b"e", _encode(text))

    def finish(self, status: int = 0) -> None:
        """End the command with an exit status."""
        if not self._finished:
            self._finished = True
            self._send(b"x", str(status).encode())

    def ask_stdin(self, then: Callable[[bytes], None]) -> None:
        """Ask for the command's stdin."""
        self.on_stdin = then
        self._send(b"i", b"")

    def run(self, fields: list[str], then: Callable[[str], None]) -> None:
        """Let the command run something where it is, and hear how that ended."""
        self.on_report = then
        self._send(b"r", "\0".join(fields).encode("utf-8", "surrogateescape"))

    def drop(self) -> None:
        """Hang up without an answer, as a controller that dies does."""
        self._server.hang_up(self)

    def _send(self, letter: bytes, data: bytes) -> None:
        self._outbox += letter + len(data).to_bytes(4, "big") + data
        self.flush()

    # -- the socket

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def flush(self) -> None:
        """Send what can be sent now; hang up after the exit status is out."""
        try:
            while self._outbox:
                self._outbox = self._outbox[self._sock.send(self._outbox[:_CHUNK]) :]
        except BlockingIOError:
            self._server.watch(self, writing=True)
            return
        except OSError:
            self._server.hang_up(self)
            return
        if self._finished:
            self._server.hang_up(self)
        else:
            self._server.watch(self, writing=False)

    def receive(self) -> None:
        """Read what has come and act on whole frames."""
        try:
            data = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._server.hang_up(self)
            self.on_hang_up()
            return
        self._inbox += data
        while len(self._inbox) >= _HEADER:
            end = _HEADER + int.from_bytes(self._inbox[1:_HEADER], "big")
            if len(self._inbox) < end:
                return
            letter, body = self._inbox[:1], self._inbox[_HEADER:end]
            self._inbox = self._inbox[end:]
            self._act(letter, body)

    def _act(self, letter: bytes, body: bytes) -> None:
        if letter == b"q":
            self._read_request(body)
            self._server.answer(self)
        elif letter == b"i":
            self.on_stdin(body)
        elif letter == b"d":
            self.on_report(body.decode("utf-8", "surrogateescape"))

    def _read_request(self, body: bytes) -> None:
        fields = body.decode("utf-8", "surrogateescape").split("\0")
        self.command, self.cwd = fields[0], fields[1]
        self.umask, self.pid, self.sid = int(fields[2]), int(fields[3]), int(fields[4])
        end = 6 + int(fields[5])
        self.argv = fields[6:end]
        self.env = dict(pair.split("=", 1) for pair in fields[end:] if "=" in pair)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class Server:
    """The event loop: a listening socket, open calls, signals and the clock's timers."""

    def __init__(self, clock: Clock, answer: Callable[[Call], None]) -> None:
        self._clock = clock
        self.answer = answer
        self._selector = selectors.DefaultSelector()
        self._calls: set[Call] = set()
        self._on_signal: dict[int, Callable[[], None]] = {}
        self._stopping = False
        self._listener: socket.socket | None = None

    def listen(self, path: str) -> None:
        """Listen at a path, in place of what was there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(512)
        listener.setblocking(False)
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def on_signal(self, number: int, call: Callable[[], None]) -> None:
        """Call from the loop once a signal has come."""
        if not self._on_signal:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            self._selector.register(ours, selectors.EVENT_READ, lambda: self._signals(ours))
            self._keep = theirs
        self._on_signal[number] = call
        signal.signal(number, lambda _number, _frame: None)

    def _signals(self, ours: socket.socket) -> None:
        for number in set(ours.recv(4096)):
            self._on_signal.get(number, lambda: None)()

    def _accept(self) -> None:
        if self._listener is None:
            return
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            call = Call(self, sock)
            self._calls.add(call)
            self._selector.register(call, selectors.EVENT_READ, call)

    def watch(self, call: Call, *, writing: bool) -> None:
        """Watch a call for reading, and for room to write where something is left over."""
        if call in self._calls:
            mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
            if self._selector.get_key(call).events != mask:
                self._selector.modify(call, mask, call)

    def hang_up(self, call: Call) -> None:
        """Close a call."""
        if call in self._calls:
            self._calls.discard(call)
            self._selector.unregister(call)
            call.close()

    def run(self) -> None:
        """Serve until `stop()`."""
        while not self._stopping:
            due = self._clock.next_due()
            wait = None if due is None else max(0.0, due - self._clock.now())
            for key, mask in self._selector.select(wait):
                self._guarded(partial(self._dispatch, key.data, mask))
            self._guarded(self._clock.run_due)

    def _guarded(self, turn: Callable[[], object]) -> None:
        """Do one thing of the loop; a bug in it goes to the log and does not end the cluster."""
        try:
            turn()
        except Exception:  # noqa: BLE001 - the loop goes on for all others
            traceback.print_exc()

    def _dispatch(self, target: object, mask: int) -> None:
        if not isinstance(target, Call):
            if callable(target):
                target()
            return
        if mask & selectors.EVENT_WRITE:
            target.flush()
        if mask & selectors.EVENT_READ and target in self._calls:
            target.receive()

    def stop(self) -> None:
        """Leave the loop after this turn."""
        self._stopping = True

    def close(self) -> None:
        """Close everything."""
        for call in list(self._calls):
            self.hang_up(call)
        if self._listener is not None:
            self._listener.close()
