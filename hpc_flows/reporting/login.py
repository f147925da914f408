"""The relay of a login node: one for each user and home, found and stopped from any login node.

It holds a lease, whose file says on which node it is and which process; whoever wants it to stop
writes that holder's token into a control file, which it looks at. It ends by itself some time after
the last run has ended. It is one process, with one thread for each sink, at the lowest priority.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from threading import Event, Thread
from typing import TYPE_CHECKING

from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.leases import Holder, Lease, holder_of, is_stale
from hpc_flows.reporting.cursors import write_whole
from hpc_flows.reporting.opening import configured
from hpc_flows.reporting.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hpc_flows.reporting.opening import Configured
    from hpc_flows.settings import Settings

#: Seconds after the end of the last run at which the relay ends.
IDLE = 900.0
#: Seconds between two looks at the control file, and after which a silent relay elsewhere is gone.
_LOOK, _TTL = 0.5, 60.0
#: Seconds between two looks at whether jobs without a driver still live.
_JOBS_PERIOD = 300.0
_UNFORESEEN_PAUSE = 30.0
_NICE = 19


class RelayError(HpcFlowsError):
    """A relay cannot be started, found or stopped."""


def lease_path(home: str) -> str:
    """Return the path of the lease of a home's relay."""
    return os.path.join(home, "relay", "login", "lease")


def log_path(home: str) -> str:
    """Return the file with what a relay in the background prints."""
    return os.path.join(home, "relay", "login", "relay.log")


def running(home: str) -> Holder | None:
    """Return who runs the relay of a home, on whatever node; None when nobody does.

    Raises:
        LeaseError: that cannot be found out.
    """
    path = lease_path(home)
    holder = holder_of(path)
    return None if holder is None or is_stale(path) else holder


class SinkThread(Thread):
    """Feeds one sink until it is told to end.

    Args:
        sink: where events go.
        home: the setting `home`.
        only: id of the one run to report; None: all.

    Attributes:
        relay: None until the sink could be made.
        problem: why it could not, or what went wrong unforeseen.
    """

    def __init__(self, sink: Configured, home: str, only: str | None = None) -> None:
        super().__init__(name=f"hpc-flows report to {sink.name}", daemon=True)
        self.relay: Relay | None = None
        self.problem = ""
        self.sink_name = sink.name
        self._sink, self._home, self._only = sink, home, only
        self._ends = Event()

    def run(self) -> None:
        """Report; called in the thread."""
        while self.relay is None and not self._ends.is_set():
            try:
                self.relay = Relay(self._sink.open(), self._home, "login", only=self._only)
                self.problem = ""
            except HpcFlowsError as error:  # such as a key that is none: a person may mend it
                self.problem = str(error)
            except Exception as error:  # noqa: BLE001 - as in a turn; `once` waits for an answer
                self.problem = f"Trouble that was not foreseen: {error!r}."
            if self.relay is None:
                self._ends.wait(_UNFORESEEN_PAUSE)
        if self.relay is None:
            return
        try:
            while not self._ends.is_set():
                self._ends.wait(self._turn(self.relay))
        finally:
            self.relay.close()

    def end(self) -> None:
        """Have it end after the turn that it is in."""
        self._ends.set()

    def is_done(self) -> bool:
        """Tell whether every run was looked at and all is sent."""
        relay = self.relay
        return relay is not None and relay.is_done()

    def _turn(self, relay: Relay) -> float:
        try:
            pause = relay.turn()
        except Exception as error:  # noqa: BLE001 - the other sinks go on, and status tells
            self.problem = f"Trouble that was not foreseen: {error!r}."
            return _UNFORESEEN_PAUSE
        self.problem = ""
        return pause


class LoginRelay:
    """Reports all runs of a home until it is stopped or has nothing to do any more.

    Args:
        settings: those in force.
        say: prints a line.
        idle: seconds after the end of the last run at which it ends.
    """

    def __init__(
        self, settings: Settings, say: Callable[[str], None], *, idle: float = IDLE
    ) -> None:
        self._settings, self._say, self._idle = settings, say, idle
        self._home = settings.home
        self._lost = Event()
        self._signalled = Event()
        self._asked_jobs = float("-inf")
        self._began = time.monotonic()

    def run(self) -> int:
        """Report until the end, and return the exit status.

        Raises:
            RelayError: nothing is configured, or a relay runs already.
        """
        sinks = sinks_of(self._settings)
        path = lease_path(self._home)
        lease = Lease.try_acquire(path, note="relay", ttl=_TTL, on_lost=lambda _: self._lost.set())
        if lease is None:
            raise RelayError(f"A relay of this home runs already: {holder_of(path)}.")
        with lease:
            os.nice(max(_NICE - os.nice(0), 0))
            self._listen()
            threads = [SinkThread(sink, self._home) for sink in sinks]
            names = ", ".join(sink.name for sink in sinks)
            self._say(f"Reporting the runs of {self._home} to {names}.")
            for thread in threads:
                thread.start()
            why = self._wait(threads, lease)
            end_all(threads)
        self._say(f"The relay has ended: {why}.")
        return 0

    def _listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: self._signalled.set())

    def _wait(self, threads: list[SinkThread], lease: Lease) -> str:
        while not self._signalled.wait(_LOOK):
            if self._lost.is_set() or not lease.is_held():
                return "another one has taken over"
            if _is_asked_to_stop(self._home, lease.token):
                return "it was asked to stop"
            if self._has_nothing_to_do(threads):
                return f"no run has been alive for {self._idle:.0f} s"
        return "a signal came"

    def _has_nothing_to_do(self, threads: list[SinkThread]) -> bool:
        now = time.monotonic()
        if now - self._began < self._idle:
            return False
        rosters = [thread.relay.roster for thread in threads if thread.relay is not None]
        for roster in rosters:
            if roster is None or not roster.is_quiet() or roster.idle() < self._idle:
                return False
        if len(rosters) < len(threads) or now - self._asked_jobs < _JOBS_PERIOD:
            return False
        self._asked_jobs = now
        return not any(roster.jobs_may_live() for roster in rosters if roster is not None)


def sinks_of(settings: Settings) -> list[Configured]:
    """Return the sinks that are configured.

    Raises:
        RelayError: there are none.
    """
    if settings.report == "off":
        msg = "Reporting is switched off: `hpc-flows config set report=relay`, or unset it."
        raise RelayError(msg)
    sinks = configured(settings, led=True)
    if not sinks:
        msg = (
            "There is nothing to report to. Name a server (`hpc-flows config set "
            "api_url=https://…`, and api_key), or start one here: `hpc-flows server start "
            "--background`."
        )
        raise RelayError(msg)
    return sinks


def end_all(threads: Iterable[SinkThread], seconds: float = 10.0) -> None:
    """Have threads end, and wait for that in bounded time."""
    found = list(threads)
    for thread in found:
        thread.end()
    deadline = time.monotonic() + seconds
    for thread in found:
        thread.join(max(deadline - time.monotonic(), 0.0))


def start_in_background(settings: Settings, seconds: float = 90.0) -> Holder:
    """Start a relay that outlives this process and its terminal; return who it is.

    Where others start one at the same moment, one comes up, and is returned to all.

    Raises:
        RelayError: it has not come up; its last words are told.
    """
    sinks_of(settings)
    home = settings.home
    path = log_path(home)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    # Appended to: of several that are started at once, each has emptied it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    log = os.open(path, flags, 0o600)
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "hpc_flows", "relay", "run"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=home,
        )
    finally:
        os.close(log)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and child.poll() is None:
        holder = running(home)
        if holder is not None and holder.pid == child.pid:
            child.returncode = 0  # it is left to itself: no warning that it was not waited for
            return holder
        time.sleep(0.05)
    child.kill()  # or it would come up after this was told
    child.wait()
    holder = running(home)
    if holder is not None:  # another one was quicker
        return holder
    raise RelayError(f"The relay has not come up. It said:\n{_last_words(path)}")


def _last_words(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()[-2000:].strip() or "nothing"
    except OSError:
        return "nothing"


def _stop_path(home: str) -> str:
    return os.path.join(home, "relay", "login", "stop")


def _is_asked_to_stop(home: str, token: str) -> bool:
    try:
        with open(_stop_path(home), encoding="ascii", errors="replace") as file:
            return file.read(100).strip() == token
    except OSError:
        return False


def stop(home: str, seconds: float = 30.0) -> Holder | None:
    """Stop the relay of a home, on whatever node it runs; return who it was, None if there is none.

    Raises:
        RelayError: it has not stopped in time.
        LeaseError: it cannot be found out whether there is one.
    """
    holder = running(home)
    if holder is None:
        return None
    try:
        # The holder's token: a request that comes too late stops no relay that was started since.
        write_whole(_stop_path(home), holder.token.encode("ascii"))
    except OSError as error:
        msg = f"The request to stop cannot be written: {_stop_path(home)}: {error.strerror}."
        raise RelayError(msg) from error
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = running(home)
        if now is None or now.token != holder.token:
            return holder
        time.sleep(0.1)
    raise RelayError(
        f"The relay has not stopped within {seconds:.0f} s: {holder}. It stops once it sees the "
        f"request; on {holder.host}, `kill {holder.pid}` ends it."
    )
