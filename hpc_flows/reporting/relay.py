"""The relay: brings the events of runs to one sink, and what people want back to their drivers.

One thread calls `turn` again and again. A turn sends a batch of every run that has something new,
beats, and says when the next one is due. Nothing of what is sent stays in memory: a batch that did
not arrive is read from the journal once more.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any

from hpc_flows._version import __version__
from hpc_flows.client.pacing import Backoff
from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.reporting.chosen import Chosen, chosen
from hpc_flows.reporting.orders import deliver
from hpc_flows.reporting.reconciling import reconcile
from hpc_flows.reporting.roster import Roster
from hpc_flows.reporting.sink import Pulse, SinkRefusal, SinkTrouble
from hpc_flows.reporting.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpc_flows.reporting.cursors import CursorStore
    from hpc_flows.reporting.sink import Order, Sink
    from hpc_flows.reporting.survey import Surveys

#: Seconds between two heartbeats while a run lives, and else.
BEAT_LIVE, BEAT_IDLE = 1.0, 15.0
#: Seconds of the longest pause after trouble, and of that after a refusal.
LONGEST_PAUSE, REFUSAL_PAUSE = 60.0, 60.0
#: Seconds between two looks for new runs.
NEW_RUNS = 0.4
#: Seconds between two words about how it stands; and in trouble, when journals are measured for it.
_TELL, _TELL_IN_TROUBLE = 2.0, 15.0
#: The most seconds that measuring takes.
_MEASURE = 0.5

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


class Relay:
    """Reports the runs of a home, or one of them, to one sink.

    Args:
        sink: where events go.
        home: the setting `home`.
        mode: `driver`, `login` or `stdio`.
        only: id of the one run to report, or several; None: all.
        store: where cursors are kept; in the home unless said otherwise.

    Attributes:
        sink, mode: as given.
        id: of this relay, in heartbeats and in `hpc-flows relay status`.
        trouble: what keeps it from reporting now, or an empty text.
        roster: its runs; None before the sink was reached for the first time.
    """

    def __init__(
        self,
        sink: Sink,
        home: str,
        mode: str,
        *,
        only: str | Chosen | None = None,
        store: CursorStore | None = None,
    ) -> None:
        self.sink, self.mode = sink, mode
        host = _UNSAFE.sub("_", os.uname().nodename)
        self.id = f"{mode}-{host}-{os.getpid()}-{os.urandom(3).hex()}"
        self.trouble = ""
        self.roster: Roster | None = None
        self._home, self._only, self._store = home, chosen(only), store
        self._backoff = Backoff(longest=LONGEST_PAUSE)
        self._opened = False
        self._epoch = ""
        self._next_try = self._next_word = 0.0
        self._last_beat = float("-inf")
        self._heard: float | None = None
        self._surveys: Surveys | None = None
        self._standing = Standing(home, self.id)

    def turn(self) -> float:
        """Do what is due, and return the seconds until something is."""
        now = time.monotonic()
        if now >= self._next_try:
            self._guarded_turn()
        if now >= self._next_word:
            self.tell()
        return self._pause()

    def hurry(self) -> None:
        """Look at the runs, and try the sink again, at the next turn."""
        if self.roster is not None:
            self.roster.hurry()

    def try_now(self) -> None:
        """Cut a pause after trouble short, as for the last attempt before the end."""
        self._next_try = 0.0
        if self.roster is not None:
            self.roster.finish()

    def unsent(self) -> int:
        """Return how many bytes of journals are not sent, as far as is known."""
        return 0 if self.roster is None else self.roster.unsent()

    def is_done(self) -> bool:
        """Tell whether everything that there was at the last look is sent."""
        roster = self.roster
        if roster is None or self.trouble or not roster.has_looked():
            return False
        return not roster.unsent() + roster.files_due()

    def tell(self) -> None:
        """Write down how it stands."""
        now = time.monotonic()
        self._next_word = now + (_TELL_IN_TROUBLE if self.trouble else _TELL)
        if self.trouble and self.roster is not None:
            self.roster.measure(until=now + _MEASURE)
        self._standing.write(self.facts())

    def facts(self) -> dict[str, Any]:
        """Return how it stands, JSON-safe."""
        roster = self.roster
        refused, damaged = (0, 0) if roster is None else roster.lost_lines()
        return {
            "relay": self.id,
            "mode": self.mode,
            "sink": self.sink.name,
            "way": self.sink.way(),
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "state": self._state(),
            "trouble": self.trouble,
            "next_try": max(0.0, self._next_try - time.monotonic()),
            "heard": self._heard,
            "live": [] if roster is None else roster.live(),
            "sent": 0 if roster is None else roster.sent(),
            "unsent": None if roster is None else roster.unsent(),
            "refused": refused,
            "damaged": damaged,
            "unsaved": "" if roster is None else roster.unsaved,
            "notes": [] if roster is None else roster.troubles(),
        }

    def close(self) -> None:
        """Keep cursors, give claims back, and leave."""
        if self.roster is not None:
            self.roster.close()
        self.sink.close()
        self._standing.remove()

    # A turn ---------------------------------------------------------------------------------------

    def _guarded_turn(self) -> None:
        try:
            self._work()
        except SinkRefusal as refusal:
            self._wait(str(refusal), REFUSAL_PAUSE)
        except SinkTrouble as trouble:
            self._wait(str(trouble), self._backoff.failed(trouble.retry_after))
        except (HpcFlowsError, OSError) as error:
            self._wait(str(error), self._backoff.failed())
        else:
            self._backoff.succeeded()
            self.trouble, self._heard = "", time.time()

    def _work(self) -> None:
        roster = self._connected()
        self._beat(roster)
        roster.round(until=time.monotonic() + BEAT_LIVE)
        if roster.epoch and roster.epoch != self._epoch:
            self._opened = False  # it was started anew: compare before the next batch

    def _connected(self) -> Roster:
        if self._opened and self.roster is not None:
            return self.roster
        if not self.sink.state_folder:
            place = self.sink.store or _UNSAFE.sub("_", self.sink.name)[-60:]
            self.sink.state_folder = os.path.join(self._home, "relay", place, "state")
        epoch = self.sink.open()
        if self.roster is None or self.roster.place != self.sink.store:
            if self.roster is not None:
                self.roster.close()
            self.roster = Roster(self._home, self.sink, self._only, self._store)
        if self.sink.takes_pulses and epoch:
            reconcile(self.sink, self.roster.store, self.roster, epoch)
        self._epoch = self.roster.epoch = epoch
        self._opened = True
        return self.roster

    def _beat(self, roster: Roster) -> None:
        now = time.monotonic()
        if not self.sink.takes_pulses or now < self._next_beat():
            return
        self._last_beat = now
        live = roster.live()
        answer = self.sink.beat(Pulse(self.id, self._pulse(live, roster)))
        if answer.epoch and answer.epoch != self._epoch:
            roster.epoch = answer.epoch
        self._carry_out(answer.orders)

    def _next_beat(self) -> float:
        live = self.roster is not None and self.roster.live()
        return self._last_beat + (BEAT_LIVE if live else BEAT_IDLE)

    def _pulse(self, live: Sequence[str], roster: Roster) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "version": __version__,
            "clock": time.time(),
            "runs": list(live),
            "clusters": self._survey(roster) if live else {},
        }

    def _survey(self, roster: Roster) -> dict[str, Any]:
        clusters = sorted(roster.clusters())
        if not clusters:
            return {}
        if self._surveys is None:
            from hpc_flows.reporting.survey import Surveys  # noqa: PLC0415 - loads the schedulers

            self._surveys = Surveys(self._home)
        return self._surveys.of(clusters)

    def _carry_out(self, orders: Sequence[Order]) -> None:
        for order in orders:
            if self._only is not None and order.run not in self._only:
                continue
            status, message = deliver(order, self._home)
            self.sink.carried_out(order, status, message)

    def _wait(self, trouble: str, pause: float) -> None:
        self.trouble = trouble
        self._opened = False
        self._next_try = time.monotonic() + pause
        self.tell()

    def _pause(self) -> float:
        """Return the seconds until the next turn has something to do."""
        now = time.monotonic()
        if self._next_try > now or self.roster is None:
            return max(min(self._next_try, self._next_word) - now, 0.0)
        due = [self.roster.next_look(), self._next_word]
        due += [self._next_beat()] if self.sink.takes_pulses else []
        due += [now + NEW_RUNS] if self._only is None else []
        return max(min(due) - now, 0.0)

    def _state(self) -> str:
        if self.trouble:
            return "waiting"
        return "reporting" if self.roster is not None else "beginning"
