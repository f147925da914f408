"""Submit no-op tasks to threads.

Usage: python submits.py hpc_flows|prefect|futures COUNT

Prints seconds per task, from the first submit to the last result.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

COUNT = int(sys.argv[2])


def number_of(number: int) -> int:
    """Return the number."""
    return number


def by_hand(count: int) -> float:
    """Use the standard library's pool, which keeps no record of anything."""
    begin = time.perf_counter()
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(number_of, number) for number in range(count)]
        total = sum(future.result() for future in futures)
    return checked(total, count, begin)


def by_flow(library: str, count: int) -> float:
    """Use a flow of the library."""
    module = import_module(library)
    noop = module.task(number_of)

    @module.flow
    def many(count: int) -> float:
        begin = time.perf_counter()
        futures = [noop.submit(number) for number in range(count)]
        total = sum(future.result() for future in futures)
        return checked(total, count, begin)

    many(10)
    seconds: float = many(count)
    return seconds


def checked(total: int, count: int, begin: float) -> float:
    """Return the seconds since `begin`, once the results are right."""
    seconds = time.perf_counter() - begin
    if total != sum(range(count)):
        sys.exit("the results are wrong")
    return seconds


if __name__ == "__main__":
    side = sys.argv[1]
    spent = by_hand(COUNT) if side == "futures" else by_flow(side, COUNT)
    print(json.dumps({"task": spent / COUNT}))
