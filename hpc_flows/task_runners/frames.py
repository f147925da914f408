"""Messages between a flow's process and its worker processes, over a private socket.

A message is a list of byte strings: their number, the length of each, then the bytes. The socket
has no name and is inherited, so that nobody else can write to it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from socket import socket

_WORD = 8
#: Bytes that are asked for at once; parts that are not there yet after that have memory of their
#: own and are received into it.
_CHUNK = 1 << 16


def send(channel: socket, parts: Sequence[bytes]) -> None:
    """Send one message.

    Raises:
        OSError: the other side is gone.
    """
    sizes = [len(parts), *map(len, parts)]
    head = b"".join([size.to_bytes(_WORD, "little") for size in sizes])
    if sum(sizes) < _CHUNK:
        channel.sendall(b"".join((head, *parts)))
        return
    channel.sendall(head)
    for part in parts:  # large ones are not copied together
        channel.sendall(part)


class Receiver:
    """Takes messages from a socket; short ones that have come together cost one system call."""

    __slots__ = ("_channel", "_data", "_place")

    def __init__(self, channel: socket) -> None:
        self._channel = channel
        self._data = b""
        self._place = 0

    def receive(self) -> list[bytes | bytearray]:
        """Return one message.

        Raises:
            EOFError: the other side is gone.
            OSError: as above.
            TimeoutError: the socket's time limit is over before the message begins, or within it.
        """
        count = int.from_bytes(self._exactly(_WORD), "little")
        head = self._exactly(count * _WORD)
        return [
            self._exactly(int.from_bytes(head[place : place + _WORD], "little"))
            for place in range(0, len(head), _WORD)
        ]

    def wait(self) -> None:
        """Receive what there is, once there is something.

        Raises:
            EOFError, OSError, TimeoutError: as `receive`.
        """
        self._fill(len(self._data) - self._place + 1)

    def is_empty(self) -> bool:
        """Tell whether no part of a further message has been received yet."""
        return self._place == len(self._data)

    def _exactly(self, size: int) -> bytes | bytearray:
        end = self._place + size
        if end > len(self._data):
            if size > _CHUNK:
                return self._into_own_memory(size)
            self._fill(size)
            end = size
        part = self._data[self._place : end]
        self._place = end
        return part

    def _fill(self, size: int) -> None:
        """Receive until `size` bytes are there, and whatever else has come."""
        self._data, self._place = self._data[self._place :], 0
        while len(self._data) < size:
            piece = self._channel.recv(_CHUNK)
            if not piece:
                raise EOFError
            self._data += piece

    def _into_own_memory(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        there = len(self._data) - self._place
        view[:there] = self._data[self._place :]
        self._data, self._place = b"", 0
        view = view[there:]
        while view:
            got = self._channel.recv_into(view)
            if not got:
                raise EOFError
            view = view[got:]
        return data
