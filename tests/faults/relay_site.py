"""A real server that can be killed and put back, and a network in between that can be cut."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]


def wait_until(done: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)


class RealServer:
    """`hpc-flows server` as a process, with a database of its own.

    Args:
        folder: its home.
    """

    def __init__(self, folder: Path) -> None:
        self.home = folder
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.database = folder / "server" / "server.db"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (folder / "log").open("ab")

    @property
    def token(self) -> str:
        return (self.home / "server" / "token").read_text().strip()

    def start(self) -> None:
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hpc_flows", "server", "start", "--port", str(self.port)],
            env=environment | {"HPC_FLOWS_HOME": str(self.home)},
            stdout=self._log,
            stderr=self._log,
        )
        wait_until(self._answers, 30, f"the server ({self.home / 'log'})")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def copy(self, path: Path) -> None:
        """Back the database up while it is written to."""
        with sqlite3.connect(self.database) as source, sqlite3.connect(path) as target:
            source.backup(target)
        source.close()
        target.close()

    def put_back(self, path: Path) -> None:
        """Replace the database of a server that does not run by a copy."""
        for suffix in ("-wal", "-shm"):
            Path(f"{self.database}{suffix}").unlink(missing_ok=True)
        shutil.copy(path, self.database)

    def close(self) -> None:
        self.kill()
        self._log.close()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.home / "log").read_text()
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as found:
                found.sendall(b"GET /api/v1/health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
                return b'"ok"' in found.recv(4096)
        except OSError:
            return False


class Network:
    """A TCP port that leads to another one, until it is cut.

    Args:
        port: where it leads.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break all connections, in the middle of what they carry, and take no new ones."""
        self._is_cut = True
        for each in self._open:
            _shut(each)
        self._open.clear()

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self.cut()
        _shut(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._is_cut:
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self._to), 5)
            except OSError:
                _shut(near)
                continue
            self._open += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=_carry, args=pair, daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        _shut(source)
        _shut(target)


def _shut(found: socket.socket) -> None:
    with contextlib.suppress(OSError):
        found.shutdown(socket.SHUT_RDWR)
    found.close()


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
