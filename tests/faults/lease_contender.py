"""Processes that the tests of leases start, stop and kill: `python lease_contender.py WHAT ...`."""

from __future__ import annotations

import os
import random
import signal
import sys
import time

from hpc_flows.leases import Lease

#: What the audit hook sees of the steps of a lease.
_STEPS = {"open", "os.link", "os.rename", "os.remove", "os.utime", "os.listdir", "os.mkdir"}


def contend(path: str, log: str, seed: str) -> None:
    """Take and leave a lease many times; write the fencing number while it is held.

    Sometimes, chosen by `seed`, the process kills itself while it holds the lease.
    """
    chance = random.Random(int(seed))
    for _ in range(25):
        with Lease.acquire(path, ttl=30, timeout=150) as lease:
            fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(fd, f"{lease.number} in\n".encode())
            time.sleep(chance.random() / 500)
            if chance.random() < 0.05:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(fd, f"{lease.number} out\n".encode())
            os.close(fd)


def die(path: str, what: str, step: str) -> None:
    """Kill this process before the given step on the file system of acquire, renew, ..."""
    left = [int(step)]
    lease = None if what in {"acquire", "adopt"} else Lease.acquire(path, ttl=60)

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event in _STEPS and os.path.dirname(path) in str(arguments[0]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    if what == "acquire":
        assert Lease.try_acquire(path, ttl=60) is not None
    elif what == "adopt":
        assert Lease.adopt(path, "t", ttl=60) is not None
    elif what == "renew":
        assert lease is not None
        lease.renew()
    elif what in {"release", "forget"}:
        assert lease is not None
        lease.release(forget=what == "forget")
    # The end of the interpreter would release what is held: it is not what is asked for.
    os._exit(0)


def hold(path: str, ttl: str) -> None:
    """Hold a lease until it is lost, and say so by itself and when asked."""
    lease = Lease.acquire(path, ttl=float(ttl), on_lost=lambda lost: _say("told of", lost.number))
    _say("held", lease.number)
    for line in sys.stdin:
        _say(line.strip(), lease.is_held())


def _say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


if __name__ == "__main__":
    {"contend": contend, "die": die, "hold": hold}[sys.argv[1]](*sys.argv[2:])
