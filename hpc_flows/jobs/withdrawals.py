"""Withdrawing jobs that can never start: all of one submission with one command.

A limit that one element of an array passes is passed by the others as well, and a command for each
of a thousand would be as many at the same moment.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from hpc_flows.exceptions import SchedulerError

if TYPE_CHECKING:
    from hpc_flows.jobs.asking import Asker

#: Seconds for which the end of a run waits for withdrawals that are under way.
PATIENCE = 10.0


class Withdrawals:
    """Collects what is to be withdrawn, and does it in threads of its own."""

    def __init__(self) -> None:
        self._wanted: dict[str, tuple[Asker, list[str]]] = {}
        self._threads: list[threading.Thread] = []

    def add(self, asker: Asker, token: str, job: str) -> None:
        """Withdraw a job, or an element of an array, with the next `start`."""
        self._wanted.setdefault(token, (asker, []))[1].append(job)

    def start(self) -> None:
        """Begin what was collected; it may take as long as the scheduler likes."""
        wanted, self._wanted = self._wanted, {}
        if not wanted:
            return
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        for token, (asker, jobs) in wanted.items():
            thread = threading.Thread(
                target=_withdraw, args=(asker, jobs, token), name="hpc-flows-withdraw", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def wait(self) -> None:
        """Return when all is done, or has taken too long; a process that ends takes them along."""
        give_up = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, give_up - time.monotonic()))


def _withdraw(asker: Asker, jobs: list[str], token: str) -> None:
    """Cancel jobs that can never start; what cannot be reached now keeps waiting in the queue."""
    try:
        asker.scheduler.cancel(jobs, token=token)
    except SchedulerError:
        return
