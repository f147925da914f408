"""The transport over the system's ssh, through one connection that commands share."""

from __future__ import annotations

import shlex
import subprocess
import threading
from typing import TYPE_CHECKING

from hpc_flows.transports.openssh_client import OpenSshClient, environment, require_ssh
from hpc_flows.transports.openssh_connection import Connection, find_lent, open_connection
from hpc_flows.transports.ssh_destination import Destination, SshOptions
from hpc_flows.transports.ssh_shell import SshTransport
from hpc_flows.transports.ssh_trouble import TOO_MANY_SESSIONS, UNREACHABLE, SshError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Words of ssh by which it is known that the master took no session, so that nothing was run.
_REFUSED = "Session open refused by peer"
_NO_MASTER = ("Control socket connect", "mux_client_", "kex_exchange_identification")


_LEAVES_WITHIN = 5.0


class OpenSshTransport(SshTransport):
    """Runs commands on a login node, through a connection that `hpc-flows connect` keeps or ours.

    Args:
        destination: where to log in.
        options: how to connect.
        connection: one that is used as long as it stands, and closed with the transport.
    """

    def __init__(
        self,
        destination: Destination,
        options: SshOptions | None = None,
        connection: Connection | None = None,
    ) -> None:
        super().__init__(str(destination))
        self._destination = destination
        self._options = options or SshOptions()
        self._connection = connection
        self._opening = threading.Lock()

    def close(self) -> None:
        """End our own connection; a lent one stays."""
        with self._opening:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _start(self, command: str) -> _Session:
        argv = self._connected().session(command)
        return _Session(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )

    def _connected(self) -> Connection:
        with self._opening:
            if self._connection is not None and not self._connection.alive():
                self._connection.close()
                self._connection = None
            if self._connection is None:
                self._connection = open_connection(self._destination, self._options)
            return self._connection

    def _unstarted(self, said: str) -> SshError | None:
        if _REFUSED in said:
            msg = (
                f"{self.where} takes no more sessions over one connection (MaxSessions of its "
                "sshd). Close what else uses it, or try again later."
            )
            return SshError(msg, TOO_MANY_SESSIONS)
        if any(words in said for words in _NO_MASTER):
            return SshError(f"The connection to {self.where} has just ended.", UNREACHABLE)
        return None


class _Session(subprocess.Popen[bytes]):
    """One ssh that runs a command over a master."""

    def kill(self) -> None:
        """End it, and give its pipes back."""
        super().kill()
        try:
            self.communicate(timeout=_LEAVES_WITHIN)
        except subprocess.TimeoutExpired:
            for pipe in (self.stdin, self.stdout, self.stderr):
                if pipe is not None:
                    pipe.close()


def ssh_command(
    destination: Destination, argv: Sequence[str], options: SshOptions | None = None
) -> list[str]:
    """Return the argument list that runs a command there, its streams being those of ssh.

    For programs that talk over standard input and output for long. It goes through the connection
    that `hpc-flows connect` keeps, where there is one; else it logs in by itself, asking nobody.

    Args:
        destination: where to log in.
        argv: the command and its arguments, run by the login shell with each word quoted; `~/` at
            the beginning of one is the home folder there.
        options: how to connect.

    Raises:
        SshError: there is no ssh, or its configuration cannot be read.
    """
    require_ssh()
    client = OpenSshClient(destination, options or SshOptions())
    command = " ".join(map(_quoted, argv))
    lent = find_lent(client)
    if lent is not None:
        return lent.session(command)
    words = ["-o", "LogLevel=ERROR", "-o", "ControlMaster=no", "-o", "ControlPath=none"]
    return [*client.logging_in(), *words, "-T", *client.whereto(), command]


def _quoted(word: str) -> str:
    return f"~/{shlex.quote(word[2:])}" if word.startswith("~/") else shlex.quote(word)
