"""The peers, in an environment of their own that the bench makes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.benchmarks.measure import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]

#: Prefect 3.8.8 alone pulls a FastAPI with which its server does not start; the pins below are
#: the versions of its own lock file.
REQUIREMENTS = (
    "prefect==3.8.8",
    "fastapi==0.141.1",
    "starlette==1.3.1",
    "pydantic==2.13.4",
    "sqlalchemy==2.0.45",
    "pydocket==0.23.1",
    "uvicorn==0.52.0",
    "submitit==1.5.4",
    "parsl==2026.10.26",
    "distributed==2026.8.0",
    "executorlib==1.11.0",
    "numpy>=1.26",
    "cloudpickle>=3.0",
)

#: Seconds that Prefect's server may take to answer for the first time.
SERVER_PATIENCE = 90.0


def environment_folder() -> Path:
    """Return where the peers' environment is, or will be, named after what is in it."""
    wanted = "\n".join((*REQUIREMENTS, sys.version))
    tag = hashlib.sha256(wanted.encode()).hexdigest()[:10]
    home = os.environ.get("HPC_FLOWS_BENCH_HOME")
    base = Path(home) if home else ROOT / ".make"
    return base / f"bench-{tag}"


def make_environment(say: Callable[[str], None]) -> Path:
    """Install the peers unless it was done before; return the environment's Python."""
    folder = environment_folder()
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if ready.exists():
        return python
    say(f"installing Prefect, Parsl, Dask and others into {folder} (a minute or two, once)")
    base = getattr(sys, "_base_executable", sys.executable)
    try:
        subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS],
            check=True,
            stderr=subprocess.PIPE,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        tail = str(getattr(error, "stderr", None) or error).strip()[-600:]
        msg = f"the peers cannot be installed into {folder}: {tail}"
        raise BenchError(msg) from error
    ready.touch()
    return python


class PrefectServer:
    """A Prefect server on loopback, with a home folder of its own, for as long as it is open.

    Without one, each process that runs a flow starts a temporary server first, which takes
    several seconds. Prefect is measured with a server that is already there, the kinder way;
    what a user gets by default is measured too, in the contest of the hello flow.
    """

    def __init__(self, python: Path, folder: Path, port: int) -> None:
        self._python = python
        self._folder = folder
        self._port = port
        self._child: subprocess.Popen[bytes] | None = None

    def settings(self) -> dict[str, str]:
        """Return the environment variables of a client of this server."""
        return {**self.default_settings(), "PREFECT_API_URL": f"http://127.0.0.1:{self._port}/api"}

    def default_settings(self) -> dict[str, str]:
        """Return the environment variables of a user without a server."""
        return {
            "PREFECT_HOME": str(self._folder),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }

    def open(self, base: Mapping[str, str]) -> None:
        """Start the server and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "server.log").open("wb") as log:
            self._child = subprocess.Popen(
                [
                    str(self._python.with_name("prefect")),
                    *("server", "start", "--host", "127.0.0.1", "--port", str(self._port)),
                    "--no-ui",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**base, **self.default_settings()},
                cwd=self._folder,
            )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + SERVER_PATIENCE
        while time.monotonic() < end:
            if self._child is None or self._child.poll() is not None:
                break
            try:
                address = f"http://127.0.0.1:{self._port}/api/health"
                with urllib.request.urlopen(address, timeout=2):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.3)
        self.close()
        tail = (self._folder / "server.log").read_text(errors="replace")[-600:]
        msg = f"Prefect's server did not start: {tail}"
        raise BenchError(msg)

    def close(self) -> None:
        """Stop the server."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(15)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
