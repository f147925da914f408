"""Tasks that the tests of concurrency limits send to jobs; nodes import this module."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from hpc_flows import Resources, task
from hpc_flows.concurrency.sync import concurrency

if TYPE_CHECKING:
    from collections.abc import Iterable

SMALL = Resources(cpus=1, memory="50M", walltime="5m")


def _at_work(folder: str, name: str, together: int = 1) -> None:
    """Note that somebody begins, and ends, in one file that is only added to.

    Stays until so many have been at work at the same time, now or before.
    """
    path = os.path.join(folder, "log")
    deadline = time.monotonic() + 150
    with open(path, "ab", buffering=0) as log:
        log.write(f"+ {name}\n".encode())
        time.sleep(0.2)
        while most_at_once(_lines(path)) < together and time.monotonic() < deadline:
            time.sleep(0.02)
        log.write(f"- {name}\n".encode())


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8") as log:
        return log.read().splitlines()


def most_at_once(lines: Iterable[str]) -> int:
    """Return how many were at work at the same time, from the notes of `_at_work`."""
    now = most = 0
    for line in lines:
        now += 1 if line.startswith("+") else -1
        most = max(most, now)
    return most


@task(resources=SMALL, tags={"solver"})
def tagged(number: int, folder: str, together: int = 1) -> int:
    _at_work(folder, str(number), together)
    return number


@task(resources=SMALL)
def licensed(number: int, folder: str) -> int:
    with concurrency("licence", occupy=1, strict=True):
        _at_work(folder, str(number))
    return number


@task(resources=SMALL, tags={"solver"})
def killed(folder: str) -> None:
    _at_work(folder, "killed")
    os.kill(os.getpid(), 9)


@task(resources=SMALL, tags={"solver"})
def patient(folder: str) -> None:
    """Be at work until somebody says that it is enough."""
    with open(os.path.join(folder, "log"), "ab", buffering=0) as log:
        log.write(b"+ patient\n")
    deadline = time.monotonic() + 100
    while not os.path.exists(os.path.join(folder, "enough")) and time.monotonic() < deadline:
        time.sleep(0.02)
