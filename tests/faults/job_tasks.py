"""Tasks whose jobs meet a bad end; in a module of their own, so that nodes load no pytest."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from hpc_flows import Resources, task

#: The mock of these tests counts four seconds as a minute: long enough for a slow machine.
SMALL = Resources(cpus=1, memory="100M", walltime="40m")


@task(resources=SMALL)
def answer(value: Any = 42) -> Any:
    return value


@task(resources=SMALL)
def rest(begun: str, seconds: float, value: Any = "rested") -> Any:
    """Say that it has begun, and sleep."""
    _say_that_it_begins(begun)
    time.sleep(seconds)
    return value


@task(resources=SMALL)
def rest_until(begun: str, word: str) -> str:
    """Say that it has begun, and rest until a file is there."""
    _say_that_it_begins(begun)
    while not Path(word).exists():
        time.sleep(0.1)
    return "rested"


def _say_that_it_begins(begun: str) -> None:
    """Leave a file for each start."""
    Path(begun).mkdir(exist_ok=True)
    job = os.environ.get("SLURM_ARRAY_TASK_ID", os.environ["SLURM_JOB_ID"])
    Path(begun, f"{job}-{os.environ.get('SLURM_RESTART_COUNT', '0')}").touch()


@task(resources=SMALL)
def kill_itself(number: int = signal.SIGKILL) -> None:
    sys.stdout.write("last words\n")
    os.kill(os.getpid(), number)
    time.sleep(60)


@task(resources=SMALL)
def leave(status: int) -> None:
    os._exit(status)


@task(resources=SMALL)
def crash() -> None:
    ctypes.string_at(0)


@task(resources=SMALL)
def fill(size: int, seconds: float = 30) -> int:
    """Use so many bytes of memory for a while."""
    sys.stdout.write("filling\n")
    content = bytearray(b"x") * size
    time.sleep(seconds)
    return len(content)


@task(resources=SMALL)
def kill_when_told(word: str) -> None:
    """Wait for a file, and then end as by `kill -9`."""
    while not Path(word).exists():
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)
