"""A running mock cluster for tests: start it, run its commands, wait for what they say."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from hpc_flows import mock_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Short timings, so that tests need not wait; each test that is about one of them sets it.
QUICK: dict[str, str | float] = {
    "tick": 0.02,
    "kill_wait": 5.0,
    "dbd_lag": 0.0,
    "limit_grain": 0.0,
    "message_timeout": 1.0,
    "requeue_delay": 0.3,
    "slurmd_timeout": 0.3,
    "memory_grain": 0.05,
}
PATIENCE = 150.0


class Answer(NamedTuple):
    """What a command printed and how it ended."""

    out: str
    err: str
    status: int


class MockSite:
    """A mock cluster below a folder."""

    def __init__(self, home: Path, options: mock_cluster.StartOptions | None = None) -> None:
        self.home = home
        self.work = home / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.options = options or mock_cluster.StartOptions(timings=dict(QUICK))
        self.info = mock_cluster.start(home, "m", self.options)

    def run(self, command: str, **env: str) -> Answer:
        """Run a line of shell with the mock's commands first on PATH, in the work folder."""
        kept = {"HOME": str(self.home), "LANG": "C.UTF-8"}
        path = f"{self.info.bin}:{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.work,
            env={**kept, "PATH": path, **env},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Answer(done.stdout, done.stderr, done.returncode)

    def out(self, command: str, **env: str) -> str:
        """Return what a command prints; it must end with 0 and say nothing on stderr."""
        answer = self.run(command, **env)
        assert (answer.err, answer.status) == ("", 0), answer
        return answer.out

    def submit(self, options: str) -> str:
        """Submit with sbatch and return the id."""
        return self.out(f"sbatch --parsable {options}").strip()

    def state(self, job: str) -> str:
        """Return squeue's states of a job, an element or an array's elements, sorted."""
        lines = self.out(f"squeue -h -r -t all -j {job} -o '%T'").split()
        return " ".join(sorted(set(lines)))

    def wait(self, job: str, *states: str) -> str:
        """Wait until a job's state is one of these."""
        return self.until(lambda: self.state(job), *states)

    def until(self, ask: object, *wanted: str) -> str:
        """Ask again until the answer is one of those wanted."""
        assert callable(ask)
        give_up = time.monotonic() + PATIENCE
        while (answer := str(ask()).strip()) not in wanted:
            assert time.monotonic() < give_up, f"still {answer!r}, not {wanted}"
            time.sleep(0.03)
        return answer

    def until_gone(self, pid: int) -> None:
        """Wait until a process is gone."""
        give_up = time.monotonic() + PATIENCE
        while os.path.exists(f"/proc/{pid}"):
            assert time.monotonic() < give_up, f"process {pid} still runs"
            time.sleep(0.03)

    def until_written(self, name: str) -> str:
        """Wait until a file of the work folder has content and return it."""
        path = self.work / name
        give_up = time.monotonic() + PATIENCE
        while not (path.exists() and path.read_text()):
            assert time.monotonic() < give_up, f"nothing in {name}"
            time.sleep(0.03)
        return path.read_text()

    def history(self, job: str, fields: str) -> str:
        """Return sacct's line of a job without its steps."""
        return self.out(f"sacct -X -n -P -j {job} -o {fields}").strip()

    def output(self, name: str) -> str:
        """Return a file of the work folder."""
        return (self.work / name).read_text()

    def stop(self) -> None:
        """End it and its jobs."""
        mock_cluster.stop(self.home, "m")


@contextmanager
def running(home: Path, options: mock_cluster.StartOptions | None = None) -> Iterator[MockSite]:
    """Run a mock cluster for as long as the block lasts."""
    site = MockSite(home, options)
    try:
        yield site
    finally:
        site.stop()
