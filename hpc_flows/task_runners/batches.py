"""Calls that a worker process is given at once, and the tokens that say which it may begin.

A short call costs less than the way to another process and back. Several of them are therefore
sent in one message, with one byte in a pipe for each. Whoever reads a byte owns its call: the
worker, which then runs it, or the flow's process, which takes calls back when the one before them
takes long, is cancelled, or has killed the worker. Reading a byte is one atomic step of the
kernel's, so that no call is run twice, and none is forgotten.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextvars import Context

    from hpc_flows.task_runners.base import TaskCall

    Entry = tuple[TaskCall, Context]

#: Calls in one message; a pipe holds far more bytes than that.
MOST = 32

#: What the worker sends when it finds no more tokens.
END = b"end"

#: Marks the tokens of every other message: those of the next may be there before it.
_ODD = 0x80


class Tokens:
    """The flow's end of the pipe of tokens of one worker process.

    Attributes:
        reader: the descriptor that the worker inherits.
    """

    __slots__ = ("_mark", "_writer", "reader")

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        # Of the open file, and so for the worker, too: an empty pipe means that nothing is left.
        os.set_blocking(self.reader, False)
        self._mark = 0

    def offer(self, count: int) -> None:
        """Put down the tokens of calls 0, 1, ..., before the calls are sent."""
        self._mark ^= _ODD
        os.write(self._writer, bytes(number | self._mark for number in range(count)))

    def take_back(self) -> bytes:
        """Return the numbers of the calls that the worker has not begun, and never will."""
        return bytes(token & ~_ODD for token in _read(self.reader, MOST))

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.reader)
        os.close(self._writer)


class Claims:
    """The worker's end of the pipe."""

    __slots__ = ("_mark", "_reader", "_token")

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self._mark = 0
        self._token = b""

    def of_next_message(self) -> Iterator[int]:
        """Yield the numbers of the calls to run, of the message that was just received."""
        self._mark ^= _ODD
        while token := self._token or _read(self._reader, 1):
            if token[0] & _ODD != self._mark:
                self._token = token  # of the next message, which is on its way
                return
            self._token = b""
            yield token[0] & ~_ODD


def _read(reader: int, most: int) -> bytes:
    try:
        return os.read(reader, most)
    except BlockingIOError:
        return b""


class Batch:
    """The calls of one message, in the order in which the worker runs them.

    The current one is whose answer is awaited: the worker runs it, or is about to.
    """

    __slots__ = ("_current", "_entries", "_given_back")

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self._entries = entries
        self._current = 0
        self._given_back: set[int] = set()

    def give_back(self, tokens: bytes) -> list[Entry]:
        """Note that these calls were taken back; return them, but for the current one.

        The current one has been journalled as Running; if it was taken back, its handler sees
        that when the worker is at the end, and sends it again.
        """
        self._given_back.update(tokens)
        self._given_back.discard(self._current)
        return [self._entries[number] for number in tokens if number != self._current]

    def current(self) -> Entry | None:
        """Return the current call; None when all have ended."""
        while self._current in self._given_back:
            self._current += 1
        return self._entries[self._current] if self._current < len(self._entries) else None

    def advance(self) -> None:
        """Go on to the next call."""
        self._current += 1

    def has_more(self) -> bool:
        """Tell whether calls follow the current one."""
        later = range(self._current + 1, len(self._entries))
        return any(number not in self._given_back for number in later)
