"""The runs that a relay shall report, where that are not all of a home."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Chosen:
    """Some runs, which may become more and fewer; threads may share it.

    Args:
        runs: ids.
    """

    def __init__(self, *runs: str) -> None:
        self._lock = Lock()
        self._runs = frozenset(runs)
        self._closed: frozenset[str] = frozenset()

    def __contains__(self, run: str) -> bool:
        """Tell whether a run is one of them."""
        return run in self._runs

    def __iter__(self) -> Iterator[str]:
        """Give those that there are now, whatever is added meanwhile."""
        return iter(self._runs)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._runs)

    def add(self, run: str) -> None:
        """Have one more reported."""
        with self._lock:
            self._runs |= {run}

    def close(self, run: str) -> None:
        """Say that nothing more will be written in a run."""
        with self._lock:
            self._closed |= {run} & self._runs

    def is_closed(self, run: str) -> bool:
        """Tell whether nothing more will be written in a run."""
        return run in self._closed

    def drop(self, run: str) -> None:
        """Forget a run, which was sent."""
        with self._lock:
            self._runs -= {run}
            self._closed -= {run}


def chosen(only: str | Chosen | None) -> Chosen | None:
    """Return the runs that are meant by one id, by several, or by nothing: all."""
    return Chosen(only) if isinstance(only, str) else only
