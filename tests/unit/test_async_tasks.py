"""Coroutine functions as tasks: awaited, submitted, in sync flows and in a running event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, task
from hpc_flows.exceptions import TaskRunTimeoutError
from hpc_flows.journal.reader import read_run
from hpc_flows.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

if TYPE_CHECKING:
    from pathlib import Path


@task
async def aadd(x: int, y: int = 1) -> int:
    await asyncio.sleep(0)
    return x + y


@task
def add(x: int, y: int = 1) -> int:
    return x + y


def _in_running_loop(fn: Any) -> Any:
    """Call a function as a cell of a notebook is run: with an event loop around it."""

    async def cell() -> Any:
        return fn()

    return asyncio.run(cell())


def test_an_async_task_is_awaited_in_an_async_flow() -> None:
    @flow
    async def main() -> Any:
        return await aadd(1), add(2), await aadd(aadd.submit(3)), aadd.submit(4).result()

    assert asyncio.run(main()) == (2, 3, 5, 5)


def test_async_tasks_are_submitted_in_a_sync_flow() -> None:
    @flow
    def main() -> Any:
        return aadd.submit(1).result(), aadd.map([1, 2], y=5).result(), asyncio.run(aadd(7))

    assert main() == (2, [6, 7], 8)


def test_a_sync_task_awaits_and_an_async_task_calls() -> None:
    @task
    def sync_outer() -> Any:
        return asyncio.run(aadd(1)) + aadd.submit(1).result()

    @task
    async def async_outer() -> Any:
        return add(1) + await aadd(add.submit(1))

    @flow
    def main() -> Any:
        return sync_outer(), async_outer.submit().result()

    assert main() == (4, 5)


def test_a_sync_flow_runs_within_a_running_event_loop() -> None:
    @flow
    def main() -> Any:
        return add(1), aadd.submit(1).result(), aadd.map([1, 2]).result()

    assert _in_running_loop(main) == (2, 2, [2, 3])
    assert _in_running_loop(lambda: aadd.submit(1).result()) == 2
    assert _in_running_loop(lambda: add(1)) == 2


def test_async_hooks_and_conditions_run_within_a_running_event_loop() -> None:
    told = []

    async def hook(_task: Any, run: Any, state: Any) -> None:
        await asyncio.sleep(0)
        told.append((run.task_name, state.name))

    async def condition(*_: Any) -> bool:
        await asyncio.sleep(0)
        return not told

    @task(retries=5, on_failure=[hook], retry_condition_fn=condition, on_running=[hook])
    def fail() -> None:
        raise ValueError("no")

    @flow
    def main() -> Any:
        return fail(return_state=True).name

    assert _in_running_loop(main) == "Failed"
    assert told == [("fail", "Running"), ("fail", "Failed")]


def test_a_time_limit_holds_within_a_running_event_loop() -> None:
    @task(timeout_seconds=0.2)
    async def sleep() -> None:
        await asyncio.sleep(60)

    @task(timeout_seconds=0.2)
    def block() -> None:
        time.sleep(60)

    @flow
    def main() -> Any:
        return [sleep.submit(return_state=True).name, block(return_state=True).name]

    assert _in_running_loop(main) == ["TimedOut", "TimedOut"]


def test_several_async_tasks_run_at_once() -> None:
    both = threading.Barrier(2)

    @task
    async def meet(name: str) -> str:
        await asyncio.to_thread(both.wait, 60)
        return name

    @flow
    async def main() -> Any:
        return await asyncio.gather(meet("a"), meet("b"))

    assert asyncio.run(main()) == ["a", "b"]


@pytest.mark.parametrize("runner", [ThreadPoolTaskRunner, ProcessPoolTaskRunner])
def test_an_async_task_that_waits_gives_its_place_back(runner: Any) -> None:
    @task
    async def nested(depth: int) -> Any:
        if depth == 0:
            return 0
        await asyncio.gather(aadd(aadd.submit(1)), aadd(aadd.submit(2)))
        return 1 + await aadd(nested.submit(depth - 1), y=0)

    @flow(task_runner=runner(max_workers=1))
    def main() -> Any:
        return nested.submit(4).result()

    assert main() == 4


def test_an_async_task_that_is_cancelled_says_so(home: Path) -> None:
    @task
    async def sleep() -> None:
        await asyncio.sleep(60)

    async def main() -> Any:
        running = asyncio.ensure_future(sleep(return_state=True))
        await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    (folder,) = (home / "runs").iterdir()
    states = [event.data["name"] for event in read_run(str(folder)) if event.kind == "state"]
    assert states == ["Running", "Cancelled"]


def test_an_async_task_that_computes_for_too_long_is_stopped() -> None:
    @task(timeout_seconds=0.2)
    async def spin() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            pass

    with pytest.raises(TaskRunTimeoutError):
        asyncio.run(spin())


def test_a_coroutine_that_a_task_returns_is_awaited() -> None:
    @task
    async def outer() -> Any:
        return aadd(1)

    @task
    def sync_outer() -> Any:
        return aadd(1)

    @flow
    def main() -> Any:
        return outer.submit().result(), sync_outer()

    assert main() == (2, 2)
    assert _in_running_loop(main) == (2, 2)


@pytest.mark.parametrize("waits", ["awaits the result", "awaits a call", "gathers"])
def test_async_tasks_that_wait_for_others_leave_their_threads_to_these(waits: str) -> None:
    together = threading.Barrier(2)

    @task
    def inner(x: int) -> int:
        return x

    @task
    async def passed_on(x: int) -> int:
        return x

    @task
    async def outer(x: int) -> int:
        together.wait()  # both threads of the pool are in use
        future = inner.submit(x)
        if waits == "awaits the result":
            return await future.result_async()
        if waits == "awaits a call":
            return await passed_on(future)  # type: ignore[arg-type]
        other = inner.submit(x)
        both = await asyncio.gather(future.result_async(), other.result_async())
        return both[0]

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def main() -> list[int]:
        return outer.map([1, 2, 3, 4]).result()

    assert main() == [1, 2, 3, 4]


def test_an_async_task_that_waits_for_many_leaves_one_place_of_the_pool() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    @task
    def inner() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    @task
    async def outer() -> None:
        futures = [inner.submit() for _ in range(8)]
        await asyncio.gather(*(future.result_async() for future in futures))

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def main() -> None:
        outer.submit().result()

    main()
    assert most == 1
