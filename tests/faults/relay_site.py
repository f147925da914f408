"""A real server that can be killed and put back, and relays as processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.postgresql import PostgreSQL

ROOT = Path(__file__).resolve().parents[2]

#: Seconds that one command, or a start, may take on a busy machine.
PATIENCE = 120.0


def wait_until(done: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)


class SqliteStore:
    """The server's own file.

    Args:
        home: of the server.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / "server" / "server.db"
        self.url = f"sqlite:///{self.path}"

    def put_back(self, copy: Path) -> None:
        """Replace the database of a server that does not run by a copy."""
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        shutil.copy(copy, self.path)

    def close(self) -> None:
        return


class PostgresStore:
    """A database in a PostgreSQL.

    Args:
        server: has it.
    """

    def __init__(self, server: PostgreSQL) -> None:
        self._server = server
        self.url = server.create()

    def put_back(self, copy: Path) -> None:
        """Replace the database of a server that does not run by a copy."""
        self._server.recreate(self.url)
        words = ["pg_restore", "--no-owner", "--exit-on-error", f"--dbname={self.url}", str(copy)]
        subprocess.run(words, check=True, timeout=PATIENCE)

    def be_there(self, *, for_anybody: bool) -> None:
        """Be away from all who use it, or back again."""
        self._server.let_in(self.url, anybody=for_anybody)

    def close(self) -> None:
        self._server.drop(self.url)


class RealServer:
    """`hpc-flows server` as a process, with a database of its own.

    Args:
        folder: its home.
        store: its database; by default a file.
        on_socket: whether it listens on a Unix socket, and not on a port of 127.0.0.1.
    """

    def __init__(
        self,
        folder: Path,
        store: SqliteStore | PostgresStore | None = None,
        *,
        on_socket: bool = False,
    ) -> None:
        self.home = folder
        folder.mkdir(mode=0o700)
        self.store = store or SqliteStore(folder)
        self.socket = folder / "s.sock" if on_socket else None
        self.port = 0 if on_socket else free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def token(self) -> str:
        return (self.home / "server" / "token").read_text().strip()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}" if self.socket else f"http://127.0.0.1:{self.port}"

    @property
    def target(self) -> str:
        """What `report = "ssh://host/TARGET"` calls it."""
        return str(self.socket).lstrip("/") if self.socket else f"127.0.0.1:{self.port}"

    def start(self) -> None:
        where = ["--socket", str(self.socket)] if self.socket else ["--port", str(self.port)]
        words = ["server", "start", "--database", self.store.url, *where]
        argv = [sys.executable, "-m", "hpc_flows", *words]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, env=self._environment(), stdout=log, stderr=log)
        wait_until(self._answers, PATIENCE, f"the server ({self.home / 'log'})")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def copy(self, path: Path) -> None:
        """Back the database up, as people do, while it is written to."""
        path.unlink(missing_ok=True)
        words = ["server", "database", "backup", "--database", self.store.url, str(path)]
        argv = [sys.executable, "-m", "hpc_flows", *words]
        done = subprocess.run(
            argv, env=self._environment(), capture_output=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr.decode()

    def put_back(self, path: Path) -> None:
        """Replace the database of a server that does not run by a copy."""
        self.store.put_back(path)

    def close(self) -> None:
        self.kill()
        self.store.close()

    def _environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(ROOT), "HPC_FLOWS_HOME": str(self.home)}
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **own}

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.home / "log").read_text()
        family = socket.AF_UNIX if self.socket else socket.AF_INET
        try:
            with socket.socket(family) as found:
                found.settimeout(5)
                found.connect(str(self.socket) if self.socket else ("127.0.0.1", self.port))
                found.sendall(b"GET /api/v1/health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
                return b'"ok"' in found.recv(4096)
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Used(NamedTuple):
    """What a process has used: seconds of CPU, and bytes of memory now and at most."""

    cpu: float
    memory: int
    most: int


class LoginRelayProcess:
    """`hpc-flows relay run` as a process that can be killed.

    Args:
        environment: its environment.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hpc_flows", "relay", "run"],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def used(self) -> Used:
        """Return what it has used so far, as the kernel counts."""
        assert self._process is not None
        folder = Path(f"/proc/{self._process.pid}")
        words = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks = int(words[11]) + int(words[12])
        lines = (line.split() for line in (folder / "status").read_text().splitlines())
        found = {words[0]: words[1] for words in lines if len(words) == 3}
        memory, most = (int(found[name]) * 1024 for name in ("VmRSS:", "VmHWM:"))
        return Used(ticks / os.sysconf("SC_CLK_TCK"), memory, most)
