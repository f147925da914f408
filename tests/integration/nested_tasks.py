"""Tasks that call tasks and flows, yield, await and retry; nodes import this module."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hpc_flows import Resources, flow, task

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

SMALL = Resources(cpus=1, memory="100M", walltime="5m")


@task
def leaf(x: int) -> int:
    return x * x


@task
def tree(depth: int) -> Any:
    if depth == 0:
        return 1
    return sum(tree.map([depth - 1, depth - 1]).result())


@flow
def inner(x: int) -> Any:
    return leaf(x), leaf.submit(x + 1).result(), leaf.map([x, x]).result()


@task(resources=SMALL)
def outer(x: int) -> Any:
    return inner(x), tree.submit(3).result(), leaf(x)


@task(resources=SMALL)
def numbers(n: int) -> Generator[int, None, None]:
    yield from range(n)


@task(resources=SMALL)
async def anumbers(n: int) -> AsyncGenerator[int, None]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


@task(resources=SMALL)
async def asquare(x: int) -> Any:
    return (await asyncio.gather(aleaf(x), aleaf(x)))[0] + aleaf.submit(0).result()


@task
async def aleaf(x: int) -> int:
    await asyncio.sleep(0)
    return x * x


def not_on_the_second(_task: Any, run: Any, state: Any) -> bool:
    assert state.is_failed()
    return bool(run.run_count < 2)


@task(resources=SMALL, retries=5, retry_condition_fn=not_on_the_second)
def stubborn() -> None:
    raise ValueError("no")


class Model:
    """Has a task for a method."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    @task(resources=SMALL)
    def scale(self, x: int) -> int:
        return self.factor * x
