"""Give many small tasks to hpc_flows, or to one of its peers.

Usage: python many.py SIDE WORK COUNT

SIDE is `hpc_flows`, `hpc_flows-processes`, `prefect`, `futures`, `futures-processes`,
`parsl-threads`, `parsl-htex`, `dask-threads`, `dask-processes` or `executorlib`; WORK is one of
the functions at the end. Prints seconds for each task, or bytes, as JSON. Starting and stopping a
side's workers does not count: users do that once.
"""

import json
import os
import resource
import sys
import time

import sides

COUNT = int(sys.argv[3])


def submits(side: sides.Side, count: int) -> dict[str, float]:
    """Submit tasks one by one and take their values."""
    begin = time.perf_counter()
    futures = [side.submit(number) for number in range(count)]
    return each(sum(map(side.value, futures)), count, begin)


def mapped(side: sides.Side, count: int) -> dict[str, float]:
    """Map a task and take the values."""
    begin = time.perf_counter()
    return each(sum(map(side.value, side.map(count))), count, begin)


def chain(side: sides.Side, count: int) -> dict[str, float]:
    """Give each task the future of the one before it."""
    begin = time.perf_counter()
    future = side.submit(count)
    for _ in range(count - 1):
        future = side.submit(future)
    spent = time.perf_counter()
    value = side.value(future)
    if value != count:
        sys.exit(f"the last of the chain is {value!r}")
    now = time.perf_counter()
    return {"task": (now - begin) / count, "handed": (spent - begin) / count}


def calls(side: sides.Side, count: int) -> dict[str, float]:
    """Run tasks one after the other, each awaited before the next."""
    begin = time.perf_counter()
    total = sum(side.call(number) for number in range(count))
    return each(total, count, begin)


def subflows(side: sides.Side, count: int) -> dict[str, float]:
    """Call flows in a flow, each with one task."""
    begin = time.perf_counter()
    total = sum(side.subflow(number) for number in range(count))
    return each(total, count, begin)


def array(side: sides.Side, count: int) -> dict[str, float]:
    """Have an array of 100 MB made in a worker and take it."""
    side.value(side.zeros(1000))
    begin = time.perf_counter()
    for _ in range(count):
        made = side.value(side.zeros(100_000_000 // 8))
        if made.nbytes != 100_000_000:
            sys.exit("the array has another size")
    return {"task": (time.perf_counter() - begin) / count}


def held(side: sides.Side, count: int) -> dict[str, float]:
    """Hold the futures of many tasks that have ended; tell what that took of memory."""
    before = peak()
    futures = [side.submit(number) for number in range(count)]
    total = sum(map(side.value, futures))
    grown = peak() - before
    if total != sum(range(count)):
        sys.exit("the values are wrong")
    return {"grown": grown / count, "peak": peak()}


def peak() -> float:
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def each(total: int, count: int, begin: float) -> dict[str, float]:
    """Return the seconds of each task, once the values are right."""
    seconds = time.perf_counter() - begin
    if total != sum(range(count)):
        sys.exit("the values are wrong")
    return {"task": seconds / count}


WORKS = {work.__name__: work for work in (submits, mapped, chain, calls, subflows, array, held)}

if __name__ == "__main__":
    # Workers of the peers import this module again; only the program itself goes on.
    work = WORKS[sys.argv[2]]
    side = sides.made(sys.argv[1])
    warm = 1 if work is array else 10
    figures: dict[str, float] = {}

    def body(side: sides.Side) -> None:
        """Warm up, then measure."""
        if work is not held:
            work(side, warm)
        figures.update(work(side, COUNT))

    side.run(body)
    print(json.dumps(figures), flush=True)
    # Some peers leave threads behind that hold the process up for many seconds.
    sys.stderr.flush()
    os._exit(0)
