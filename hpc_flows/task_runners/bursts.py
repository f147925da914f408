"""Bursts of submits, which those who run the calls let pass.

Threads that submit and run calls at the same time hand Python's one lock to each other at every
line of the journal, and thousands of short calls take twice as long.
"""

from __future__ import annotations

import time

#: Seconds without a submit that end a burst, and the longest that one holds calls back.
_PAUSE = 0.0002
_LONGEST = 0.05


class Burst:
    """Knows whether calls are being submitted one right after the other, and not awaited yet."""

    __slots__ = ("_awaited", "_submitted")

    def __init__(self) -> None:
        self._submitted = 0.0  # when a call was submitted last
        self._awaited = True  # whether somebody has begun to wait for a call since then

    def go_on(self) -> None:
        """Note that calls are submitted."""
        self._awaited = False
        self._submitted = time.monotonic()

    def end(self) -> None:
        """Note that somebody waits for a call, so that nothing is to be held back any more."""
        self._awaited = True

    def lasts(self, since: float) -> bool:
        """Tell whether it goes on, and has not held back who asks for too long already."""
        now = time.monotonic()
        return not self._awaited and now - self._submitted < _PAUSE and now - since < _LONGEST

    def let_pass(self) -> None:
        """Leave the interpreter to the thread that submits, for a moment."""
        began = time.monotonic()
        while self.lasts(began):
            time.sleep(_PAUSE)
