"""Answers that cost much to compute, kept for as long as they hold.

The timeline and the graph of a run with 100,000 task runs take tenths of a second to seconds, and
every browser that shows the run asks for them again. What is kept is the answer's bytes. It holds
for one version of the run, which rises with each change in the same transaction. Who may see the
run is asked each time, before: an answer is the same for all who may.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from hpc_flows.server.problems import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

#: Bytes that all answers that are kept take together, and the most that one may take of them.
MOST_BYTES, MOST_SHARE = 32 * 2**20, 0.25
#: Bytes that an entry takes beside its answer, as a round sum.
_BESIDE = 1024


class Made(NamedTuple):
    """An answer as it was computed.

    Attributes:
        value: what is told.
        seconds: how long it holds while the run does not change; None for as long as that.
    """

    value: Any
    seconds: float | None = None


class _Kept(NamedTuple):
    version: int
    until: float | None
    body: bytes

    def holds(self, version: int) -> bool:
        return self.version == version and (self.until is None or time.monotonic() < self.until)


class _Flight:
    """Somebody who computes an answer, and how many wait for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0


class Answers:
    """A bounded memory of answers; threads may share it.

    Who asks for what is being computed waits for that, so that ten browsers cost what one does.

    Args:
        most_bytes: that it may take.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._flights: dict[Hashable, _Flight] = {}
        self._bytes = self._hits = self._misses = 0

    def of(self, key: Hashable, version: int, make: Callable[[], Made]) -> bytes:
        """Return an answer as JSON, computed now unless it is known.

        Args:
            key: what is asked for; it names the run, and nothing about who asks.
            version: of the run.
            make: computes the answer; what it raises is passed on, and nothing is kept.
        """
        with self._flying((key, version)):
            body = self._known(key, version)
            if body is None:
                made = make()
                body = encode(made.value)
                self._keep(key, version, made.seconds, body)
            return body

    def facts(self) -> dict[str, int]:
        """Return how much is kept, and how often that helped since the start."""
        with self._lock:
            return {
                "answers": len(self._kept),
                "bytes": self._bytes,
                "most_bytes": self._most,
                "hits": self._hits,
                "misses": self._misses,
            }

    @contextmanager
    def _flying(self, what: Hashable) -> Iterator[None]:
        """Let one at a time ask for the same."""
        with self._lock:
            flight = self._flights.setdefault(what, _Flight())
            flight.users += 1
        try:
            with flight.lock:
                yield
        finally:
            with self._lock:
                flight.users -= 1
                if not flight.users:
                    del self._flights[what]

    def _known(self, key: Hashable, version: int) -> bytes | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or not kept.holds(version):
                self._misses += 1
                return None
            self._hits += 1
            self._kept.move_to_end(key)
            return kept.body

    def _keep(self, key: Hashable, version: int, seconds: float | None, body: bytes) -> None:
        if len(body) + _BESIDE > self._most * MOST_SHARE:
            return
        until = None if seconds is None else time.monotonic() + seconds
        with self._lock:
            before = self._kept.get(key)
            if before is not None and before.version > version:
                return  # whoever began earlier and took longer has seen less
            self._drop(key)
            self._kept[key] = _Kept(version, until, body)
            self._bytes += len(body) + _BESIDE
            while self._bytes > self._most:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._bytes -= len(dropped.body) + _BESIDE
