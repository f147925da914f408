"""Waiting for many futures, futures of other libraries, callbacks, asyncio."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from hpc_flows.exceptions import MissingResult
from hpc_flows.futures import (
    DoneAndNotDoneFutures,
    PrefectConcurrentFuture,
    PrefectWrappedFuture,
    TaskFuture,
    TaskFutureList,
    as_completed,
    resolve_futures_to_results,
    resolve_futures_to_states,
    wait,
)
from hpc_flows.runs import TaskRun
from hpc_flows.states import Completed, Failed

if TYPE_CHECKING:
    from collections.abc import Callable


def _future(value: Any = None) -> TaskFuture:
    future = TaskFuture(TaskRun("t", "m:t"))
    if value is not None:
        future.resolve(Completed(data=value))
    return future


def _later(future: TaskFuture, value: Any) -> None:
    threading.Timer(0.05, lambda: future.resolve(Completed(data=value))).start()


def _wrapped() -> tuple[PrefectConcurrentFuture[Any], Future[Any]]:
    inner: Future[Any] = Future()
    return PrefectConcurrentFuture(uuid4(), inner), inner


def test_a_future_of_another_library_ends_with_its_state_value_or_error() -> None:
    future, inner = _wrapped()
    assert isinstance(future, PrefectWrappedFuture)
    assert future.state.is_pending()
    future.wait(timeout=0.01)
    assert not future.done()
    inner.set_result(Failed(data=ValueError("oops")))
    with pytest.raises(ValueError, match="oops"):
        future.result()
    other, inner = _wrapped()
    inner.set_result(42)
    assert other.result() == 42
    third, inner = _wrapped()
    inner.set_exception(KeyError("k"))
    with pytest.raises(KeyError):
        third.result()


def test_what_a_callback_raises_reaches_the_log_and_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called: list[str] = []

    def bad(_: TaskFuture) -> None:
        raise ValueError("in the callback")

    future = _future()
    future.add_done_callback(bad)
    future.add_done_callback(lambda _: called.append("second"))
    assert future.resolve(Completed(data=1))
    assert called == ["second"]
    assert "in the callback" in caplog.text


def test_an_interrupt_in_a_callback_is_raised_after_the_others_were_called() -> None:
    called: list[str] = []

    def bad(_: TaskFuture) -> None:
        raise KeyboardInterrupt

    future = _future()
    future.add_done_callback(bad)
    future.add_done_callback(lambda _: called.append("second"))
    with pytest.raises(KeyboardInterrupt):
        future.resolve(Completed(data=1))
    assert (called, future.result()) == (["second"], 1)


def test_a_list_of_futures_raises_the_first_failure_without_waiting_for_the_rest() -> None:
    never, fails = _future(), _future()
    threading.Timer(0.05, lambda: fails.resolve(Failed(data=ValueError("quick")))).start()
    with pytest.raises(ValueError, match="quick"):
        TaskFutureList([never, fails]).result()
    with pytest.raises(ValueError, match="quick"):
        TaskFutureList([never, fails]).result()


def test_a_list_of_futures_says_how_many_are_unfinished() -> None:
    with pytest.raises(TimeoutError, match=r"within 0.02 seconds: 1 of 2 are unfinished"):
        TaskFutureList([_future(1), _future()]).result(timeout=0.02)


def test_the_errors_of_a_list_can_be_had_beside_its_values() -> None:
    error = ValueError("x")
    failed = _future()
    failed.resolve(Failed(data=error))
    futures = TaskFutureList([_future(1), failed, _future(1)])
    assert futures.result(raise_on_failure=False) == [1, error, 1]


@pytest.mark.parametrize(
    "attempt",
    [
        lambda future: wait([future], timeout=-1),
        lambda future: list(as_completed([future], timeout=-1)),
        lambda future: TaskFutureList([future]).result(timeout=-1),
        lambda future: TaskFutureList([future]).wait(timeout=-1),
    ],
)
def test_a_negative_time_limit_is_refused(attempt: Callable[[TaskFuture], Any]) -> None:
    with pytest.raises(ValueError, match="'timeout' must be a non-negative number"):
        attempt(_future(1))


def test_as_completed_gives_each_future_once_however_often_it_was_given() -> None:
    future, other = _future(1), _future()
    _later(other, 2)
    assert [f.result() for f in as_completed([future, other, future])] == [1, 2]
    assert [f.result() for f in as_completed([future], timeout=0)] == [1]


def test_as_completed_forgets_futures_that_are_not_waited_for_any_more() -> None:
    future, other = _future(1), _future()
    for _ in as_completed([future, other]):
        break
    assert not other._callbacks


def test_futures_can_be_awaited_while_others_run() -> None:
    future, ended = _future(), _future("b")
    _later(future, "a")

    async def main() -> list[Any]:
        return list(await asyncio.gather(future.result_async(), ended.result_async()))

    assert asyncio.run(main()) == ["a", "b"]
    with pytest.raises(TimeoutError, match=r"did not end within 0\.01 s"):
        asyncio.run(_future().result_async(timeout=0.01))


def test_futures_are_resolved_wherever_they_lie() -> None:
    ready, late = _future(1), _future()
    _later(late, 2)
    assert resolve_futures_to_results({"a": [ready, late]}) == {"a": [1, 2]}
    (state,) = resolve_futures_to_states((ready,))
    assert state.is_completed()
    assert resolve_futures_to_states([1, 2]) == [1, 2]


def test_a_futures_handle_is_that_of_its_state() -> None:
    with pytest.raises(MissingResult, match="in memory"):
        _future(1).result_handle()
    with pytest.raises(TimeoutError):
        _future().result_handle(timeout=0.01)


def test_wait_returns_a_pair_with_names() -> None:
    ready, late = _future(1), _future()
    both = wait([ready, late], timeout=0)
    assert isinstance(both, DoneAndNotDoneFutures)
    done, not_done = both
    assert (done, not_done) == (both.done, both.not_done) == ({ready}, {late})


def test_a_state_that_comes_from_elsewhere_is_told_whose_it_is() -> None:
    future = _future(1)
    assert future.state.state_details.task_run_id == future.task_run_id
