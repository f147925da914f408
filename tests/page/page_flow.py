"""A flow that goes on when files appear, so that a test sees each of its states on the page."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hpc_flows import flow, task

GATES = Path(sys.argv[1]) if __name__ == "__main__" else Path()


def wait_for(name: str) -> None:
    """Wait until the test makes a file of this name."""
    while not (GATES / name).exists():
        time.sleep(0.02)


@task
def measure(number: int) -> int:
    wait_for("measure")
    if number == 2:
        raise ValueError("the sample is empty")
    return number


@flow(name="gated")
def gated() -> int:
    futures = measure.map([0, 1, 2])
    found = [future.result(raise_on_failure=False) for future in futures]
    wait_for("end")
    return len(found)


if __name__ == "__main__":
    gated()
