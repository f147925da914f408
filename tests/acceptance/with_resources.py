"""Run a program with resources put on each of its tasks by `with_options`."""

from __future__ import annotations

import runpy
import sys
from typing import Any

import hpc_flows
from hpc_flows import Resources, tasks

SMALL = Resources(cpus=1, memory="100MB", walltime="5m")


def task(fn: Any = None, /, **options: Any) -> Any:
    """Stand in for `@task`."""
    if fn is None:
        return lambda fn: task(fn, **options)
    return tasks.Task(fn, **options).with_options(resources=SMALL)


if __name__ == "__main__":
    hpc_flows.task = task
    runpy.run_path(sys.argv[1], run_name="__main__")
