"""Reverse tunnels of OpenSSH: a Unix socket on a login node that leads to a server near us."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

from hpc_flows.exceptions import TransportError
from hpc_flows.transports.openssh import OpenSshTransport
from hpc_flows.transports.openssh_connection import Connection, open_connection
from hpc_flows.transports.openssh_tunnel import ForwardLink, LocalForward
from hpc_flows.transports.ssh_destination import unix_target
from hpc_flows.transports.ssh_trouble import NO_SERVER, SshError, forward_trouble, trouble

if TYPE_CHECKING:
    from hpc_flows.transports.ssh_destination import Destination, SshOptions, Target

#: Makes the folders and prints them: that of sockets on the node's own disk (XDG_RUNTIME_DIR goes
#: away with the last login), and the home, which login nodes share.
_PREPARE = """\
umask 077
d=/tmp/hf-$(id -u)
mkdir "$d" 2>/dev/null
if [ ! -d "$d" ] || [ -L "$d" ] || [ ! -O "$d" ]; then
    echo "$d belongs to somebody else" >&2
    exit 1
fi
h=${1:-${HPC_FLOWS_HOME:-$HOME/.hpc_flows}}
shift
rm -f -- "$@"
chmod 700 "$d" && mkdir -p "$h/tunnels" && printf '%s\\n' "$d" "$h" "$(uname -n)"
"""

#: Removes a published file that is still ours, and the socket.
_WITHDRAW = """\
if grep -qF -- "$1" "$2" 2>/dev/null; then rm -f -- "$2"; fi
rm -f -- "$1"
"""

#: What ssh says when it cannot reach the server for a connection from the other end.
_NEAR_FAILED = re.compile(r"connect_to .*failed")
_NOTHING_HERE = (
    "The tunnel to {host} stands, but nothing answers at {target} as seen from here. Is the "
    "server running, and is this its address?"
)

_SECONDS = 30.0


class _Far(NamedTuple):
    """The other end: its folder of sockets, the home there, and its name."""

    folder: str
    home: str
    host: str


class ReverseForward(LocalForward):
    """Dials with the system's ssh, for tunnels that begin on the login node."""

    def __init__(
        self, destination: Destination, target: Target, options: SshOptions, home: str | None
    ) -> None:
        super().__init__(destination, target, options)
        self._home = home or ""
        self._left: list[str] = []

    def dial(self) -> ReverseLink:
        """Log in and lay the forward there, and one back to it for the probe.

        Raises:
            TransportError: it cannot be had.
        """
        self.look()
        connection = open_connection(self._destination, self._options)
        transport = OpenSshTransport(self._destination, self._options, connection)
        try:
            far = _prepare(transport, self._home, self._left)
            link = ReverseLink(connection, transport, far, self._target)
        except BaseException:
            transport.close()
            raise
        self._left = [link.socket]
        return link


class ReverseLink(ForwardLink):
    """A forward from a socket on the login node, and one of ours to that socket."""

    def __init__(
        self, connection: Connection, transport: OpenSshTransport, far: _Far, target: Target
    ) -> None:
        self._transport = transport
        self._near = target
        self._published = os.path.join(far.home, "tunnels", f"{far.host}.json")
        self._far = far
        self.socket = f"{far.folder}/r-{secrets.token_hex(6)}"
        self._back = f"{self.socket}:{target}"
        try:
            connection.forward("-R", self._back)
        except SshError as error:
            raise forward_trouble(str(error), connection.host, target) or error from None
        super().__init__(connection, unix_target(self.socket))

    def explain(self) -> SshError | None:
        """Return why a request that was made since `mark` has failed, if ssh says."""
        told = super().explain()
        if _NEAR_FAILED.search(self._connection.said(self._place)):
            return trouble(NO_SERVER, self._connection.host, self._near, message=_NOTHING_HERE)
        return told

    def ready(self) -> None:
        """Publish the socket for relays on that node.

        Raises:
            TransportError: the file cannot be written there.
        """
        about = {
            "path": self.socket,
            "url": f"unix://{self.socket}",
            "host": self._far.host,
            "opened": time.time(),
            "origin": platform.node(),
            "target": str(self._near),
        }
        self._transport.write(self._published, json.dumps(about, indent=1).encode() + b"\n")

    def close(self) -> None:
        """Withdraw what was published, and take both forwards back."""
        if self.ended() is None:
            words = ["/bin/sh", "-c", _WITHDRAW, "sh", self.socket, self._published]
            with contextlib.suppress(TransportError, OSError):  # OSError: as in `Connection.cancel`
                self._transport.run(words, timeout=_SECONDS)
        self._connection.cancel("-R", self._back)
        super().close()


def _prepare(transport: OpenSshTransport, home: str, left: list[str]) -> _Far:
    # sshd leaves the socket of a connection that broke.
    words = ["/bin/sh", "-c", _PREPARE, "sh", home, *left]
    done = transport.run(words, timeout=_SECONDS)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) < len(_Far._fields):
        raise TransportError(
            f"No private folder can be made on {transport.where}: {done.stderr.strip()}"
        )
    return _Far(*lines[-len(_Far._fields) :])
