"""Tunnels of OpenSSH: a local Unix socket, forwarded to where the server is."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from hpc_flows.transports.openssh_client import OpenSshClient
from hpc_flows.transports.openssh_connection import Connection, open_connection
from hpc_flows.transports.ssh_folder import fresh_path, has_listener, socket_folder
from hpc_flows.transports.ssh_trouble import SshError, forward_trouble

if TYPE_CHECKING:
    from hpc_flows.transports.ssh_destination import Destination, SshOptions, Target

#: Kinds of files in the folder of sockets that a killed process may have left: forwards of ours,
#: control sockets of own connections and what these said.
_LEFT_BEHIND = ("t-", "m-")

#: Seconds before a socket that nobody answers at counts as left behind: one that is being made
#: is bound first and listens then.
_SETTLES = 60.0

#: Seconds until ssh has written why it refused a request that has failed here already.
_WORDS_WITHIN = 0.2


class LocalForward:
    """Dials with the system's ssh, for tunnels that begin on this machine."""

    def __init__(self, destination: Destination, target: Target, options: SshOptions) -> None:
        self._destination = destination
        self._target = target
        self._options = options
        self._lent = ""
        self._seen: tuple[int, int] | None = None

    def dial(self) -> ForwardLink:
        """Log in, or take a connection that a person lent, and lay the forward.

        Raises:
            TransportError: it cannot be had.
        """
        self.look()
        connection = open_connection(self._destination, self._options)
        try:
            return ForwardLink(connection, self._target)
        except BaseException:
            connection.close()
            raise

    def look(self) -> None:
        """Remember how things stand before a try, and clear away what killed processes left."""
        sweep(socket_folder())
        client = OpenSshClient(self._destination, self._options)
        self._lent = client.resolve().control_path()
        self._seen = _stamp(self._lent)

    def has_news(self) -> bool:
        """Tell whether a person has logged in since the last try."""
        return _stamp(self._lent) not in (None, self._seen)


class ForwardLink:
    """A forward from a Unix socket of this machine, over one connection."""

    def __init__(self, connection: Connection, target: Target) -> None:
        self._connection = connection
        self._target = target
        self._place = connection.place()
        self.path = fresh_path("t")
        self._spec = f"{self.path}:{target}"
        try:
            connection.forward("-L", self._spec)
        except SshError as error:
            told = forward_trouble(str(error), connection.host, target)
            raise told or error from None

    def ended(self) -> SshError | None:
        """Return why the connection is no more; None while it stands."""
        return None if self._connection.alive() else self._connection.trouble()

    def mark(self) -> None:
        """Remember how much ssh has said."""
        self._place = self._connection.place()

    def explain(self) -> SshError | None:
        """Return why a request that was made since `mark` has failed, if ssh says."""
        time.sleep(_WORDS_WITHIN)
        said = self._connection.said(self._place)
        return forward_trouble(said, self._connection.host, self._target)

    def ready(self) -> None:
        """Do nothing: whoever wants it asks for `path`."""

    def close(self) -> None:
        """Take the forward back, and end the connection if it is our own."""
        self._connection.cancel("-L", self._spec)
        self._connection.close()
        with contextlib.suppress(OSError):  # ssh leaves the file
            os.unlink(self.path)


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def sweep(folder: str) -> None:
    """Remove sockets that a killed process left: nobody answers at them."""
    for entry in os.scandir(folder):
        if not entry.name.startswith(_LEFT_BEHIND):
            continue
        with contextlib.suppress(OSError):
            old = time.time() - entry.stat(follow_symlinks=False).st_mtime > _SETTLES
            master = entry.path.removesuffix(".log")
            if old and not has_listener(master):
                os.unlink(entry.path)
