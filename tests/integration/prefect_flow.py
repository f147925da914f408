"""A flow with something of everything that a Prefect server shows, on the mock cluster."""

from __future__ import annotations

import sys

from hpc_flows import Resources, flow, get_run_logger, task, unmapped
from hpc_flows.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from hpc_flows.reporting import driver

#: Prefect's server takes long where the machine is busy.
driver.FLUSH = 150.0

_calls: list[int] = []


@task
def load(count: int) -> list[int]:
    get_run_logger().info("loading %s", count)
    return list(range(count))


@task(resources=Resources(cpus=1, memory="100M", walltime="5m"), tags=["grid"])
def square(x: int, factor: int) -> int:
    return x * x * factor


@task(retries=2, retry_delay_seconds=0.1)
def shaky() -> int:
    _calls.append(1)
    if len(_calls) < 3:
        raise ValueError("not this time")
    return len(_calls)


@task(retries=1, retry_delay_seconds=0.1)
def bad() -> None:
    raise RuntimeError("never")


@task
def total(values: list[int]) -> int:
    return sum(values)


@flow
def inner(y: int) -> int:
    return total([y, 1])


@flow(name="prefect-demo")
def demo(count: int = 3) -> int:
    squares = square.map(load(count), factor=unmapped(2))
    together = total.submit(squares)
    steady, broken = shaky.submit(), bad.submit()
    result = inner(together)
    create_markdown_artifact("# hello", key="note")
    progress = create_progress_artifact(10.0, key="progress")
    update_progress_artifact(progress, 60.0)
    steady.wait()
    broken.wait()
    return result


if __name__ == "__main__":
    sys.exit(demo() != 11)
