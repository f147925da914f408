"""The runs that one relay reports to one place: found, claimed, fed, and let go."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from hpc_flows.exceptions import LeaseError
from hpc_flows.leases import Lease, holder_of
from hpc_flows.reporting.cursors import CursorFolder
from hpc_flows.reporting.describing import describe
from hpc_flows.reporting.feed import RunFeed, RunUnreadable, RunVanished
from hpc_flows.reporting.sink import RunRefused
from hpc_flows.reporting.watching import QUICKEST, RunsFolder, Watched, has_open_jobs

if TYPE_CHECKING:
    from hpc_flows.reporting.chosen import Chosen
    from hpc_flows.reporting.cursors import CursorStore
    from hpc_flows.reporting.sink import Sink

#: Seconds after which a run is looked at again that another relay reports, that is refused, or
#: whose journals cannot be read.
_CLAIMED_AGAIN, _REFUSED_AGAIN, _UNREADABLE_AGAIN = 5.0, 300.0, 5.0
#: Seconds in which a run's folder gets its journals; without them it is no run.
_MADE_WITHIN = 10.0


class Roster:
    """The runs of a home, or one of them, on their way to the place that `sink.store` names.

    Args:
        home: the setting `home`.
        sink: where events go.
        only: the runs to report; None: all.
        store: where cursors are kept; in a folder of the home unless said otherwise.

    Attributes:
        place: the sink's `store` when it was made.
        store: where cursors are kept.
        epoch: of the sink, as its last answer to a run had it.
        unsaved: why cursors cannot be kept, or an empty text.
    """

    def __init__(
        self, home: str, sink: Sink, only: Chosen | None = None, store: CursorStore | None = None
    ) -> None:
        self._home, self._sink, self._only = home, sink, only
        self.place = sink.store
        self._root = os.path.join(home, "relay", sink.store)
        self.store: CursorStore = CursorFolder(self._root) if store is None else store
        self._runs = RunsFolder(home, only)
        self._watched: dict[str, Watched] = {}
        self.epoch = self.unsaved = ""
        self._listed = False
        self._sent_before = 0  # of runs that were let go

    def round(self, until: float) -> bool:
        """Look at every run that is due, once; stop at a time; tell whether more is to be sent.

        Raises:
            SinkTrouble, SinkRefusal: the sink takes nothing now.
        """
        self._discover()
        more = False
        now = time.monotonic()
        due = sorted((each for each in self._all() if each.next <= now), key=_next)
        for each in due:
            more |= self._look(each)
            if time.monotonic() >= until:
                return True
        return more

    def measure(self, until: float) -> None:
        """Find out how much waits while nothing can be sent; stop at a time."""
        self._discover()
        for each in self._all():
            if time.monotonic() >= until:
                return
            if each.feed is None and each.looked and each.over:
                continue  # it had been sent when it was let go
            if each.trouble and each.claim is None:
                continue  # another relay tells of it
            feed = each.feed or RunFeed(describe(each.id, each.folder), self._sink, self.store)
            try:
                each.unsent = feed.unsent()
            except (RunVanished, RunUnreadable):
                continue  # the next look sees to it
            each.ask_driver(now=False)

    def next_look(self) -> float:
        """Return when a run is due, by the monotonic clock; infinity when there is none."""
        return min((each.next for each in self._all()), default=float("inf"))

    def hurry(self, run: str | None = None) -> None:
        """Look at a run, or at all that are fed, without waiting."""
        for each in self._all():
            if each.id == run or (run is None and each.feed is not None):
                each.next = 0.0

    def finish(self) -> None:
        """Look at all runs that are fed, and wait for nothing that may come."""
        self.hurry()
        for each in self._all():
            if each.feed is not None:
                each.feed.finish()

    def files_due(self) -> int:
        """Return how many attachments wait."""
        feeds = [each.feed for each in self._all()]
        return sum(len(feed.cursor.due) for feed in feeds if feed is not None)

    def live(self) -> list[str]:
        """Return the runs that this relay reports and whose driver is at work."""
        return [each.id for each in self._all() if each.is_live and each.claim]

    def is_quiet(self) -> bool:
        """Tell whether no run is live, here or with another relay, and nothing is left to send."""
        # What waits is left to others where its trouble is the run's own, and not the sink's.
        return all(
            each.over and each.feed is None and (not each.unsent or bool(each.trouble))
            for each in self._all()
        )

    def has_looked(self) -> bool:
        """Tell whether every run was looked at."""
        return self._listed and all(each.looked or each.trouble for each in self._all())

    def idle(self) -> float:
        """Return for how many seconds no run has had anything new."""
        return min((each.idle() for each in self._all()), default=float("inf"))

    def jobs_may_live(self) -> bool:
        """Tell whether jobs of runs whose driver has ended may still write."""
        recent = (each for each in self._all() if each.worked)
        return any(has_open_jobs(each.folder) for each in recent if os.path.isdir(each.folder))

    def clusters(self) -> set[str]:
        """Return the clusters that live runs have sent jobs to."""
        feeds = (each.feed for each in self._all() if each.is_live)
        return {name for feed in feeds if feed is not None for name in feed.cursor.clusters}

    def unsent(self) -> int:
        """Return how many bytes of journals were not sent when they were last looked at."""
        return sum(each.unsent for each in self._all())

    def sent(self) -> int:
        """Return how many events were sent."""
        fed = sum(each.feed.sent for each in self._all() if each.feed is not None)
        return self._sent_before + fed + sum(each.sent for each in self._all())

    def lost_lines(self) -> tuple[int, int]:
        """Return how many lines of runs at hand were refused for good, and how many are damaged."""
        cursors = [each.feed.cursor for each in self._all() if each.feed is not None]
        return sum(each.refused for each in cursors), sum(each.damaged for each in cursors)

    def troubles(self) -> list[str]:
        """Return why runs are not reported, each reason once."""
        found = (each.trouble for each in self._all() if each.trouble)
        return list(dict.fromkeys(found))

    def _all(self) -> list[Watched]:
        # A list of its own, as other threads ask how it stands.
        return list(self._watched.values())

    # For reconciling ------------------------------------------------------------------------------

    def covers(self, run: str) -> bool:
        """Tell whether a run is one of those to report."""
        return self._only is None or run in self._only

    def feed_of(self, run: str) -> RunFeed | None:
        """Return the feed that holds a run's cursor in memory, if there is one."""
        watched = self._watched.get(run)
        return None if watched is None else watched.feed

    def folder_of(self, run: str) -> str:
        """Return the folder of a run."""
        return os.path.join(self._home, "runs", run)

    def close(self) -> None:
        """Keep all cursors and give all claims back."""
        for each in self._all():
            if each.feed is not None and each.holds_claim():
                each.feed.save(force=True)
            each.rest()

    # One run --------------------------------------------------------------------------------------

    def _discover(self) -> None:
        now = time.monotonic()
        for place, run in enumerate(self._runs.new()):
            # Many old runs are looked at one after the other, not all before a new one.
            watched = Watched(run, self.folder_of(run), now + place * 0.002)
            self._watched[run] = watched
        self._listed = True

    def _look(self, each: Watched) -> bool:
        began = time.monotonic()
        try:
            more = self._fed(each)
        except RunVanished:
            self._drop(each)
            return False
        except RunUnreadable as error:
            each.trouble, each.next = str(error), began + _UNREADABLE_AGAIN
            return False
        except RunRefused as error:
            each.trouble = str(error)
            each.rest()
            each.next = began + _REFUSED_AGAIN
            return False
        each.looked = True
        if each.is_closed and each.feed is None and not each.trouble:
            self._let_go(each)
            return False
        if each.next <= began and not more:
            each.look_again(time.monotonic() - began)
        return more

    def _fed(self, each: Watched) -> bool:
        """Send something of a run; tell whether there is more."""
        if not each.holds_claim():
            each.rest()  # another relay goes on from the cursor in the folder; so do we, after it
        if self._only is not None:  # asked before it is read for the last time
            each.is_closed = self._only.is_closed(each.id)
        feed = each.feed or RunFeed(describe(each.id, each.folder), self._sink, self.store)
        each.unsent = feed.unsent()
        each.ask_driver(now=False)
        if not (each.unsent or feed.cursor.due or each.is_live) or feed.cursor.gone:
            each.rest()
            return False
        if each.claim is None:
            if not self._claimed(each):
                return False
            feed = RunFeed(
                describe(each.id, each.folder), self._sink, self.store
            )  # as the holder before left it
        each.feed, each.trouble = feed, ""
        before, feed.epoch = feed.sent, ""
        try:
            more = feed.step()
        finally:
            self.epoch, self.unsaved = feed.epoch or self.epoch, feed.unsaved
        if feed.sent > before:
            each.changed()
        if feed.heard_driver:
            each.ask_driver(now=True)
        if not more:
            each.unsent = feed.unsent()
        return more

    def _claimed(self, each: Watched) -> bool:
        path = os.path.join(self._root, "claims", each.id, "lease")
        try:
            each.claim = Lease.try_acquire(path, note="reports this run")
            if each.claim is not None:
                return True
            each.trouble = f"{each.id[:8]} is reported by {holder_of(path) or 'another relay'}"
            each.unsent = 0  # it is the other's to send
        except LeaseError as error:  # nobody reports it, and what it has waits
            each.trouble = str(error)
        each.feed = None
        each.next = time.monotonic() + _CLAIMED_AGAIN
        return False

    def _let_go(self, each: Watched) -> None:
        """Forget a run of this process that was sent, and in which nothing more will be written."""
        assert self._only is not None  # noqa: S101 - only of chosen ones is that known
        self._sent_before += each.sent
        self._only.drop(each.id)
        self._watched.pop(each.id, None)
        self._runs.forget(each.id)

    def _drop(self, each: Watched) -> None:
        """Forget a run whose folder was deleted; what was not sent of it is gone with it."""
        if os.path.isdir(each.folder) and each.idle() < _MADE_WITHIN:
            each.next = time.monotonic() + QUICKEST  # it is being made, or being deleted
            return
        each.rest()
        if os.path.isdir(each.folder):
            # Who made it was killed at that, or a purge took the journals.
            each.unsent, each.looked, each.over = 0, True, True
            each.look_again(0.0)
            return
        if self._only is not None:  # the driver's own: it will not come back
            each.unsent, each.looked, each.next = 0, True, float("inf")
            return
        self.store.forget(each.id)
        self._watched.pop(each.id, None)
        self._runs.forget(each.id)


def _next(each: Watched) -> float:
    return each.next
