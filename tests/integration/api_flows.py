"""A generator task, for tests on clusters; nodes import this module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows import Resources, task

if TYPE_CHECKING:
    from collections.abc import Generator


@task(resources=Resources(cpus=1, memory="100M", walltime="5m"))
def count_up(end: int) -> Generator[int, None, None]:
    yield from range(end)
