"""Time as an object: what the pretend cluster asks for "now" and for "call me then".

`RealClock` is the wall clock. A virtual clock has the same methods and jumps from timer to timer.
"""

from __future__ import annotations

import heapq
import time
from abc import ABC, abstractmethod
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """A call that is due at a time; `cancel()` takes it back."""

    __slots__ = ("call", "due")

    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Take the call back; a timer that has run or was taken back is left alone."""
        self.call = None


class Clock(ABC):
    """The time and a queue of timers."""

    def __init__(self) -> None:
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()

    @abstractmethod
    def now(self) -> float:
        """Return seconds since 1970."""

    def call_at(self, due: float, call: Callable[[], None]) -> Timer:
        """Call once `now()` has reached `due` (seconds since 1970)."""
        timer = Timer(due, call)
        heapq.heappush(self._timers, (due, next(self._order), timer))
        return timer

    def call_in(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call after that many seconds."""
        return self.call_at(self.now() + seconds, call)

    def next_due(self) -> float | None:
        """Return when the next timer is due, or None when there is none."""
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def run_due(self) -> int:
        """Run every timer that is due, in order, and return how many ran."""
        ran = 0
        while (due := self.next_due()) is not None and due <= self.now():
            timer = heapq.heappop(self._timers)[2]
            call, timer.call = timer.call, None
            if call is not None:
                call()
                ran += 1
        return ran


class RealClock(Clock):
    """The wall clock."""

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time()
