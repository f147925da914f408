"""The thread pool: as many threads as help, nested submits that never block, cancellation."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest

from hpc_flows import flow, task
from hpc_flows.exceptions import ParameterError
from hpc_flows.task_runners import ConcurrentTaskRunner, ThreadPoolTaskRunner


@task
def leaf(x: int) -> int:
    time.sleep(0.01)
    return x


@task
def tree(depth: int) -> int:
    """Submit two of itself and wait for them, down to the leaves."""
    if depth == 0:
        return leaf.submit(1).result()
    return sum(tree.map([depth - 1] * 2).result())


def test_tasks_that_sleep_do_so_at_once() -> None:
    barrier = threading.Barrier(40, timeout=120)

    @flow
    def main() -> None:
        task(lambda _: barrier.wait()).map(range(40)).result()

    main()


def test_no_more_run_at_once_than_may() -> None:
    running: list[int] = []
    most: list[int] = []
    three = threading.Barrier(3, timeout=120)

    @task
    def work(_: int) -> None:
        running.append(1)
        three.wait()
        most.append(len(running))
        time.sleep(0.02)
        most.append(len(running))
        three.wait()
        running.pop()

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=3))
    def main() -> None:
        work.map(range(12)).wait()

    main()
    assert max(most) == 3


def test_the_settings_bound_the_pool_of_a_flow_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HPC_FLOWS_THREAD_WORKERS", "1")
    threads: set[int] = set()

    @flow
    def main() -> None:
        task(lambda _: threads.add(threading.get_ident())).map(range(20)).wait()

    main()
    assert len(threads) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_tasks_that_wait_for_tasks_never_block_a_small_pool(workers: int) -> None:
    @flow(task_runner=ThreadPoolTaskRunner(max_workers=workers))
    def main() -> Any:
        return tree.submit(4).result(timeout=60)

    assert main() == 16


def test_a_subflow_in_a_task_does_not_block_a_small_pool() -> None:
    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def inner(x: int) -> Any:
        return leaf.submit(x)

    @task
    def outer(x: int) -> Any:
        return inner(x)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def main() -> Any:
        return outer.map([1, 2, 3]).result(timeout=60)

    assert main() == [1, 2, 3]


def test_a_task_that_returns_futures_does_not_block_a_small_pool() -> None:
    @task
    def outer() -> Any:
        return leaf.map([1, 2])

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def main() -> Any:
        return outer.submit().result(timeout=150)

    assert main() == [1, 2]


def test_a_retry_that_waits_lets_others_run() -> None:
    order: list[str] = []
    submitted = threading.Event()

    @task(retries=1, retry_delay_seconds=1)
    def slow() -> None:
        order.append("slow")
        assert submitted.wait(60)
        if order.count("slow") == 1:
            raise ValueError

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def main() -> None:
        futures = [slow.submit(), task(lambda: order.append("quick")).submit()]
        submitted.set()
        for future in futures:
            future.result()

    main()
    assert order == ["slow", "quick", "slow"]


def test_the_threads_end_with_the_flow() -> None:
    before = threading.active_count()

    @flow
    def main() -> None:
        leaf.map(range(10)).wait()

    main()
    deadline = time.monotonic() + 120
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_flow_that_fails_lets_a_running_task_finish_and_cancels_queued_ones() -> None:
    futures: list[Any] = []
    started = threading.Event()

    @task
    def first(_: int) -> None:
        started.set()
        while not (len(futures) == 3 and futures[2].done()):
            time.sleep(0.005)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def main() -> None:
        futures.extend(first.map(range(3)))
        assert started.wait(60)
        raise ValueError

    main(return_state=True)
    assert [future.state.name for future in futures] == ["Completed", "Cancelled", "Cancelled"]


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True])
def test_a_wrong_size_is_refused(workers: Any) -> None:
    with pytest.raises(ParameterError, match="max_workers"):
        ThreadPoolTaskRunner(max_workers=workers)


def test_prefects_other_name_means_the_same() -> None:
    assert ConcurrentTaskRunner is ThreadPoolTaskRunner
    assert ThreadPoolTaskRunner(4).duplicate().max_workers == 4


def test_short_calls_do_not_wake_idle_threads_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    barrier = threading.Barrier(4, timeout=60)

    @task
    def together() -> int:
        return barrier.wait()

    @task
    def short() -> str:
        return threading.current_thread().name

    @flow
    def main() -> list[str]:
        for future in [together.submit() for _ in range(4)]:
            future.result()
        monkeypatch.setattr("hpc_flows.task_runners.threads._LOOK", 3600)
        return [short.submit().result() for _ in range(200)]

    ((_, most),) = Counter(main()).most_common(1)
    assert most > 150  # all but the first, while the four fall asleep


def test_calls_start_while_their_flow_goes_on_submitting() -> None:
    started = threading.Event()

    @task
    def first() -> None:
        started.set()

    @flow
    def main() -> bool:
        deadline = time.monotonic() + 60
        first.submit()
        while not started.is_set() and time.monotonic() < deadline:
            task(lambda: None).submit()
        return started.is_set()

    assert main()
