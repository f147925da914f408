"""Holding back: how often and how soon something may be tried."""

from __future__ import annotations

import time


class Bucket:
    """A token bucket: some submissions at once, then a steady rate.

    Args:
        burst: how many may follow each other at once.
        rate: how many a second come back.
    """

    def __init__(self, burst: int, rate: float) -> None:
        self._burst = float(max(1, burst))
        self._rate = max(rate, 1e-6)
        self._level = self._burst
        self._at = time.monotonic()

    def wait(self) -> float:
        """Take one and return 0, or return how many seconds to wait before asking again."""
        now = time.monotonic()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < 1.0:
            return (1.0 - self._level) / self._rate
        self._level -= 1.0
        return 0.0


def backoff(tries: int, first: float = 2.0, most: float = 60.0) -> float:
    """Return the seconds to wait after so many vain tries, from 1: doubling up to `most`."""
    return float(min(first * 2.0 ** min(tries - 1, 20), most))
