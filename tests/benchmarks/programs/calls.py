"""Call a no-op task again and again in a flow.

Usage: python calls.py hpc_flows|prefect COUNT

Prints seconds per call: `call` inside the flow, `stored` until the flow has ended and what it
reports is stored.
"""

import json
import sys
import time
from importlib import import_module

library = import_module(sys.argv[1])
COUNT = int(sys.argv[2])
times = {}


@library.task
def noop(number: int) -> int:
    """Return the number."""
    return number


@library.flow
def many(count: int) -> None:
    """Call the task in a loop."""
    times["begin"] = time.perf_counter()
    for number in range(count):
        noop(number)
    times["end"] = time.perf_counter()


if __name__ == "__main__":
    many(10)
    many(COUNT)
    stored = time.perf_counter()
    print(
        json.dumps(
            {
                "call": (times["end"] - times["begin"]) / COUNT,
                "stored": (stored - times["begin"]) / COUNT,
            }
        )
    )
