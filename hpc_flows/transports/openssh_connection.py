"""Connections of OpenSSH that commands and forwards share: our own, or one that a person lent.

An own connection belongs to this process and ends with it, also when it is killed: its ssh is
watched by a shell that reads from a pipe, and a pipe's end comes with any death. A lent one was
opened by `hpc-flows connect`, is used as long as it lives, and is never ended by us.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from hpc_flows.transports.openssh_client import (
    OpenSshClient,
    environment,
    on_master,
    require_ssh,
    run_ssh,
)
from hpc_flows.transports.ssh_folder import fresh_path
from hpc_flows.transports.ssh_trouble import OTHER, UNREACHABLE, SshError, login_trouble

if TYPE_CHECKING:
    from hpc_flows.transports.ssh_destination import Destination, SshOptions

#: Runs a command until it ends, or until standard input does.
_WATCHED = (
    'exec 3<&0; "$@" 3<&- </dev/null & ssh=$!; '
    "{ cat <&3; kill $ssh; } >/dev/null 2>&1 & eye=$!; "
    "exec 3<&-; wait $ssh; status=$?; kill $eye; exit $status"
)

#: Seconds beyond the time-out of connecting that a login may take: keys, jump hosts, slow sites.
_LOGIN_SECONDS = 30.0
_LEAVES_WITHIN = 5.0
_GLANCE = 0.02

#: Bytes of ssh's messages that are kept.
_LOG_LIMIT = 262_144


class Connection:
    """A master connection of ssh, by its control socket."""

    #: Whether a person opened it with `hpc-flows connect`.
    lent = False

    def __init__(self, client: OpenSshClient, control: str) -> None:
        self.client = client
        self.control = control
        self.host = str(client.destination)
        self._forwards: list[tuple[str, str]] = []

    def alive(self) -> bool:
        """Tell whether it still stands, as far as this machine knows."""
        raise AssertionError(type(self))

    def trouble(self) -> SshError:
        """Return why it has ended."""
        return login_trouble(self.said() or "Connection closed", self.host)

    def said(self, since: int = 0) -> str:
        """Return what ssh has said, from a place in its messages on."""
        try:
            with open(f"{self.control}.log", "rb") as file:
                file.seek(since)
                return file.read(_LOG_LIMIT).decode(errors="replace")
        except OSError:
            return ""

    def place(self) -> int:
        """Return the end of what ssh has said until now, for `said`."""
        path = f"{self.control}.log"
        try:
            size = os.path.getsize(path)
            if size > _LOG_LIMIT:  # ssh appends, so it goes on at the new end
                os.truncate(path, 0)
                return 0
        except OSError:
            return 0
        return size

    def forward(self, direction: str, spec: str) -> None:
        """Add a forward.

        Args:
            direction: `-L` or `-R`.
            spec: as behind that option.

        Raises:
            SshError: it cannot be added, in ssh's words.
        """
        done = run_ssh(self._ask("forward", direction, spec))
        if done.returncode != 0:
            raise SshError(f"{self.said()[-600:]}\n{done.stderr}", OTHER)
        self._forwards.append((direction, spec))

    def cancel(self, direction: str, spec: str) -> None:
        """Take a forward back; one that is gone already is no trouble."""
        if (direction, spec) not in self._forwards:
            return
        self._forwards.remove((direction, spec))
        if self.alive():
            # OSError: no process can be started now. Whoever closes has more to give back.
            with contextlib.suppress(SshError, OSError):
                run_ssh(self._ask("cancel", direction, spec))

    def session(self, command: str) -> list[str]:
        """Return the argument list that runs a command over this connection."""
        host = self.client.destination.host
        return on_master(self.control, "-T", "--", host, command)

    def close(self) -> None:
        """Take back all forwards, and end the connection if it is our own."""
        for direction, spec in list(self._forwards):
            self.cancel(direction, spec)

    def _ask(self, question: str, *words: str) -> list[str]:
        host = self.client.destination.host
        return on_master(self.control, "-O", question, *words, "--", host)


class LentConnection(Connection):
    """One that a person has opened with `hpc-flows connect`."""

    lent = True

    def __init__(self, client: OpenSshClient, control: str, pid: int) -> None:
        super().__init__(client, control)
        self.pid = pid

    def alive(self) -> bool:
        """Tell whether its ssh still runs."""
        try:
            os.kill(self.pid, 0)
        except OSError:  # gone, or its number is somebody else's now
            return False
        return os.path.exists(self.control)


class OwnConnection(Connection):
    """One that this process has opened, and that ends with this process."""

    def __init__(self, client: OpenSshClient) -> None:
        super().__init__(client, fresh_path("m"))
        require_ssh()
        words = ["-o", "LogLevel=INFO", "-o", "ControlPersist=no"]
        argv = [*client.connecting(self.control), *words, *client.whereto()]
        with open(f"{self.control}.log", "ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _WATCHED, "hpc-flows-ssh", *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment(),
                # No terminal to ask on, and no Ctrl-C of the driver's: it has to report its end.
                start_new_session=True,
            )

    def await_login(self) -> None:
        """Wait until it is logged in.

        Raises:
            SshError: it cannot be; why, and what to do.
        """
        deadline = time.monotonic() + self.client.options.connect_timeout + _LOGIN_SECONDS
        # ssh makes its control socket when it is logged in, and not before.
        while not os.path.exists(self.control):
            if not self.alive():
                raise self.trouble()
            if time.monotonic() > deadline:
                raise SshError(f"{self.host} did not let us in in time.", UNREACHABLE)
            time.sleep(_GLANCE)

    def alive(self) -> bool:
        """Tell whether its ssh still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it, and take its files away."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_LEAVES_WITHIN)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for path in (self.control, f"{self.control}.log"):
            with contextlib.suppress(OSError):
                os.unlink(path)


def find_lent(client: OpenSshClient) -> LentConnection | None:
    """Return the connection that `hpc-flows connect` keeps, if it lives."""
    control = client.resolve().control_path()
    pid = master_pid(control, client.destination.host)
    return None if pid is None else LentConnection(client, control, pid)


def master_pid(control: str, host: str) -> int | None:
    """Return the process that holds a control socket; None when there is none."""
    if not os.path.exists(control):
        return None
    try:
        done = run_ssh(on_master(control, "-O", "check", "--", host))
    except SshError:  # stopped or stuck: as good as none
        return None
    found = re.search(r"\(pid=(\d+)\)", done.stderr + done.stdout)
    return int(found[1]) if done.returncode == 0 and found else None


def open_connection(destination: Destination, options: SshOptions) -> Connection:
    """Return a connection that is logged in: a lent one if there is one, else our own.

    Raises:
        SshError: there is none to be had without a person; why, and what to do.
    """
    client = OpenSshClient(destination, options)
    lent = find_lent(client)
    if lent is not None:
        return lent
    own = OwnConnection(client)
    try:
        own.await_login()
    except BaseException:
        own.close()
        raise
    return own
