"""A process that takes slots again and again, and kills itself now and then."""

from __future__ import annotations

import os
import random
import signal
import sys
import time

from hpc_flows.concurrency.sync import concurrency


def contend(log: str, seed: int) -> None:
    """Take slots of the limit `solver`, and note how many are held, when, by whom."""
    chance = random.Random(seed)
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for _ in range(12):
        occupy = chance.choice([1, 1, 2, 3])
        with concurrency("solver", occupy=occupy, timeout_seconds=120):
            os.write(fd, f"{occupy}\n".encode())
            time.sleep(chance.random() / 200)
            os.write(fd, f"-{occupy}\n".encode())
            # What it holds is free only after its death, so that the note may come before.
            if chance.random() < 0.06:
                os.kill(os.getpid(), signal.SIGKILL)


def hold(seconds: float) -> None:
    """Take one slot, say so, and keep it."""
    with concurrency("solver", lease_duration=seconds, strict=True):
        os.write(1, b"held\n")
        time.sleep(120)


if __name__ == "__main__":
    if sys.argv[1] == "contend":
        contend(sys.argv[2], int(sys.argv[3]))
    else:
        hold(float(sys.argv[2]))
