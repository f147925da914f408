"""How long to wait before something is tried again."""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime

#: Seconds before the first repetition, and the most between two.
FIRST, LONGEST = 1.0, 300.0

#: Longest `Retry-After` that is believed.
_LONGEST_ASKED = 3600.0


class Backoff:
    """Pauses that grow while something fails, spread by chance so that many do not come at once.

    Args:
        first: seconds of the first pause.
        longest: the most.

    Attributes:
        failures: how often it failed in a row.
    """

    def __init__(self, first: float = FIRST, longest: float = LONGEST) -> None:
        self._first, self._longest = first, longest
        self.failures = 0

    def succeeded(self) -> None:
        """Begin anew."""
        self.failures = 0

    def failed(self, asked: float | None = None) -> float:
        """Note a failure and return the seconds to wait; at least as many as were asked for."""
        grown = min(self._first * 2.0 ** min(self.failures, 30), self._longest)
        self.failures += 1
        # Half of it by chance: relays that failed together come back one after the other.
        pause = grown * (0.5 + random.random() / 2)  # noqa: S311 - nothing is secret here
        if asked is None or asked <= 0.0:
            # "At once" is no invitation to ask without end, and a date that our clock has passed
            # reads the same.
            return pause
        return asked + pause * min(asked, 1.0) / 2


def seconds_asked(text: str | None) -> float | None:
    """Return the seconds that a header `Retry-After` asks for, or None; a date is understood."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), _LONGEST_ASKED) if seconds == seconds else None  # noqa: PLR0124 - NaN
