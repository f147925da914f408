"""The smallest flow.

Usage: python hello.py hpc_flows|prefect
"""

import sys
from importlib import import_module

library = import_module(sys.argv[1])


@library.task
def greet(name: str) -> str:
    """Return a greeting."""
    return f"Hello, {name}!"


@library.flow
def hello(name: str = "world") -> str:
    """Call one task."""
    return greet(name)


if __name__ == "__main__":
    hello()
