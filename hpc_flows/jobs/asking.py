"""Asking a cluster's scheduler about jobs: one thread per cluster, seldom, and in batches.

Sites forbid programs that ask often. The first question comes a little after a submission, the
next ones further and further apart while nothing changes; a new submission does not begin the
series again. What the journals of jobs tell needs no question at all. Accounting is asked only
about jobs that left the queue or ended without an outcome.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpc_flows.clusters import Cluster
    from hpc_flows.schedulers.base import JobStatus, Scheduler

#: Factor by which the pause grows while nothing changes.
SLOWER = 1.5
#: Seconds for which accounting counts as absent after it did not answer.
ACCOUNTING_ABSENT = 300.0
#: Seconds between two warnings that the scheduler does not answer.
WARN_EVERY = 300.0
#: Least seconds between two questions, however urgent.
LEAST = 1.0


class Asks(Protocol):
    """Who wants to know; called in the asking thread."""

    def queue_questions(self, cluster: str) -> Sequence[str]:
        """Return the ids to ask the queue about."""

    def history_questions(self, cluster: str) -> Mapping[str, str]:
        """Return the ids to ask accounting about, each with the name of its job."""

    def queue_answered(
        self, cluster: str, asked: Sequence[str], found: Mapping[str, JobStatus]
    ) -> bool:
        """Take an answer of the queue; return whether anything has changed."""

    def history_answered(
        self, cluster: str, asked: Sequence[str], found: Mapping[str, JobStatus]
    ) -> None:
        """Take an answer of accounting."""


class Pace:
    """When to ask the queue next; times of the monotonic clock.

    Attributes:
        due: when; None while there is nothing to ask about.
    """

    def __init__(self, first: float, interval: float, slowest: float) -> None:
        self._first, self._interval, self._slowest = first, interval, slowest
        self._pause = interval
        self._last = float("-inf")
        self.due: float | None = None

    def begin(self, now: float) -> None:
        """Jobs were submitted: ask after the first pause, if no question is due already."""
        if self.due is None:
            self.due = max(now + self._first, self._last + LEAST)

    def hurry(self, now: float) -> None:
        """Something was noticed that the scheduler can explain: ask soon."""
        soon = max(now, self._last + min(LEAST, self._first))
        self.due = soon if self.due is None else min(self.due, soon)

    def answered(self, now: float, *, changed: bool) -> None:
        """Go on after an answer: at the usual pause after a change, else more slowly."""
        self._last = now
        self._pause = self._interval if changed else min(self._pause * SLOWER, self._slowest)
        self.due = now + self._pause

    def failed(self, now: float) -> None:
        """Go on after a question that was not answered."""
        self._last = now
        self._pause = min(self._pause * SLOWER, self._slowest)
        self.due = now + self._pause

    def rest(self) -> None:
        """There is nothing to ask about."""
        self.due = None
        self._pause = self._interval


class Asker:
    """The thread that asks one cluster's scheduler.

    Args:
        cluster: the cluster.
        scheduler: its scheduler.
        asks: who wants to know.
        warn: takes a warning for the user.
    """

    def __init__(
        self, cluster: Cluster, scheduler: Scheduler, asks: Asks, warn: Callable[[str], None]
    ) -> None:
        self.cluster = cluster
        self.scheduler = scheduler
        self.reachable = True
        self._asks = asks
        self._warn = warn
        poll = cluster.poll
        self._pace = Pace(poll.first, poll.interval, poll.slowest)
        self._history_due = 0.0
        self._history_wanted = False
        self._accounting_failed = float("-inf")
        self._warned = float("-inf")
        self._closed = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(
            target=self._serve, name=f"hpc-flows-ask-{cluster.name}", daemon=True
        )

    @property
    def accounting(self) -> bool:
        """Whether accounting can be asked, as far as is known."""
        return time.monotonic() - self._accounting_failed > ACCOUNTING_ABSENT

    def start(self) -> None:
        """Start asking."""
        self._thread.start()

    def begin(self) -> None:
        """Note that jobs were submitted."""
        with self._wake:
            self._pace.begin(time.monotonic())
            self._wake.notify()

    def hurry(self) -> None:
        """Ask soon."""
        with self._wake:
            self._pace.hurry(time.monotonic())
            self._wake.notify()

    def look(self) -> None:
        """Note that there is a question for accounting."""
        with self._wake:
            self._history_wanted = True
            self._wake.notify()

    def close(self) -> None:
        """Ask no more; a question that is under way is not waited for."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def _serve(self) -> None:
        while True:
            with self._wake:
                self._wake.wait(self._pause())
                if self._closed:
                    return
                now = time.monotonic()
                queue_due = self._pace.due is not None and self._pace.due <= now
                history_due = self._history_wanted and self._history_due <= now
            # Not with the lock held: who wants to know has a lock too, and calls us with it.
            if queue_due:
                self._ask_queue()
            if history_due:
                self._ask_history()

    def _pause(self) -> float | None:
        times = [] if self._pace.due is None else [self._pace.due]
        if self._history_wanted:
            times.append(self._history_due)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _ask_queue(self) -> None:
        ids = self._asks.queue_questions(self.cluster.name)
        if not ids:
            with self._wake:
                self._pace.rest()
            return
        try:
            found = self.scheduler.poll(ids)
        except Exception as error:  # noqa: BLE001 - an answer that cannot be read is no answer
            self._unanswered(error)
            return
        if not self.reachable:
            self._warn(f"{self.cluster.name} answers again.")
        self.reachable = True
        self._warned = float("-inf")
        changed = self._asks.queue_answered(self.cluster.name, ids, found)
        with self._wake:
            self._pace.answered(time.monotonic(), changed=changed)

    def _unanswered(self, error: Exception) -> None:
        self.reachable = False
        now = time.monotonic()
        if now - self._warned >= WARN_EVERY:
            self._warned = now
            self._warn(
                f"The scheduler of {self.cluster.name} cannot be asked about jobs now, which says "
                f"nothing about them; it is asked again from time to time. {error}"
            )
        with self._wake:
            self._pace.failed(now)

    def _ask_history(self) -> None:
        with self._wake:
            self._history_wanted = False
        names = self._asks.history_questions(self.cluster.name)
        if not names or not self.accounting:
            return
        self._history_due = time.monotonic() + self.cluster.poll.history
        try:
            found = self.scheduler.history(list(names), frozenset(names.values()))
        except Exception as error:  # noqa: BLE001 - as above; mostly AccountingUnavailable
            self._accounting_failed = time.monotonic()
            self._warn(f"{error} Causes of crashes may be less exact.")
            return
        self._asks.history_answered(self.cluster.name, list(names), found)
