"""How often one may ask: a bucket of permissions for each, refilled at a steady rate."""

from __future__ import annotations

import threading
from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Rate(NamedTuple):
    """A limit.

    Attributes:
        per_second: permissions that come back in a second.
        burst: permissions that can be saved up.
    """

    per_second: float
    burst: float


class Buckets:
    """Permissions of many askers; those who have not asked for longest are forgotten first."""

    def __init__(
        self, rate: Rate, most: int = 10_000, clock: Callable[[], float] = monotonic
    ) -> None:
        """Make buckets, which are full at first.

        Args:
            rate: the limit of each.
            most: askers that are remembered.
            clock: seconds; tests put their own.
        """
        self.rate = rate
        self._most = most
        self._clock = clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, who: Hashable, amount: float = 1.0) -> float:
        """Take permissions; return 0, or the seconds until there are enough (none are taken)."""
        with self._lock:
            now = self._clock()
            left, then = self._left.pop(who, (self.rate.burst, now))
            left = min(self.rate.burst, left + (now - then) * self.rate.per_second)
            amount = min(amount, self.rate.burst)
            enough = left >= amount
            self._left[who] = (left - amount if enough else left, now)
            while len(self._left) > self._most:
                self._left.popitem(last=False)
            return 0.0 if enough else (amount - left) / self.rate.per_second
