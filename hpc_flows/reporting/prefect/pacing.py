"""How much a server is sent, and when it is left alone."""

from __future__ import annotations

from threading import Event
from time import monotonic

from hpc_flows.reporting.sink import SinkTrouble

#: Events a second, on average. A server with SQLite records about 77 of them; others use it too.
RATE = 50.0

#: Events that may go at once after a pause.
_BURST = 100.0

#: Failures in a row after which a server is left alone, and for how many seconds at first and at
#: most.
_PATIENCE = 5
_FIRST_REST, _LONGEST_REST = 30.0, 600.0


class Pace:
    """A bucket that fills at an even rate; what is sent is taken from it.

    Args:
        rate: events a second.
    """

    def __init__(self, rate: float = RATE) -> None:
        self._rate = rate
        self._burst = min(_BURST, max(1.0, 2 * rate))
        self._level = self._burst
        self._filled = monotonic()
        self._stopped = Event()

    def available(self) -> int:
        """Return how many events could go at once."""
        now = monotonic()
        self._level = min(self._burst, self._level + (now - self._filled) * self._rate)
        self._filled = now
        return int(self._level)

    def take(self, count: int) -> None:
        """Wait until some events may go, and count them.

        Raises:
            SinkTrouble: it was stopped meanwhile.
        """
        self.available()
        # A debt is waited for afterwards, so that more than a burst can go at all.
        missing = min(count, self._burst) - self._level
        self.pause(missing / self._rate)
        self.available()
        self._level -= count

    def pause(self, seconds: float) -> None:
        """Wait, if there is anything to wait for.

        Raises:
            SinkTrouble: it was stopped meanwhile.
        """
        if seconds > 0 and self._stopped.wait(seconds):
            raise SinkTrouble("The report to the Prefect server was stopped.")

    def stop(self) -> None:
        """Let nobody wait any more."""
        self._stopped.set()

    def go_on(self) -> None:
        """Let things be sent again after `stop`."""
        self._stopped.clear()


class Breaker:
    """Leaves a server alone for a while after errors in a row, each time for longer."""

    def __init__(self) -> None:
        self._failures = 0
        self._rest = _FIRST_REST
        self._until = float("-inf")

    def check(self) -> None:
        """Let a request pass, or not.

        Raises:
            SinkTrouble: the server is left alone for now.
        """
        left = self._until - monotonic()
        if left > 0:
            raise SinkTrouble(
                f"The Prefect server answered with errors {_PATIENCE} times in a row. It is left "
                f"alone for {left:.0f} s.",
                retry_after=left,
                answered=True,
            )

    def succeeded(self) -> None:
        """Note that the server took something."""
        self._failures, self._rest = 0, _FIRST_REST

    def failed(self) -> None:
        """Note an error; the last of some in a row begins a rest."""
        self._failures += 1
        if self._failures >= _PATIENCE:
            self._until = monotonic() + self._rest
            self._failures, self._rest = 0, min(2 * self._rest, _LONGEST_REST)
