"""The transport over paramiko, through one connection that commands share."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING

import paramiko

from hpc_flows.transports.paramiko.connection import ParamikoConnection
from hpc_flows.transports.ssh_destination import Destination, SshOptions
from hpc_flows.transports.ssh_shell import SshTransport
from hpc_flows.transports.ssh_trouble import TOO_MANY_SESSIONS, SshError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.transports.ssh_shell import RemoteProcess

_CHUNK = 65_536
_REFUSED = "no session"


class ParamikoTransport(SshTransport):
    """Runs commands on a login node over paramiko.

    Args:
        destination: where to log in.
        options: how to connect.
        ask: asks a person, as `ask(question, is_secret)`; None where nobody is there.
    """

    def __init__(
        self,
        destination: Destination,
        options: SshOptions | None = None,
        ask: Callable[[str, bool], str] | None = None,
    ) -> None:
        super().__init__(str(destination))
        self._destination = destination
        self._options = options or SshOptions()
        self._ask = ask
        self._connection: ParamikoConnection | None = None
        self._opening = threading.Lock()

    def close(self) -> None:
        """End the connection."""
        with self._opening:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _start(self, command: str) -> RemoteProcess:
        transport = self._connected().transport
        try:
            channel = transport.open_session(timeout=self._options.connect_timeout)
        except paramiko.ChannelException:
            return _Unstarted()
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise SshError(f"The connection to {self.where} gives no session: {error}") from error
        channel.exec_command(command)
        return _Process(channel)

    def _connected(self) -> ParamikoConnection:
        with self._opening:
            if self._connection is not None and not self._connection.alive():
                self._connection.close()
                self._connection = None
            if self._connection is None:
                self._connection = ParamikoConnection(self._destination, self._options, self._ask)
            return self._connection

    def _unstarted(self, said: str) -> SshError | None:
        if said != _REFUSED:
            return None
        msg = (
            f"{self.where} takes no more sessions over one connection (MaxSessions of its sshd). "
            "Close what else uses it, or try again later."
        )
        return SshError(msg, TOO_MANY_SESSIONS)


class _Unstarted:
    """A command for which the server gave no session."""

    returncode: int | None = None

    def communicate(self, input: bytes | None, timeout: float) -> tuple[bytes, bytes]:  # noqa: A002, ARG002 - Popen's names
        self.returncode = 255  # as ssh's own
        return b"", _REFUSED.encode()

    def kill(self) -> None:
        """Count as ended, though it was never started."""
        self.returncode = -9


class _Process:
    """A command over a channel, as `subprocess.Popen` would have it."""

    returncode: int | None = None

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._out = bytearray()
        self._err = bytearray()
        self._threads: list[threading.Thread] = []

    def communicate(self, input: bytes | None, timeout: float) -> tuple[bytes, bytes]:  # noqa: A002 - Popen's name
        """Send the input and return both outputs; raise `subprocess.TimeoutExpired`."""
        channel = self._channel
        if not self._threads:
            self._begin(lambda: self._send(input or b""))
            self._begin(lambda: _collect(channel.recv, self._out))
            self._begin(lambda: _collect(channel.recv_stderr, self._err))
        deadline = time.monotonic() + timeout
        for thread in self._threads[1:]:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise subprocess.TimeoutExpired("ssh", timeout, bytes(self._out), bytes(self._err))
        # A connection that broke gives -1 here.
        self.returncode = channel.recv_exit_status()
        channel.close()
        return bytes(self._out), bytes(self._err)

    def kill(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _begin(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _send(self, content: bytes) -> None:
        try:
            self._channel.sendall(content)
            self._channel.shutdown_write()
        except OSError:
            return  # the command has ended without reading all of it


def _collect(receive: Callable[[int], bytes], into: bytearray) -> None:
    while chunk := receive(_CHUNK):
        into += chunk
