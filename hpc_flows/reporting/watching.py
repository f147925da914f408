"""Which runs there are to report, and when to look at each of them again.

Looking costs a listing of the run's journal folder. A run that is at work is looked at every
quarter of a second, less often while nothing comes; one that has ended, ever less often.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hpc_flows.exceptions import JournalError, LeaseError
from hpc_flows.journal.index import summarise
from hpc_flows.journal.reader import iter_run
from hpc_flows.journal.replay import RunView
from hpc_flows.reporting.cursors import is_name

if TYPE_CHECKING:
    from hpc_flows.leases import Lease
    from hpc_flows.reporting.chosen import Chosen
    from hpc_flows.reporting.feed import RunFeed

#: Seconds between two looks at a run at work: at first, and the most (changes arrive within 2 s).
QUICKEST, SLOWEST = 0.25, 1.0
#: Most seconds between two looks at a large run at work, and at one that has ended.
_SLOWEST_LARGE, _SLOWEST_ENDED = 5.0, 600.0
#: The most of its time that a relay spends on looking at one run.
_SHARE = 0.05
#: Seconds between two looks at whether a driver lives that says nothing.
_DRIVER_PERIOD = 15.0
#: Seconds of silence after which a driver elsewhere is taken for gone: longer than most walltimes.
SILENCE = 7 * 86400.0
#: Seconds between two whole listings of the folder of runs.
_LISTING = 5.0


class Watched:
    """A run that a relay has its eye on.

    Attributes:
        id, folder: of the run.
        feed: sends its events; None while there is nothing to send.
        claim: the right to report it, against other relays of this home; None while not held.
        next: when to look again, by the monotonic clock.
        over: whether its driver has ended; None before that was looked at.
        trouble: why it is not reported, or an empty text.
        sent: events that were sent by feeds that were let go.
        unsent: bytes of journals that were not sent at the last look.
        worked: whether something was sent of it.
        looked: whether it was looked at.
        is_closed: whether this process has written it, and has written all of it.
    """

    def __init__(self, id_: str, folder: str, next_: float) -> None:
        self.id, self.folder, self.next = id_, folder, next_
        self.feed: RunFeed | None = None
        self.claim: Lease | None = None
        self.over: bool | None = None
        self.trouble = ""
        self.sent = self.unsent = 0
        self.worked = self.looked = self.is_closed = False
        self._changed = time.monotonic()
        self._asked = float("-inf")

    @property
    def is_live(self) -> bool:
        """Whether its driver is at work, as far as is known."""
        return self.over is False

    def changed(self) -> None:
        """Note that something new was found and sent."""
        self.worked = True
        self._changed = time.monotonic()

    def ask_driver(self, *, now: bool) -> None:
        """Find out whether the driver has ended: at once, or if it is time to ask again."""
        if self.is_closed:
            self.over = True
            return
        clock = time.monotonic()
        period = 1.0 if now else _DRIVER_PERIOD
        if self.over is not None and clock - self._asked < period:
            return
        self._asked = clock
        about = summarise(self.folder)
        silent = clock - self._changed > SILENCE
        self.over = about.ended is not None or about.alive is False or silent

    def look_again(self, cost: float) -> None:
        """Set when to look again, after a look that took so many seconds."""
        now = time.monotonic()
        pause = max((now - self._changed) / 8, QUICKEST)
        longest = max(SLOWEST, min(cost / _SHARE, _SLOWEST_LARGE))
        self.next = now + min(pause, _SLOWEST_ENDED if self.over else longest)

    def idle(self) -> float:
        """Return for how many seconds nothing new has come."""
        return time.monotonic() - self._changed

    def holds_claim(self) -> bool:
        """Tell whether the right to report it is this relay's; True also before it is asked for.

        A process that was stopped for longer than a lease lasts has lost it to another relay.
        """
        return self.claim is None or self.claim.is_held()

    def rest(self) -> None:
        """Let go of everything that is only needed while there is something to send."""
        if self.feed is not None:
            self.sent += self.feed.sent
            self.feed = None
        claim, self.claim = self.claim, None
        if claim is not None:
            with suppress(LeaseError):  # a disk that takes nothing any more: it ends by its time
                claim.release(forget=True)


def has_open_jobs(folder: str) -> bool:
    """Tell whether jobs of a run whose driver has ended may still be at work."""
    view = RunView(log_limit=0)
    try:
        for event in iter_run(folder):
            view.apply(event)
    except JournalError:  # purged, or unreadable: they write nothing that could be reported
        return False
    for job in view.jobs.values():
        members = [view.task_runs.get(id_) for id_ in job.task_runs]
        ended = all(run is not None and run.is_final for run in members)
        if job.refusal is None and not ended:
            return True
    return False


class RunsFolder:
    """The folder of runs, asked cheaply for new ones.

    Args:
        home: the setting `home`.
        only: the runs that matter; None: all.
    """

    def __init__(self, home: str, only: Chosen | None = None) -> None:
        self.folder = os.path.join(home, "runs")
        self._only = only
        self._known: set[str] = set()
        self._stamp = 0
        self._listed = float("-inf")

    def new(self) -> list[str]:
        """Return runs that have appeared since the last call, the newest first."""
        if self._only is not None:
            found = set(self._only) - self._known
            self._known |= found
            return list(found)
        try:
            stamp = os.stat(self.folder).st_mtime_ns
        except OSError:
            return []
        now = time.monotonic()
        if stamp == self._stamp and now - self._listed < _LISTING:
            return []
        self._stamp, self._listed = stamp, now
        return self._fresh()

    def forget(self, run: str) -> None:
        """Let a run be new again, should its folder come back."""
        self._known.discard(run)

    def _fresh(self) -> list[str]:
        found: list[tuple[float, str]] = []
        try:
            with os.scandir(self.folder) as entries:
                found += (
                    (entry.stat(follow_symlinks=False).st_mtime, entry.name)
                    for entry in entries
                    if entry.name not in self._known
                    # Others put folders of theirs there: file servers, notebooks.
                    and is_name(entry.name)
                    and entry.is_dir(follow_symlinks=False)
                )
        except OSError:
            return []
        self._known.update(name for _, name in found)
        return [name for _, name in sorted(found, reverse=True)]
