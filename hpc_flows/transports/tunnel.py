"""Tunnels: a Unix socket here that leads to a server somewhere behind ssh, and stays up.

`open_tunnel` returns at once; a thread of the tunnel's own logs in, lays the forward and asks the
caller's probe whether the server answers through it. Only then is the tunnel up. After a drop it
dials again, each time under a fresh name, with pauses that grow; what only a person can mend (a
login, a host key) is tried rarely, and at once when somebody has run `hpc-flows connect`.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from hpc_flows.exceptions import SettingsError, TransportError
from hpc_flows.transports.ssh_destination import Destination, SshOptions, Target
from hpc_flows.transports.ssh_trouble import FOR_PEOPLE, NO_SERVER, OTHER, SshError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

UP, DIALLING, DOWN, CLOSED = "up", "dialling", "down", "closed"

_CLOSES_WITHIN = 20.0


class Pace(NamedTuple):
    """How often a tunnel does what it does, in seconds.

    Attributes:
        first: pause after the first failure; doubled with each further one.
        longest: longest pause.
        first_for_people: first pause where only a person can mend it.
        glance: between looks at whether ssh still runs.
        probe: between probes while it is up.
    """

    first: float = 1.0
    longest: float = 300.0
    first_for_people: float = 30.0
    glance: float = 0.5
    probe: float = 20.0


class TunnelStatus(NamedTuple):
    """Where a tunnel stands.

    Attributes:
        destination: where ssh logs in.
        target: what is wanted there.
        client: `openssh` or `paramiko`.
        state: `up`, `dialling` (for the first time, or again), `down` (in a pause) or `closed`.
        since: when this state began, in seconds since 1970.
        drops: how often it was up and is no more.
        trouble: kind of the last trouble (see `ssh_trouble`); None when there was none.
        error: the last trouble in words, with what to do.
        next_try: when it is dialled again, in seconds since 1970; None when that is not awaited.
    """

    destination: str
    target: str
    client: str
    state: str
    since: float
    drops: int
    trouble: str | None
    error: str | None
    next_try: float | None

    def line(self) -> str:
        """Return it as one line for people."""
        what = f"ssh tunnel ({self.client}) to {self.target} at {self.destination}: {self.state}"
        drops = f", dropped {self.drops} times" if self.drops else ""
        age = f" for {max(0, round(time.time() - self.since))} s"
        if self.state == UP or self.error is None:
            return f"{what}{age}{drops}"
        wait = ""
        if self.next_try is not None:
            wait = f" Next try in {max(0, round(self.next_try - time.time()))} s."
        return f"{what}{age}{drops}; {self.trouble}: {self.error}{wait}"


class Link(Protocol):
    """One dialled connection with its forward.

    Attributes:
        path: of the Unix socket on this machine.
    """

    path: str

    def ended(self) -> SshError | None:
        """Return why the connection is no more; None while it stands."""

    def mark(self) -> None:
        """Remember this moment, for `explain`."""

    def explain(self) -> SshError | None:
        """Return why a request that was made since `mark` has failed, if the other side says."""

    def ready(self) -> None:
        """Take note that the server answers through it, for the first time.

        Raises:
            TransportError: what has to be done then cannot be.
        """

    def close(self) -> None:
        """Give everything back; a second call does nothing."""


class Dialler(Protocol):
    """A way to make links."""

    def dial(self) -> Link:
        """Log in and lay the forward.

        Raises:
            TransportError: it cannot be had.
        """

    def has_news(self) -> bool:
        """Tell whether something has changed since the last `dial`, such as a person's login."""


class Tunnel:
    """A tunnel that a thread keeps up; use as a context manager, or close it."""

    def __init__(
        self, dialler: Dialler, probe: Callable[[str], object], first: TunnelStatus, pace: Pace
    ) -> None:
        self._dialler = dialler
        self._probe = probe
        self._pace = pace
        self._status = first
        self._link: Link | None = None
        self._wake = threading.Event()
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"tunnel {first.destination}")
        self._thread.daemon = True
        self._thread.start()

    def path(self) -> str:
        """Return the Unix socket that leads to the server now; ask again for each connection.

        Raises:
            SshError: the tunnel is not up; why, and what to do.
        """
        link, status = self._link, self._status
        if status.state == UP and link is not None:
            return link.path
        raise SshError(status.error or status.line(), status.trouble or OTHER)

    def status(self) -> TunnelStatus:
        """Return where it stands."""
        return self._status

    def suspect(self) -> None:
        """Say that a request over it failed: it is probed now, and dialled again if need be."""
        self._wake.set()

    def wait_until_up(self, seconds: float) -> bool:
        """Wait until it is up; tell whether it is."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._status.state not in (UP, CLOSED):
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
        return self._status.state == UP

    def close(self) -> None:
        """End it: no process and no socket of it stays; a second call does nothing."""
        self._closing = True
        self._wake.set()
        self._thread.join(_CLOSES_WITHIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        failures = 0
        try:
            while not self._closing:
                trouble, was_up = self._one_link()
                failures = 1 if was_up else failures + 1
                self._pause(trouble, failures)
        finally:
            self._become(CLOSED)

    def _one_link(self) -> tuple[TransportError, bool]:
        """Dial, and keep the link as long as it is good; return why it is not, and if it was."""
        self._become(DIALLING)
        try:
            link = self._dialler.dial()
        except Exception as error:  # noqa: BLE001 - no process, no room: the next try may have it
            return _in_words(error), False
        drops = self._status.drops
        try:
            trouble = self._keep(link)
        except Exception as error:  # noqa: BLE001 - as above
            trouble = _in_words(error)
            self._fallen(trouble)
        self._link = None
        # What cannot be given back ends with this process, or is swept away later.
        with contextlib.suppress(Exception):
            link.close()
        return trouble, self._status.drops > drops

    def _keep(self, link: Link) -> TransportError:
        """Probe a link until its connection is gone, or nothing comes through it."""
        failures = 0
        while not self._closing:
            trouble = self._ask(link)
            if trouble is None:
                failures = 0
                trouble = self._up(link)
            if trouble is None:
                self._watch(link)
                trouble = link.ended()
                if trouble is None:
                    continue
            self._fallen(trouble)
            if link.ended() is not None or not isinstance(trouble, SshError):
                return trouble
            # The connection is good, and says that the server is not: only the server is asked
            # again, so that its restart costs no login.
            failures += 1
            self._pause(trouble, failures, link)
        return TransportError("The tunnel was closed.")

    def _ask(self, link: Link) -> TransportError | None:
        trouble = self._ask_once(link)
        # One answer may be lost to a busy server; a tunnel that was up is not dropped for that.
        again = trouble is not None and self._link is not None
        return self._ask_once(link) if again and link.ended() is None else trouble

    def _ask_once(self, link: Link) -> TransportError | None:
        link.mark()
        try:
            self._probe(link.path)
        except Exception as error:  # noqa: BLE001 - a probe is the caller's, and any error means no
            told = f"The server at {self._status.target} gives no answer: {error}"
            return link.ended() or link.explain() or TransportError(told)
        return None

    def _watch(self, link: Link) -> None:
        """Look after a link that is up, until it is to be probed."""
        until = time.monotonic() + self._pace.probe
        while time.monotonic() < until and link.ended() is None:
            if self._wake.wait(self._pace.glance):
                self._wake.clear()
                return

    def _up(self, link: Link) -> TransportError | None:
        if self._link is None:
            try:
                link.ready()
            except TransportError as error:
                return error
            self._link = link
            self._become(UP)
        return None

    def _fallen(self, trouble: TransportError) -> None:
        self._told(trouble)
        if self._link is not None:
            self._link = None
            self._become(DOWN)
            self._status = self._status._replace(drops=self._status.drops + 1)

    def _told(self, trouble: TransportError) -> None:
        kind = trouble.kind if isinstance(trouble, SshError) else NO_SERVER
        self._status = self._status._replace(trouble=kind, error=str(trouble))

    def _pause(self, trouble: TransportError, failures: int, link: Link | None = None) -> None:
        self._told(trouble)
        seconds = self._seconds(failures)
        if not self._closing:
            self._become(DOWN, next_try=time.time() + seconds)
        until = time.monotonic() + seconds
        while not self._closing and (left := until - time.monotonic()) > 0:
            self._wake.wait(min(left, self._pace.glance))
            self._wake.clear()
            gone = link is not None and link.ended() is not None
            if gone or self._dialler.has_news():
                return

    def _seconds(self, failures: int) -> float:
        pace = self._pace
        for_people = self._status.trouble in FOR_PEOPLE
        first = pace.first_for_people if for_people else pace.first
        whole = min(pace.longest, first * 2.0 ** min(failures - 1, 20))
        # Many drivers that lost the same login node shall not come back in the same second.
        return whole * random.uniform(0.7, 1.0)  # noqa: S311 - no secret hangs on it

    def _become(self, state: str, next_try: float | None = None) -> None:
        with self._changed:
            since = self._status.since if self._status.state == state else time.time()
            changed = self._status._replace(state=state, since=since, next_try=next_try)
            self._status = changed._replace(trouble=None, error=None) if state == UP else changed
            self._changed.notify_all()


def _in_words(error: Exception) -> TransportError:
    if isinstance(error, TransportError):
        return error
    return SshError(f"The tunnel cannot be kept up from this machine: {error!r}.", OTHER)


def open_tunnel(
    destination: Destination,
    target: Target,
    *,
    probe: Callable[[str], object],
    client: str = "openssh",
    options: SshOptions | None = None,
    pace: Pace | None = None,
) -> Tunnel:
    """Start a tunnel from this machine to a server that a login node can reach.

    Returns at once, and raises nothing for the network: see `Tunnel.status` and `Tunnel.path`.

    Args:
        destination: where to log in.
        target: the server, as seen from there.
        probe: called with the path of the local Unix socket; returns if the server answers
            through it and is the right one, raises otherwise. It keeps a time limit of about 10 s.
        client: `openssh` or `paramiko`.
        options: how to connect.
        pace: how often things are done.

    Raises:
        SettingsError: there is no such client, or it is paramiko and not installed.
    """
    dialler = _dialler(client, destination, target, options or SshOptions())
    return _start(dialler, (str(destination), str(target), client), probe, pace)


def open_reverse_tunnel(
    destination: Destination,
    target: Target,
    *,
    probe: Callable[[str], object],
    home: str | None = None,
    options: SshOptions | None = None,
    pace: Pace | None = None,
) -> Tunnel:
    """Start a tunnel from a login node to a server that this machine can reach.

    For a server on a laptop or campus that can dial in to the login node, where the login node
    cannot dial out. It ends there in a Unix socket in a folder of mode 0700, whose name is in
    `<home>/tunnels/<host>.json`; `tunnel_published.published` reads it there. The probe goes all
    the way: to the login node, through its socket and back to the server. Takes OpenSSH.

    Args:
        destination: the login node.
        target: the server, as seen from this machine.
        probe: as for `open_tunnel`.
        home: the home folder of hpc_flows there; None takes what HPC_FLOWS_HOME says there, else
            `~/.hpc_flows`.
        options: how to connect.
        pace: how often things are done.
    """
    from hpc_flows.transports.openssh_reverse import ReverseForward  # noqa: PLC0415 - few need it

    dialler = ReverseForward(destination, target, options or SshOptions(), home)
    return _start(dialler, (str(destination), str(target), "openssh, reverse"), probe, pace)


def _start(
    dialler: Dialler,
    words: tuple[str, str, str],
    probe: Callable[[str], object],
    pace: Pace | None,
) -> Tunnel:
    first = TunnelStatus(*words, DIALLING, time.time(), 0, None, None, None)
    return Tunnel(dialler, probe, first, pace or Pace())


def _dialler(client: str, destination: Destination, target: Target, options: SshOptions) -> Dialler:
    # Loaded only when chosen: most drivers need neither, and paramiko is not always installed.
    if client == "openssh":
        from hpc_flows.transports.openssh_tunnel import LocalForward  # noqa: PLC0415

        return LocalForward(destination, target, options)
    if client == "paramiko":
        try:
            from hpc_flows.transports.paramiko.tunnel import ParamikoForward  # noqa: PLC0415
        except ImportError as error:
            msg = (
                "ssh_client is paramiko, which is not installed: pip install 'hpc-flows[ssh]', or "
                "`hpc-flows config set ssh_client=openssh`."
            )
            raise SettingsError(msg) from error
        return ParamikoForward(destination, target, options)
    raise SettingsError(f"ssh_client must be openssh or paramiko, not {client!r}.")
