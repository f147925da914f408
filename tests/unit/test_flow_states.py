"""How a flow ends that returns states of its tasks and subflows, or one that it has made."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hpc_flows import flow, task
from hpc_flows.context import current
from hpc_flows.exceptions import CancelledRun, InvalidNameError, UnfinishedRun
from hpc_flows.flow_engine import run_flow, run_flow_async, run_flow_sync
from hpc_flows.states import Cancelled, Cancelling, Completed, Paused, State, StateType


@task
def fail(why: str = "no") -> None:
    raise ValueError(why)


@task
def succeed() -> int:
    return 1


@task
def cancel() -> State:
    state: State = Cancelled("enough")
    return state


def test_the_state_of_a_task_decides_and_is_the_flows_data() -> None:
    @flow
    def main() -> Any:
        return fail(return_state=True)

    state = main(return_state=True)
    assert (state.name, state.message) == ("Failed", "1/1 states failed.")
    inner = state.result(raise_on_failure=False)
    assert inner.run[0] == "task"
    with pytest.raises(ValueError, match="no"):
        inner.result()
    with pytest.raises(ValueError, match="no"):
        main()


def test_states_of_several_tasks_are_the_flows_data() -> None:
    @flow
    def main() -> Any:
        return fail("1", return_state=True), succeed(return_state=True)

    state = main(return_state=True)
    assert state.message == "1/2 states failed."
    first, second = state.result(raise_on_failure=False)
    assert (first.name, second.result()) == ("Failed", 1)
    with pytest.raises(ValueError, match="1"):
        main()


def test_a_subflow_whose_task_was_cancelled_cancels_the_flow_that_returns_its_state() -> None:
    @flow
    def inner() -> Any:
        return cancel.submit()

    @flow
    def main() -> Any:
        return inner(return_state=True)

    state = main(return_state=True)
    assert (state.name, state.message) == ("Cancelled", "1/1 states cancelled.")
    with pytest.raises(CancelledRun, match="enough"):
        main()


def test_the_states_of_futures_may_be_returned_too() -> None:
    @flow
    def main() -> Any:
        futures = [succeed.submit(), fail.submit()]
        for future in futures:
            future.wait()
        return [future.state for future in futures]

    assert main(return_state=True).message == "1/2 states failed."


def test_a_paused_state_that_code_has_made_is_the_flows() -> None:
    state = flow(lambda: [Paused("wait"), Completed()])(return_state=True)
    assert (state.type, state.message) == (StateType.PAUSED, "1/2 states paused.")


@pytest.mark.parametrize("kind", ["CANCELLED", "CANCELLING"])
def test_hooks_are_called_in_the_context_of_the_run_whose_state_they_are_told(kind: str) -> None:
    seen: list[Any] = []

    def hook(owner: Any, run: Any, state: Any, extra: int = 4) -> None:
        context = current()
        assert context is not None
        seen.append((context.flow is owner, context.flow_run is run, run.state is state, extra))

    main = flow(on_cancellation=[hook])(lambda: State(kind))
    main(return_state=True)
    assert seen == [(True, True, True, 4)]


def test_a_flow_that_ends_as_cancelling_has_no_result() -> None:
    with pytest.raises(UnfinishedRun):
        flow(lambda: Cancelling())()  # noqa: PLW0108 - of a flow's own


def test_a_hook_that_fails_changes_neither_the_state_nor_the_hooks_after_it() -> None:
    called: list[str] = []

    def bad(*_: Any) -> None:
        raise RuntimeError("in the hook")

    async def later(*_: Any) -> None:
        await asyncio.sleep(0)
        called.append("later")

    main = flow(on_failure=[bad, later])(lambda: 1 / 0)
    state = main(return_state=True)
    assert called == ["later"]
    with pytest.raises(ZeroDivisionError):
        state.result()


@pytest.mark.parametrize("name", ["a/b", "a%b", "a<b", "a>b", "a&b"])
def test_a_name_that_addresses_could_not_hold_is_refused(name: str) -> None:
    with pytest.raises(InvalidNameError, match=f"'{name[1]}'"):
        flow(name=name)(lambda: 1)


def test_a_lambda_has_a_name_that_can_be_typed() -> None:
    assert flow(lambda: 1).name == "unknown-lambda"


def test_where_and_how_results_are_kept_asks_for_keeping_them(tmp_path: Any) -> None:
    kept = flow(result_serializer="json", result_storage=tmp_path)(lambda: {"a": 1})
    assert kept.persist_result is True
    assert kept() == {"a": 1}
    (record,) = [p for p in tmp_path.rglob("*") if p.is_file() and p.name.startswith("flow-")]
    assert record.read_bytes()
    assert kept.with_options(persist_result=False).persist_result is False
    assert flow(lambda: 1).persist_result is None


def test_a_retried_flow_runs_its_tasks_again() -> None:
    attempts: list[str] = []

    @task
    def work() -> int:
        attempts.append("task")
        return 1

    @flow(retries=1)
    def main() -> int:
        value: int = work()
        attempts.append("flow")
        if len(attempts) < 4:
            raise ValueError(attempts)
        return value

    assert main() == 1
    assert attempts == ["task", "flow"] * 2


def test_a_default_that_is_data_becomes_what_its_annotation_says() -> None:
    import pydantic

    class Grid(pydantic.BaseModel):
        n: int

    def main(grid: Any = {"n": 5}) -> Any:  # noqa: B006 - as people write it
        return grid

    main.__annotations__["grid"] = Grid
    assert flow(main)().n == 5
    assert flow(main)({"n": "6"}).n == 6


def test_a_coroutine_that_a_flow_returns_is_awaited() -> None:
    @flow
    async def child() -> int:
        await asyncio.sleep(0)
        return 3

    @flow
    def main() -> Any:
        return child()

    @flow
    async def amain() -> Any:
        return child()

    assert main() == 3
    assert asyncio.run(amain()) == 3


def test_an_error_of_many_lines_is_told_by_its_first_and_then_in_full(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def main() -> None:
        raise ValueError("first\nsecond")

    flow(main)(return_state=True)
    (record,) = [r for r in caplog.records if "Encountered an exception" in r.getMessage()]
    told, *trace = record.getMessage().splitlines()
    assert told.endswith("ValueError: first …")
    assert trace[-1] == "second"


def test_a_flow_can_be_run_with_parameters_by_name() -> None:
    @flow
    def add(x: int, *more: int, y: int = 1) -> int:
        return x + y + sum(more)

    @flow
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x

    assert run_flow(add, {"x": 1}) == 2
    assert run_flow_sync(add, {"x": 1, "more": (2, 3), "y": 4}) == 10
    assert run_flow(add, {"x": 1}, return_type="state").result() == 2
    assert asyncio.run(run_flow_async(later, {"x": 5})) == 5
    assert asyncio.run(run_flow_async(later, {"x": 5}, return_type="state")).is_completed()
