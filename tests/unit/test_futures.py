"""Futures end once, wake who waits, and are found and replaced however deep they lie."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest

from hpc_flows.exceptions import UpstreamTaskError
from hpc_flows.futures import (
    TaskFuture,
    TaskFutureList,
    allow_failure,
    as_completed,
    find_futures,
    quote,
    replace_futures,
    unmapped,
    wait,
)
from hpc_flows.runs import TaskRun
from hpc_flows.states import Completed, Failed, NotReady, Running


def _future(value: Any = None) -> TaskFuture:
    future = TaskFuture(TaskRun("t", "m:t"))
    if value is not None:
        future.resolve(Completed(data=value))
    return future


def _later(future: TaskFuture, value: Any = 1, seconds: float = 0.05) -> None:
    def end() -> None:
        time.sleep(seconds)
        future.resolve(Completed(data=value))

    threading.Thread(target=end, daemon=True).start()


def test_a_future_ends_once() -> None:
    future = _future()
    assert future.resolve(Completed(data=1))
    assert not future.resolve(Failed("too late"))
    assert future.result() == 1
    assert future.task_run.state is future.state


def test_result_waits_for_the_end() -> None:
    future = _future()
    _later(future, "value")
    assert future.result() == "value"


def test_result_raises_what_the_task_raised() -> None:
    future = _future()
    error = ValueError("mine")
    future.resolve(Failed("x", data=error))
    with pytest.raises(ValueError, match="mine"):
        future.result()
    assert future.result(raise_on_failure=False) is error


def test_a_run_that_never_starts_raises_why() -> None:
    future = _future()
    future.resolve(NotReady("upstream", data=UpstreamTaskError("because")))
    with pytest.raises(UpstreamTaskError, match="because"):
        future.result()


def test_a_wait_that_is_too_short_says_so_and_can_be_repeated() -> None:
    future = _future()
    future.update(Running())
    with pytest.raises(TimeoutError, match=r"within 0.01 s.*Running"):
        future.result(timeout=0.01)
    future.wait(timeout=0.01)
    assert not future.done()
    future.resolve(Completed(data=2))
    assert future.result(timeout=0) == 2


def test_callbacks_are_called_at_the_end_or_at_once() -> None:
    future, seen = _future(), []
    future.add_done_callback(lambda f: seen.append(("before", f)))
    future.resolve(Completed())
    future.add_done_callback(lambda f: seen.append(("after", f)))
    assert seen == [("before", future), ("after", future)]


def test_a_state_on_the_way_is_shown_until_the_end() -> None:
    future = _future()
    assert future.state.is_pending()
    future.update(Running())
    assert future.state.is_running()
    future.resolve(Completed())
    future.update(Running())
    assert future.state.is_completed()


def test_who_waits_gives_way_only_when_there_is_something_to_wait_for() -> None:
    seen: list[str] = []

    def on_wait(_: object) -> Any:
        seen.append("pause")
        return lambda: seen.append("resume")

    future = TaskFuture(TaskRun("t", "m:t"), on_wait)
    _later(future)
    future.wait()
    future.wait()
    assert seen == ["pause", "resume"]


def test_wait_sorts_futures_into_done_and_not_done() -> None:
    done, pending = _future(1), _future()
    found = wait([done, pending], timeout=0.01)
    assert found.done == {done}
    assert found.not_done == {pending}
    first, second = found
    assert (first, second) == ({done}, {pending})


def test_as_completed_yields_each_when_it_ends() -> None:
    slow, quick = _future(), _future()
    _later(slow, "slow", 0.2)
    _later(quick, "quick", 0.01)
    assert [f.result() for f in as_completed([slow, quick])] == ["quick", "slow"]


def test_as_completed_counts_what_did_not_end_in_time() -> None:
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        list(as_completed([_future(1), _future()], timeout=0.02))


def test_a_list_of_futures_gives_its_values_in_order() -> None:
    futures = TaskFutureList([_future(), _future("b")])
    _later(futures[0], "a")
    assert futures.result() == ["a", "b"]


def test_a_list_of_futures_has_one_time_limit_for_all() -> None:
    futures = TaskFutureList([_future(1), _future(), _future()])
    with pytest.raises(TimeoutError):
        futures.result(timeout=0.02)
    futures.wait(timeout=0.01)


Pair = namedtuple("Pair", "first second")  # noqa: PYI024 - the old kind must work too


@dataclass(frozen=True)
class Box:
    content: Any
    label: str = "box"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda f: f, 7),
        (lambda f: [1, [f]], [1, [7]]),
        (lambda f: (f, "x"), (7, "x")),
        (lambda f: {f, 1}, {7, 1}),
        (lambda f: {"k": {"n": f}}, {"k": {"n": 7}}),
        (lambda f: {f: 1}, {7: 1}),
        (lambda f: OrderedDict(a=f), OrderedDict(a=7)),
        (lambda f: Pair(f, 2), Pair(7, 2)),
        (lambda f: Box([f]), Box([7])),
        (lambda f: TaskFutureList([f]), [7]),
        (unmapped, 7),
        (lambda f: allow_failure([f]), [7]),
    ],
)
def test_futures_are_found_and_replaced_wherever_they_lie(make: Any, expected: Any) -> None:
    future = _future(7)
    nest = make(future)
    assert find_futures(nest) == [future]
    replaced = replace_futures(nest, lambda f: f.result())
    assert replaced == expected
    assert type(replaced) is type(expected)


def test_a_defaultdict_keeps_its_factory() -> None:
    nest = defaultdict(list, {"a": _future(1)})
    replaced = replace_futures(nest, lambda f: f.result())
    assert replaced == {"a": 1}
    assert replaced["new"] == []


def test_what_holds_no_future_is_passed_on_as_it_is() -> None:
    value = {"a": [1, 2, (3,)]}
    assert replace_futures(value, lambda f: f) is value


def test_a_quoted_value_is_not_looked_into() -> None:
    inside = [_future()]
    assert find_futures(quote(inside)) == []
    assert replace_futures(quote(inside), lambda f: None) is inside


def test_allow_failure_uses_the_lenient_way_for_what_it_holds_only() -> None:
    strict, lenient = _future(1), _future(2)
    nest = [strict, allow_failure(lenient)]
    assert replace_futures(nest, lambda _: "s", lambda _: "l") == ["s", "l"]


def test_a_list_that_holds_itself_is_looked_into_once() -> None:
    loop: list[Any] = [object()]
    loop.append(loop)
    assert find_futures(loop) == []
