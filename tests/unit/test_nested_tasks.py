"""Tasks that call and submit tasks and flows, in pools however small, and by the thousands."""

from __future__ import annotations

from typing import Any

import pytest

from hpc_flows import flow, task
from hpc_flows.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner


@task
def leaf(x: int) -> int:
    return x + 1


@task
def down(depth: int) -> Any:
    return 0 if depth == 0 else 1 + down.submit(depth - 1).result()


@task
def tree(depth: int) -> Any:
    return 1 if depth == 0 else sum(tree.map([depth - 1, depth - 1]).result())


@flow
def inner(x: int) -> Any:
    return leaf.submit(x).result()


@task
def calls_a_flow(x: int) -> Any:
    return inner(x)


RUNNERS = [ThreadPoolTaskRunner, ProcessPoolTaskRunner]


@pytest.mark.parametrize("runner", RUNNERS)
def test_nested_submits_do_not_block_a_pool_of_one(runner: Any) -> None:
    @flow(task_runner=runner(max_workers=1))
    def main() -> Any:
        return down.submit(5).result(), tree.submit(4).result(), calls_a_flow.map([1, 2]).result()

    assert main() == (5, 16, [2, 3])


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_result_of_a_map_is_mapped_over(runner: Any) -> None:
    @flow(task_runner=runner(max_workers=2))
    def main() -> Any:
        futures = leaf.map(leaf.map(leaf.map(range(20))))
        return leaf.map(futures.result()).result()

    assert main() == list(range(4, 24))


def test_ten_thousand_tasks_run_in_one_flow() -> None:
    @flow
    def main() -> Any:
        futures = leaf.map(range(10_000))
        return sum(futures.result()), leaf.submit(futures[-1]).result()

    assert main() == (50_005_000, 10_001)


def test_a_chain_of_a_thousand_tasks_runs() -> None:
    @flow
    def main() -> Any:
        future = leaf.submit(0)
        for _ in range(1000):
            future = leaf.submit(future)
        return future.result()

    assert main() == 1001


def test_a_task_that_submits_and_does_not_wait_leaves_it_to_its_flow() -> None:
    ended = []

    @task
    def late(x: int) -> None:
        ended.append(x)

    @task
    def careless() -> None:
        late.map([1, 2, 3])

    @flow
    def main() -> None:
        careless()

    main()
    assert sorted(ended) == [1, 2, 3]


def test_a_run_that_was_cancelled_before_it_begins_does_not_begin() -> None:
    from hpc_flows.context import current
    from hpc_flows.engine.drive import drive
    from hpc_flows.engine.task_engine import run_task
    from hpc_flows.runs import TaskRun
    from hpc_flows.states import Cancelled

    begun = []

    @task
    def work() -> None:
        begun.append(True)

    @flow
    def main() -> Any:
        context = current()
        assert context is not None
        run = TaskRun("work", work.task_key)
        context.root.record("task", run, Cancelled("by somebody"))
        return drive(run_task(work, run, (), {}, context)).name

    assert main() == "Cancelled"
    assert not begun


def test_a_task_made_of_a_flow_runs_the_flow() -> None:
    ran = []

    @flow(name="the-flow", on_completion=[lambda _flow, run, _state: ran.append(run.flow_name)])
    def whole(x: int) -> int:
        return x + 1

    @flow
    async def awhole(x: int) -> int:
        return x + 2

    @flow
    def main() -> Any:
        made: Any = task(name="as-task", retries=1)(whole)
        amade: Any = task(awhole)
        assert (made.name, made.retries, made.fn, amade.isasync) == ("as-task", 1, whole, True)
        return made(1), made.submit(2).result(), amade.submit(3).result()

    assert main() == (2, 3, 5)
    assert ran == ["the-flow", "the-flow"]
