"""Tunnels of paramiko: a local Unix socket whose connections become channels to the target."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

from hpc_flows.transports.paramiko.connection import ParamikoConnection
from hpc_flows.transports.ssh_folder import fresh_path
from hpc_flows.transports.ssh_trouble import UNREACHABLE, SshError

if TYPE_CHECKING:
    import paramiko

    from hpc_flows.transports.ssh_destination import Destination, SshOptions, Target

#: Connections that may wait to be taken.
_BACKLOG = 64

#: Bytes that are carried at once.
_CHUNK = 65_536


class ParamikoForward:
    """Dials with paramiko, for tunnels that begin on this machine."""

    def __init__(self, destination: Destination, target: Target, options: SshOptions) -> None:
        self._destination = destination
        self._target = target
        self._options = options

    def dial(self) -> ParamikoLink:
        """Log in and listen.

        Raises:
            TransportError: it cannot be had.
        """
        connection = ParamikoConnection(self._destination, self._options)
        try:
            return ParamikoLink(connection, self._target, self._options)
        except BaseException:
            connection.close()
            raise

    def has_news(self) -> bool:
        """Tell that nothing is known before the next try: paramiko takes no login of others."""
        return False


class ParamikoLink:
    """A listening Unix socket, each of whose connections gets a channel to the target."""

    def __init__(self, connection: ParamikoConnection, target: Target, options: SshOptions) -> None:
        self._connection = connection
        self._target = target
        self._options = options
        self._refusal: SshError | None = None
        self._closed = threading.Event()
        self._pulse = _Pulse(connection, options)
        self.path = fresh_path("t")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        os.chmod(self.path, 0o600)
        self._listener.listen(_BACKLOG)
        _in_background(self._accept)

    def ended(self) -> SshError | None:
        """Return why the connection is no more; None while it stands."""
        if not self._connection.alive():
            return self._connection.trouble()
        return self._pulse.missed()

    def mark(self) -> None:
        """Forget what was refused so far."""
        self._refusal = None

    def explain(self) -> SshError | None:
        """Return why a request since `mark` was refused, if one was."""
        return self._refusal

    def ready(self) -> None:
        """Forget what was refused before the server answered."""
        self.mark()

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        if self._closed.is_set():
            return
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._connection.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                local, _ = self._listener.accept()
            except OSError:
                return
            _in_background(self._serve, local)

    def _serve(self, local: socket.socket) -> None:
        with local:
            try:
                channel = self._connection.transport.open_target(
                    self._target, self._connection.host, self._options.connect_timeout
                )
            except SshError as error:
                self._refusal = error
                return
            try:
                with channel:
                    _carry(local, channel)
            except EOFError:  # the connection has gone, and the channel with it
                return


class _Pulse:
    """Asks the other side for signs of life; paramiko sends such questions but awaits nothing."""

    def __init__(self, connection: ParamikoConnection, options: SshOptions) -> None:
        self._connection = connection
        self._interval = options.alive_interval
        self._limit = options.alive_interval * options.alive_count
        self._asked: float | None = None
        _in_background(self._beat)

    def missed(self) -> SshError | None:
        """Return the trouble if a question has been open for too long."""
        asked = self._asked
        if asked is None or time.monotonic() - asked < self._limit:
            return None
        msg = (
            f"{self._connection.host} has given no sign of life for {self._limit} s. Is the "
            "network (or the VPN) up?"
        )
        return SshError(msg, UNREACHABLE)

    def _beat(self) -> None:
        transport = self._connection.transport
        while transport.is_active():
            self._asked = time.monotonic()
            try:  # any answer will do, and a refusal is one
                transport.global_request("keepalive@openssh.com", wait=True)
            except EOFError:  # the connection has gone, which others tell
                return
            self._asked = None
            time.sleep(self._interval)


def _carry(local: socket.socket, channel: paramiko.Channel) -> None:
    """Carry bytes both ways until both sides have ended."""
    upward = _in_background(_upward, local, channel)
    with contextlib.suppress(OSError, EOFError):
        while chunk := channel.recv(_CHUNK):
            local.sendall(chunk)
    with contextlib.suppress(OSError):
        local.shutdown(socket.SHUT_WR)
    if channel.transport is None or not channel.transport.is_active():
        # Nobody takes what the caller still sends, and it might wait for an answer for ever.
        with contextlib.suppress(OSError):
            local.shutdown(socket.SHUT_RDWR)
    upward.join()


def _upward(local: socket.socket, channel: paramiko.Channel) -> None:
    with contextlib.suppress(OSError, EOFError):
        while chunk := local.recv(_CHUNK):
            channel.sendall(chunk)
    with contextlib.suppress(OSError, EOFError):
        channel.shutdown_write()


def _in_background(what: object, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=what, args=arguments, daemon=True)  # type: ignore[arg-type] # any callable
    thread.start()
    return thread
