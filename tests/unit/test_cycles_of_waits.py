"""Task runs that wait for each other are told so, instead of waiting for ever."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from hpc_flows import flow, task
from hpc_flows.exceptions import CycleOfWaits
from hpc_flows.futures import wait
from hpc_flows.task_runners import ThreadPoolTaskRunner
from hpc_flows.utilities.annotations import quote


@task
def wait_for(box: list[Any], ready: Any = None) -> Any:
    """Wait for the future that is put into a box meanwhile."""
    if ready is not None:
        assert ready.wait(60)
    return box[0].result()


def test_a_task_that_waits_for_its_own_future_is_told() -> None:
    @flow
    def main() -> None:
        box: list[Any] = []
        ready = threading.Event()
        future = wait_for.submit(quote(box), ready)
        box.append(future)
        ready.set()
        with pytest.raises(CycleOfWaits, match=r"'wait_for-\w+' waits for itself"):
            future.result()

    main()


@pytest.mark.parametrize("workers", [2, 20])
def test_two_tasks_that_wait_for_each_other_are_told(workers: int) -> None:
    @flow(task_runner=ThreadPoolTaskRunner(max_workers=workers))
    def main() -> list[Any]:
        boxes: list[list[Any]] = [[], []]
        ready = threading.Event()
        futures = [wait_for.submit(quote(box), ready) for box in boxes]
        boxes[0].append(futures[1])
        boxes[1].append(futures[0])
        ready.set()
        wait(futures)
        return [future.state.data for future in futures]

    first, second = main()
    assert isinstance(first, CycleOfWaits)
    assert isinstance(second, CycleOfWaits)
    assert "which waits for" in str(first)


def test_a_cycle_through_a_call_in_place_is_found() -> None:
    @task
    def outer(box: list[Any], ready: Any) -> Any:
        return wait_for(quote(box), ready)

    @flow
    def main() -> None:
        box: list[Any] = []
        ready = threading.Event()
        future = outer.submit(quote(box), ready)
        box.append(future)
        ready.set()
        with pytest.raises(CycleOfWaits):
            future.result()

    main()


def test_a_cycle_through_a_flow_in_a_task_is_found() -> None:
    box: list[Any] = []
    ready = threading.Event()

    @flow
    def inner() -> Any:
        return box[0].result()

    @task
    def outer() -> Any:
        assert ready.wait(60)
        return inner()

    @flow
    def main() -> None:
        future = outer.submit()
        box.append(future)
        ready.set()
        with pytest.raises(CycleOfWaits):
            future.result()

    main()


def test_a_cycle_through_a_task_that_has_not_begun_is_found() -> None:
    @task
    def outer(box: list[Any], ready: Any) -> Any:
        assert ready.wait(60)
        return echo.submit(box[0]).result()

    @task
    def echo(x: Any) -> Any:
        return x

    @flow
    def main() -> None:
        box: list[Any] = []
        ready = threading.Event()
        future = outer.submit(quote(box), ready)
        box.append(future)
        ready.set()
        with pytest.raises(CycleOfWaits, match="'echo-"):
            future.result()

    main()


def test_a_cycle_of_async_tasks_is_found() -> None:
    @task
    async def outer(box: list[Any], ready: Any) -> Any:
        assert await asyncio.to_thread(ready.wait, 60)
        return await echo(box[0])

    @task
    async def echo(x: Any) -> Any:
        return x

    @flow
    def main() -> None:
        box: list[Any] = []
        ready = threading.Event()
        future = outer.submit(quote(box), ready)
        box.append(future)
        ready.set()
        with pytest.raises(CycleOfWaits):
            future.result()

    main()


def test_waits_that_end_are_no_cycle() -> None:
    @task
    def leaf(x: int) -> int:
        return x

    @task
    def middle(x: int) -> Any:
        return sum(leaf.map([x, x]).result()) + leaf(leaf.submit(x))

    @flow
    def main() -> Any:
        return [middle.submit(future).result() for future in middle.map([1, 2])]

    assert main() == [9, 18]


def test_a_wait_with_an_end_is_let_be() -> None:
    @task
    def patient(box: list[Any], ready: Any) -> Any:
        assert ready.wait(60)
        box[0].wait(0.05)
        return "went on"

    @flow
    def main() -> Any:
        box: list[Any] = []
        ready = threading.Event()
        future = patient.submit(quote(box), ready)
        box.append(future)
        ready.set()
        return future.result()

    assert main() == "went on"
