"""A real sshd for tests: on a high port of 127.0.0.1, with keys and configuration of its own.

It runs as whoever runs the tests (a plain user, or root), lets only that user in, and touches
nobody's ~/.ssh: clients are given `Sshd.config`, an ssh_config that names the host `login.test`,
its key and a known_hosts file of its own.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from slurm_site.processes import Program, descendants, end_all, program_of

from services import absent

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The name by which the clients' ssh_config knows the server.
HOST = "login.test"

_SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"
_STARTS_WITHIN = 15.0

_SERVER = {
    "UsePAM": "no",
    "StrictModes": "no",
    "PasswordAuthentication": "no",
    "KbdInteractiveAuthentication": "no",
    "PermitRootLogin": "prohibit-password",
    "PidFile": "none",
    "PrintMotd": "no",
    "UseDNS": "no",
    "LogLevel": "VERBOSE",
}


def find_sshd() -> str:
    """Return the path of sshd; without one, or without a client, the test is skipped."""
    program = shutil.which("sshd", path=_SBIN)
    if program is None:
        absent("there is no sshd here (openssh-server)")
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        absent("there is no ssh here (openssh-client)")
    return program


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sshd:
    """One sshd, with the files of its clients.

    Attributes:
        folder: of all its files.
        port: on 127.0.0.1; the same over restarts.
        config: ssh_config for clients; `host` is the name in it.
        known_hosts: what the clients' ssh_config names.
        key: private key that the server lets in.
    """

    def __init__(self, folder: Path, host: str = HOST, **options: str) -> None:
        find_sshd()
        self.folder = folder
        self.host = host
        self.options = dict(options)
        self.port = free_port()
        self.user = getpass.getuser()
        self.config = folder / "ssh_config"
        self.known_hosts = folder / "known_hosts"
        self.key = folder / "id_ed25519"
        self._frozen: list[Program] = []
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        _make_key(self.key)
        (folder / "authorized_keys").write_bytes(Path(f"{self.key}.pub").read_bytes())
        self.change_host_key()
        self.trust()
        self.write_client_config()

    def write_client_config(self, extra: str = "", **changes: str) -> None:
        """Write the clients' ssh_config; `extra` follows the host's own lines."""
        self.config.write_text(f"{self.client_lines(**changes)}{extra}")

    def client_lines(self, **changes: str) -> str:
        """Return the lines of an ssh_config for this server, with some values changed."""
        values = {
            "HostName": "127.0.0.1",
            "Port": str(self.port),
            "User": self.user,
            "IdentityFile": str(self.key),
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            **changes,
        }
        lines = "".join(f"  {name} {value}\n" for name, value in values.items())
        return f"Host {self.host}\n{lines}"

    def change_host_key(self) -> None:
        """Give the server a new host key, as after a new installation; takes a restart."""
        key = self.folder / "host_key"
        for old in (key, Path(f"{key}.pub")):
            old.unlink(missing_ok=True)
        _make_key(key)

    def trust(self) -> None:
        """Write the server's host key of now into the clients' known_hosts."""
        kind, text, *_ = (self.folder / "host_key.pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {text}\n")

    def forget(self) -> None:
        """Empty the clients' known_hosts."""
        self.known_hosts.write_text("")

    def start(self) -> None:
        """Start the server and wait until it answers; one that runs is left alone."""
        if self._process is not None:
            return
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        (self.folder / "sshd_config").write_text(self._server_config())
        argv = [find_sshd(), "-D", "-f", str(self.folder / "sshd_config")]
        self._process = subprocess.Popen(
            [*argv, "-E", str(self.folder / "sshd.log")],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._await()

    def stop(self) -> None:
        """Kill the server with all its connections, at once, as a power cut does."""
        if self._process is None:
            return
        self.thaw()
        listener = program_of(self._process.pid)
        end_all([*([listener] if listener else []), *self.sessions()], politely=False)
        self._process.wait(timeout=_STARTS_WITHIN)
        self._process = None

    def restart(self, **options: str) -> None:
        """Stop and start it, with some options changed."""
        self.stop()
        self.options.update(options)
        self.start()

    def drop_connections(self) -> None:
        """Kill the connections, and leave the server listening."""
        self.thaw()
        end_all(self.sessions(), politely=False)

    def sessions(self) -> list[Program]:
        """Return the server's processes for connections, and what runs in them."""
        return descendants(self._process.pid) if self._process else []

    def freeze(self) -> None:
        """Stop all connections so that no byte comes through and nothing is closed."""
        self._frozen = self.sessions()
        for program in self._frozen:
            program.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let frozen connections go on."""
        for program in self._frozen:
            program.send(signal.SIGCONT)
        self._frozen = []

    def log(self) -> str:
        """Return what the server has logged."""
        path = self.folder / "sshd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def logins(self) -> int:
        """Count the logins so far."""
        return self.log().count("Accepted publickey")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _server_config(self) -> str:
        values = {
            "Port": str(self.port),
            "ListenAddress": "127.0.0.1",
            "HostKey": str(self.folder / "host_key"),
            "AuthorizedKeysFile": str(self.folder / "authorized_keys"),
            **_SERVER,
            **self.options,
        }
        return "".join(f"{name} {value}\n" for name, value in values.items())

    def _await(self) -> None:
        deadline = time.monotonic() + _STARTS_WITHIN
        while not _answers(self.port):
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"sshd did not come up:\n{self.log()}")
            time.sleep(0.05)


def running(folder: Path, **options: str) -> Iterator[Sshd]:
    """Give a server that runs, for a fixture's `yield from`."""
    with Sshd(folder, **options) as server:
        yield server


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def _make_key(path: Path) -> None:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
