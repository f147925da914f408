"""A real Prefect 3 server, from the environment that the bench makes for its peers."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from base64 import b64encode
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from services import absent
from services.children import (
    await_answer,
    finish,
    free_port,
    small_environment,
    spawn,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

#: Where the bench keeps its environments; read at once, since tests run without HPC_FLOWS_*.
_BENCH_HOME = os.environ.get("HPC_FLOWS_BENCH_HOME")

#: Seconds until it answers: it loads for seconds, and makes its tables the first time.
_STARTS_WITHIN = 120.0


class PrefectServer:
    """A Prefect server on loopback, with a home of its own, which goes away with it.

    Attributes:
        url: what users call PREFECT_API_URL.
        folder: has its home and `server.log`.
    """

    def __init__(self, python: Path, *, auth: str | None = None, **settings: str) -> None:
        """Prepare a server; `start` starts it.

        Args:
            python: of the environment that it is installed in.
            auth: `user:password` that it asks for.
            settings: more of Prefect's own, by the names of their environment variables.
        """
        self._python = python
        self._auth = auth
        self._settings = settings
        self._port = free_port()
        self._child: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}/api"
        self.folder = Path(tempfile.mkdtemp(prefix="prefect-", dir="/tmp"))

    def start(self) -> Self:
        """Start it, with what it knew before, at the same address as before."""
        log = self.folder / "server.log"
        words = f"server start --host 127.0.0.1 --port {self._port} --no-ui".split()
        argv = [str(self._python.with_name("prefect")), *words]
        env = small_environment(self.folder) | self._environment()
        self._child = spawn(argv, cwd=self.folder, log=log, env=env)
        await_answer(self._child, self._answers, log, _STARTS_WITHIN)
        return self

    def stop(self) -> None:
        """End it; it may be started again."""
        if self._child is not None:
            finish(self._child)
            self._child = None

    def remove(self) -> None:
        """End it and forget what it knew."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def get(self, path: str) -> Any:
        """Ask the server for something, such as `/flow_runs/ID`."""
        return self._call("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        """Send the server something, such as a filter to `/task_runs/filter`."""
        return self._call("POST", path, body)

    def log(self) -> str:
        """Return what the server wrote, such as the tracebacks of a recorder that choked."""
        return (self.folder / "server.log").read_text(errors="replace")

    def _environment(self) -> dict[str, str]:
        auth = {"PREFECT_SERVER_API_AUTH_STRING": self._auth} if self._auth else {}
        return {
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            **auth,
            **self._settings,
        }

    def _answers(self) -> bool:
        try:
            return bool(self.get("/health"))
        except OSError:
            return False

    def _call(self, method: str, path: str, body: object) -> Any:
        request = urllib.request.Request(self.url + path, method=method)  # noqa: S310 - our own URL
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if self._auth:
            request.add_header("Authorization", f"Basic {b64encode(self._auth.encode()).decode()}")
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
            return json.loads(answer.read() or b"null")


def prefect_python() -> Path:
    """Return the Python of Prefect's environment, which is made first where it is missing.

    Raises:
        tests.benchmarks.measure.BenchError: it cannot be made.
    """
    # Late: it is the bench's, and most test runs do without it.
    from tests.benchmarks.peers import environment_folder, make_environment

    if _BENCH_HOME:
        os.environ["HPC_FLOWS_BENCH_HOME"] = _BENCH_HOME
    with _alone(environment_folder().parent):
        return make_environment(lambda text: print(text, flush=True))  # noqa: T201 - it takes long


def find_prefect() -> Path:
    """Return the Python of Prefect's environment, or skip the test where it cannot be made."""
    from tests.benchmarks.measure import BenchError

    try:
        return prefect_python()
    except (BenchError, OSError) as error:
        absent(f"Prefect 3 cannot be installed from the package index ({error})")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from making the same environment; `make test` begins with it early."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
