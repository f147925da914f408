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


def send(channel: socket, parts: Sequence[bytes]) -> None:
    """Send one message.

    Raises:
        OSError: the other side is gone.
    """
    sizes = [len(parts), *map(len, parts)]
    head = b"".join(size.to_bytes(_WORD, "little") for size in sizes)
    if sum(sizes) < 1 << 16:
        channel.sendall(b"".join((head, *parts)))
        return
    channel.sendall(head)
    for part in parts:  # large ones are not copied together
        channel.sendall(part)


def receive(channel: socket) -> list[bytearray]:
    """Receive one message.

    Raises:
        EOFError: the other side is gone.
        OSError: as above, or the socket's time limit is over.
    """
    count = int.from_bytes(_exactly(channel, _WORD), "little")
    head = _exactly(channel, count * _WORD)
    sizes = [
        int.from_bytes(head[place : place + _WORD], "little")
        for place in range(0, len(head), _WORD)
    ]
    return [_exactly(channel, size) for size in sizes]


def _exactly(channel: socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        got = channel.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return data
