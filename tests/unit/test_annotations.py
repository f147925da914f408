"""What can be said of an argument: unmapped, allow_failure, quote, opaque; states as arguments."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import pytest

from hpc_flows import flow, task
from hpc_flows.exceptions import UnfinishedRun, UpstreamTaskError
from hpc_flows.futures import TaskFuture
from hpc_flows.runs import TaskRun
from hpc_flows.states import Completed
from hpc_flows.utilities.annotations import (
    BaseAnnotation,
    NotSet,
    Quote,
    allow_failure,
    freeze,
    opaque,
    quote,
    unmapped,
)


@task
def give(x: Any) -> Any:
    return x


@task
def inside(items: list[Any]) -> str:
    return type(items[0]).__name__


@task
def states() -> Any:
    return [Completed(data=1)]


@task
def fail() -> None:
    raise ValueError("no")


@pytest.mark.parametrize("kind", [unmapped, allow_failure, quote, opaque, freeze])
def test_an_annotation_holds_a_value_and_is_shown_with_it(kind: type[BaseAnnotation]) -> None:
    said = kind(3)
    assert (said.value, said.unwrap(), repr(said)) == (3, 3, f"{kind.__name__}(3)")
    assert said.rewrap(4) == kind(4) != said
    assert len({said, kind(3)}) == 1


def test_a_quoted_value_is_passed_on_as_it_is() -> None:
    @flow
    def main() -> Any:
        future = give.submit(1)
        return inside.submit(quote([future])).result(), quote(1).unquote()

    assert main() == ("TaskFuture", 1)


def test_what_an_opaque_future_gives_is_passed_on_as_it_is() -> None:
    @flow
    def main() -> Any:
        of_state = inside.submit(opaque(states.submit())).result()
        return of_state, inside.submit(opaque([give.submit(2)])).result()

    assert main() == ("State", "TaskFuture")


def test_a_state_among_the_arguments_stands_for_its_value() -> None:
    @flow
    def main() -> Any:
        state = give(1, return_state=True)
        failed = fail(return_state=True)
        with pytest.raises(UpstreamTaskError, match="ended as Failed"):
            give.submit(failed).result()
        error = give(allow_failure([failed]))[0]
        return give(state), give.submit({"a": [state]}).result(), str(error)

    assert main() == (1, {"a": [1]}, "no")


def test_the_future_of_a_run_that_has_ended_can_be_sent_elsewhere() -> None:
    future = give.submit(5)
    future.wait()
    copy = pickle.loads(pickle.dumps(future))  # noqa: S301 - our own
    assert (copy.result(), copy.task_run_id, copy.name) == (5, future.task_run_id, future.name)


def test_a_future_that_has_not_ended_says_why_it_cannot_be_sent_elsewhere() -> None:
    with pytest.raises(UnfinishedRun, match="Give it to the task as an argument"):
        pickle.dumps(TaskFuture(TaskRun("work", "m:work")))


def test_a_future_of_a_flow_that_has_ended_or_still_runs_can_be_an_argument() -> None:
    held: list[Any] = []
    submitted, go_on = threading.Event(), threading.Event()

    @task
    def wait() -> int:
        assert go_on.wait(60)
        return 2

    @flow
    def ended() -> None:
        held.append(give.submit(1))

    @flow
    def running() -> None:
        held.append(wait.submit())
        submitted.set()

    @flow
    def main() -> Any:
        later = give.submit(held[1])
        go_on.set()
        return give(held[0]), later.result(), give(held[1])

    ended()
    thread = threading.Thread(target=running)
    thread.start()
    assert submitted.wait(60)
    assert main() == (1, 2, 2)
    thread.join()


def test_prefects_other_names_are_there() -> None:
    assert Quote is quote
    assert isinstance(NotSet, type)
