"""Drivers that compute one result between them, for tests that kill one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

_PROGRAM = """
import os, sys, time
from hpc_flows import flow, task

@task(cache_key_fn=lambda context, parameters: "shared")
def slow(folder):
    open(f"{folder}/begun-{os.getpid()}", "x").close()
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.02)
    return os.getpid()

@flow
def compute(folder):
    state = slow(folder, return_state=True)
    return f"{state.name} {state.result()}"

print(compute(sys.argv[1]), flush=True)
"""
_LONGEST = 150.0


def wait_for(happened: Callable[[], object]) -> None:
    """Wait until something has happened."""
    give_up = time.monotonic() + _LONGEST
    while not happened():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.02)


class Driver:
    """A process that runs the flow."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / f"log-{time.monotonic_ns()}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(folder)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.pid = self.process.pid
        self._folder = folder

    def has_begun(self) -> bool:
        """Tell whether its task's code runs."""
        return (self._folder / f"begun-{self.pid}").exists()

    def waits(self) -> bool:
        """Tell whether it has said that it waits for somebody else."""
        return "Waiting for pid" in self.log()

    def log(self) -> str:
        """Return what it has logged."""
        return self._log.read_text()

    def kill(self) -> None:
        """Kill it so that it can do nothing about it."""
        os.kill(self.pid, signal.SIGKILL)

    def answer(self) -> str:
        """Return what it prints, once it has ended."""
        out, _ = self.process.communicate(timeout=_LONGEST)
        assert self.process.returncode == 0, self.log()
        return str(out).strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=_LONGEST)
        if self.process.stdout is not None:
            self.process.stdout.close()
