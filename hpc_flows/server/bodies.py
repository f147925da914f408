"""Bodies of requests, read under limits of size, before and after they are unpacked."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from hpc_flows.server.problems import Problem, too_large

if TYPE_CHECKING:
    from starlette.requests import Request

MIB = 2**20
#: Bytes of a batch of events as it is sent, and unpacked.
PACKED, UNPACKED = 2 * MIB, 20 * MIB
#: Bytes of any other body.
PLAIN = MIB + 64 * 2**10
#: A batch may be this many times as large unpacked, once it is larger than `RATIO_FROM` bytes.
#: Journal lines, each with its own checksum, pack 5 to 30 times; a bomb of zeros 1000 times.
RATIO, RATIO_FROM = 200, MIB

_GZIP = 16 + zlib.MAX_WBITS
_STEP = 256 * 2**10


class Unpacker:
    """Takes a gzip stream apart piece by piece, and stops at the limits.

    What it holds never exceeds `UNPACKED` bytes, whatever is sent.
    """

    def __init__(self, most: int = UNPACKED) -> None:
        self._most = most
        self._zlib = zlib.decompressobj(_GZIP)
        self._taken = 0
        self._made = bytearray()

    def feed(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            Problem: it is no gzip, or it becomes too large.
        """
        self._taken += len(piece)
        while piece:
            if self._zlib.eof:  # a file of gzip may have several members
                self._zlib = zlib.decompressobj(_GZIP)
            try:
                self._made += self._zlib.decompress(piece, _STEP)
            except zlib.error as error:
                raise Problem(400, "not-gzip", f"The body is no gzip: {error}.") from None
            self._check()
            piece = self._zlib.unconsumed_tail or self._zlib.unused_data

    def _check(self) -> None:
        made = len(self._made)
        if made > self._most:
            raise too_large(self._most, "The unpacked body")
        if made > RATIO_FROM and made > RATIO * self._taken:
            message = f"The body grows more than {RATIO} times when unpacked; send it in parts."
            raise Problem(413, "too-large", message)

    def end(self) -> bytes:
        """Return all that was unpacked.

        Raises:
            Problem: the stream is torn.
        """
        if not self._zlib.eof:
            raise Problem(400, "not-gzip", "The body ends before its gzip stream does.")
        return bytes(self._made)


async def read_batch(request: Request) -> bytes:
    """Return the unpacked body of a batch of events.

    Raises:
        Problem: its encoding is unknown, it is damaged, or larger than the limits.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return await read_plain(request, PACKED)
    if encoding != "gzip":
        message = f"Content-Encoding {encoding!r} is not known here; send gzip, or none."
        raise Problem(415, "unknown-encoding", message)
    unpacker = Unpacker()
    async for piece in request.stream():
        unpacker.feed(piece)
    return unpacker.end()


async def read_plain(request: Request, most: int = MIB) -> bytes:
    """Return a body as it is.

    Raises:
        Problem: it is larger than `most` bytes.
    """
    made = bytearray()
    async for piece in request.stream():
        made += piece
        if len(made) > most:
            raise too_large(most)
    return bytes(made)
