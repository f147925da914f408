"""How the system's ssh is called: options that hold everywhere, and what its configuration says."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from hpc_flows.transports.ssh_destination import Destination, SshOptions
from hpc_flows.transports.ssh_folder import socket_folder
from hpc_flows.transports.ssh_trouble import NO_SSH, UNREACHABLE, SshError, login_trouble

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Seconds for what ssh does without the network: reading its configuration, asking a master.
_LOCAL_TIMEOUT = 20.0

#: For every connection. What a person's configuration may have for terminals is switched off: a
#: forward of theirs that cannot bind would end ours, and an agent is not lent to login nodes.
#: Only what OpenSSH 8.0 (EL 8) knows: an `IgnoreUnknown` of ours would undo a person's own.
_ALWAYS = (
    "ClearAllForwardings=yes",
    "ExitOnForwardFailure=yes",
    "StreamLocalBindMask=0177",
    "StreamLocalBindUnlink=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "Tunnel=no",
    "EscapeChar=none",
)


#: Where ssh finds a window to ask in. The ssh to a jump host is started by ssh without our
#: options, and before OpenSSH 8.4 it asks there whenever it has no terminal.
_WINDOWS = frozenset({"SSH_ASKPASS", "DISPLAY", "WAYLAND_DISPLAY"})


class Resolved(NamedTuple):
    """What ssh's configuration makes of a destination."""

    host: str
    user: str
    port: str
    strict: str

    def control_path(self) -> str:
        """Return where a login by `hpc-flows connect` keeps its control socket."""
        words = f"{self.host}\0{self.user}\0{self.port}"
        name = hashlib.sha256(words.encode()).hexdigest()[:16]
        return os.path.join(socket_folder(), f"c-{name}")


class OpenSshClient:
    """The `ssh` command, for one destination."""

    def __init__(self, destination: Destination, options: SshOptions | None = None) -> None:
        self.destination = destination
        self.options = options or SshOptions()
        self._resolved: Resolved | None = None

    def resolve(self) -> Resolved:
        """Return what ssh's configuration says of the destination.

        Raises:
            SshError: there is no ssh, or its configuration cannot be read.
        """
        if self._resolved is None:
            self._resolved = self._resolve()
        return self._resolved

    def _resolve(self) -> Resolved:
        done = run_ssh([*self._start(), "-G", *self._where()])
        if done.returncode != 0:
            raise login_trouble(done.stderr, str(self.destination))
        pairs = (line.partition(" ") for line in done.stdout.splitlines())
        found = {name: value for name, _, value in pairs}
        return Resolved(
            found.get("hostname", self.destination.host),
            found.get("user", self.destination.user or ""),
            found.get("port", "22"),
            found.get("stricthostkeychecking", "ask"),
        )

    def logging_in(self, *first: str, interactive: bool = False) -> list[str]:
        """Return the command that logs in, without its last words.

        Args:
            first: options that have to stand before all others.
            interactive: whether a person is there to be asked.
        """
        options = self.options
        settings = [
            *_ALWAYS,
            f"BatchMode={'no' if interactive else 'yes'}",
            f"ConnectTimeout={options.connect_timeout}",
            f"ServerAliveInterval={options.alive_interval}",
            f"ServerAliveCountMax={options.alive_count}",
            *self._checking(),
        ]
        words = [word for setting in settings for word in ("-o", setting)]
        return [*self._start(), *first, *words]

    def connecting(self, control: str, *, interactive: bool = False) -> list[str]:
        """Return the command that logs in and holds a master connection, without its last words.

        Args:
            control: path of its control socket.
            interactive: whether a person is there to be asked.
        """
        command = self.logging_in("-N", "-T", interactive=interactive)
        return [*command, "-o", "ControlMaster=yes", "-o", f"ControlPath={control}"]

    def _checking(self) -> list[str]:
        # Whoever has switched the check off would be sent to whatever machine answers, with the
        # events and the token. All other values of theirs hold.
        strict = self.resolve().strict
        return ["StrictHostKeyChecking=ask"] if strict in {"no", "off", "false"} else []

    def _start(self) -> list[str]:
        return ["ssh", *(["-F", self.options.config] if self.options.config else [])]

    def _where(self) -> list[str]:
        destination = self.destination
        user = ["-l", destination.user] if destination.user else []
        port = ["-p", str(destination.port)] if destination.port else []
        return [*user, *port, "--", destination.host]

    def whereto(self) -> list[str]:
        """Return the last words of a command: user, port and host."""
        return self._where()


def on_master(control: str, *words: str) -> list[str]:
    """Return a command that asks a master and never connects by itself.

    A person's configuration is not read: its forwards would be asked for as well.
    """
    quiet = ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ControlMaster=no"]
    # Without this, ssh would connect anew, silently, where the master refuses a session.
    direct = ["-o", "ProxyCommand=false"]
    return ["ssh", "-F", "/dev/null", "-S", control, *quiet, *direct, *words]


def environment() -> dict[str, str]:
    """Return the environment of ssh: messages in English, and nobody asked through a window."""
    kept = {name: value for name, value in os.environ.items() if name not in _WINDOWS}
    return {**kept, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}


def run_ssh(
    argv: Sequence[str], timeout: float = _LOCAL_TIMEOUT
) -> subprocess.CompletedProcess[str]:
    """Run a command of ssh that asks nobody.

    Raises:
        SshError: there is no ssh, or it gave no answer in time.
    """
    require_ssh()
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment(),
            timeout=timeout,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        msg = f"ssh gave no answer within {timeout:g} s."
        raise SshError(msg, UNREACHABLE) from error


def require_ssh() -> None:
    """Make sure that there is an ssh to run.

    Raises:
        SshError: there is none on PATH.
    """
    if shutil.which("ssh") is None:
        msg = (
            "There is no command `ssh` on PATH. Install OpenSSH's client, or set "
            "`ssh_client = paramiko` (pip install 'hpc-flows[ssh]')."
        )
        raise SshError(msg, NO_SSH)
