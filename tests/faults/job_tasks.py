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

SMALL = Resources(cpus=1, memory="100M", walltime="5m")


@task(resources=SMALL)
def answer(value: Any = 42) -> Any:
    return value


@task(resources=SMALL)
def rest(begun: str, seconds: float, value: Any = "rested") -> Any:
    """Say that it has begun, in a file for each start, and sleep."""
    Path(begun).mkdir(exist_ok=True)
    job = os.environ.get("SLURM_ARRAY_TASK_ID", os.environ["SLURM_JOB_ID"])
    Path(begun, f"{job}-{os.environ.get('SLURM_RESTART_COUNT', '0')}").touch()
    time.sleep(seconds)
    return value


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
