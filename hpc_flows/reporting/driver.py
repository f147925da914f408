"""Reporting by the flow's own process: one daemon thread for each sink, and a flush at the end.

The flow never waits for a sink and never fails because of one. What could not be sent when it ends
stands in the journal, and the console says how to send it.
"""

from __future__ import annotations

import sys
import time
from threading import Event, Thread
from typing import TYPE_CHECKING

from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.reporting.chosen import Chosen
from hpc_flows.reporting.opening import configured
from hpc_flows.reporting.relay import Relay

if TYPE_CHECKING:
    from hpc_flows.context import RootRun
    from hpc_flows.reporting.opening import Configured

#: Seconds that the end of a flow waits for what is not sent yet; and where the sink did not answer
#: before either.
FLUSH, FLUSH_IN_TROUBLE = 5.0, 1.5
#: Seconds for which events are collected before they are sent.
_COLLECT = 0.1
#: Seconds of silence after which the console tells of it; and how many times as long the next
#: silence has to be, so that a network that comes and goes does not fill the console.
TELL_AFTER, _LONGER = 60.0, 10
#: Seconds of the pause after an error that nobody has foreseen.
_UNFORESEEN_PAUSE = 30.0


class Reporting:
    """Reports runs of this process to all sinks that are configured.

    Args:
        home: of the runs.
        sinks: where to.
    """

    def __init__(self, home: str, sinks: list[Configured]) -> None:
        self._threads = [_SinkThread(home, sink) for sink in sinks]
        self._is_begun = False

    def add(self, root: RootRun) -> None:
        """Report a run."""
        for thread in self._threads:
            thread.runs.add(root.run_id)
        root.journal.subscribe(self._heard)
        if not self._is_begun:
            self._is_begun = True
            for thread in self._threads:
                thread.start()

    def close(self, run: str) -> None:
        """Say that nothing more will be written in a run; it is forgotten once it was sent."""
        for thread in self._threads:
            thread.runs.close(run)
        self._heard("")

    def end(self) -> None:
        """Send what is left, in bounded time, and say what could not be sent."""
        deadline = time.monotonic() + FLUSH
        for thread in self._threads:
            thread.finish()
        try:
            for thread in self._threads:
                thread.join(max(deadline - time.monotonic(), 0.05))
        except KeyboardInterrupt:  # the flow has ended; only the waiting is cut short
            pass
        for thread in self._threads:
            told = thread.unsent()
            if told:
                sys.stderr.write(told + "\n")

    def _heard(self, _kind: str) -> None:
        for thread in self._threads:
            if not thread.news.is_set():
                thread.news.set()


class _SinkThread(Thread):
    """Reports runs to one sink until it is told that they have ended.

    Attributes:
        news: set when something was journalled.
        runs: which are reported.
    """

    def __init__(self, home: str, sink: Configured) -> None:
        super().__init__(name=f"hpc-flows report to {sink.name}", daemon=True)
        self.news = Event()
        self.runs = Chosen()
        self._home = home
        self._sink = sink
        self._ends = Event()
        self._relay: Relay | None = None
        self._problem = ""
        self._is_done = False
        self._silence = _Silence(sink.name)
        self._began = time.monotonic()

    def run(self) -> None:
        """Report; called in the thread."""
        try:
            sink = self._sink.open()
        except HpcFlowsError as error:
            self._problem = str(error)
            return
        except Exception as error:  # noqa: BLE001 - as in a turn: no traceback in a flow's output
            self._problem = f"Reporting had trouble that was not foreseen: {error!r}."
            return
        self._relay = relay = Relay(sink, self._home, "driver", only=self.runs)
        try:
            while not self._ends.is_set():
                self._rest(self._turn(relay))
            self._flush(relay)
        finally:
            relay.close()

    def finish(self) -> None:
        """Have it send what is left and end."""
        self._ends.set()
        self.news.set()

    def unsent(self) -> str:
        """Return what was not sent and how to send it; an empty text when all is sent."""
        if self._is_done:
            return ""
        relay = self._relay
        why = self._problem or ("" if relay is None else why_not(relay)) or "It took too long."
        runs = list(self.runs)
        which = f"run {runs[0][:8]}" if len(runs) == 1 else f"{len(runs)} runs"
        return (
            f"Not everything of {which} has reached {self._sink.name}: {why}\n"
            f"Nothing is lost: it stands in the journal. To send it: hpc-flows relay once"
        )

    def _turn(self, relay: Relay) -> float:
        try:
            pause = relay.turn()
        except Exception as error:  # noqa: BLE001 - whatever goes wrong here, the flow goes on
            self._problem = f"Reporting had trouble that was not foreseen: {error!r}."
            return _UNFORESEEN_PAUSE
        self._silence.tell(relay.trouble)
        return pause

    def _rest(self, pause: float) -> None:
        """Wait until something is due, or was journalled; never less than it takes to collect."""
        relay = self._relay
        if self.news.wait(pause) and relay is not None and not self._ends.wait(_COLLECT):
            self.news.clear()
            relay.hurry()

    def _flush(self, relay: Relay) -> None:
        # A sink that was silent all the while gets one more chance, not all the time there is.
        dialling = bool(relay.sink.way()) and time.monotonic() - self._began < FLUSH
        seconds = FLUSH_IN_TROUBLE if relay.trouble and not dialling else FLUSH
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            relay.try_now()
            pause = self._turn(relay)
            if relay.is_done():
                self._is_done = True
                return
            time.sleep(min(max(pause, 0.02), 0.2))


def why_not(relay: Relay) -> str:
    """Return what keeps a relay from reporting: the sink's trouble, or that of its runs."""
    notes = [] if relay.roster is None else relay.roster.troubles()
    return relay.trouble or "\n".join(notes)


class _Silence:
    """Tells people, rarely, that a sink takes nothing for long, and that it does again.

    Args:
        name: of the sink.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._since: float | None = None
        self._is_told = False
        self._after = TELL_AFTER

    def tell(self, trouble: str) -> None:
        """Take note of the trouble that there is now; an empty text is none."""
        now = time.monotonic()
        if not trouble:
            if self._is_told:
                sys.stderr.write(f"{self._name} takes reports again.\n")
            self._since, self._is_told = None, False
        elif self._since is None:
            self._since = now
        elif not self._is_told and now - self._since >= self._after:
            self._is_told = True
            self._after *= _LONGER
            sys.stderr.write(
                f"Nothing has reached {self._name} for {now - self._since:.0f} s: {trouble}\n"
                f"The flow goes on, and nothing is lost: it stands in the journal. `hpc-flows "
                f"relay status` tells more.\n"
            )


def begin(root: RootRun) -> Reporting | None:
    """Start to report a run; None when nothing is configured after all."""
    try:
        sinks = configured(root.settings)
    except HpcFlowsError as error:
        sys.stderr.write(f"This run is not reported: {error}\n")
        return None
    if not sinks:
        return None
    reporting = Reporting(root.settings.home, sinks)
    reporting.add(root)
    return reporting
