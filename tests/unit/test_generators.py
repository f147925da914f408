"""Tasks that are generator functions: values arrive one by one, or as a list when submitted."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, tags, task
from hpc_flows.context import current
from hpc_flows.exceptions import CrashedRun, OptionValueError, ParameterBindError
from hpc_flows.journal.reader import read_run
from hpc_flows.runtime import task_run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path


def _states(home: Path) -> list[str]:
    """Return the names of the states of all task runs of the test, in order."""
    return [
        event.data["name"]
        for folder in sorted((home / "runs").iterdir())
        for event in read_run(str(folder))
        if event.kind == "state" and event.data["subject"] == "task"
    ]


@task
def count(n: int) -> Generator[int, None, str]:
    yield from range(n)
    return "end"


@task
async def acount(n: int) -> AsyncGenerator[int, None]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


def test_values_are_made_as_they_are_asked_for(home: Path) -> None:
    made = []

    @task
    def numbers() -> Generator[int, None, None]:
        for i in range(3):
            made.append(i)
            yield i

    values = numbers()
    assert (made, list((home / "runs").glob("*"))) == ([], [])
    assert next(values) == 0
    assert (made, _states(home)) == ([0], ["Running"])
    assert list(values) == [1, 2]
    assert _states(home) == ["Running", "Completed"]


def test_a_generators_return_value_comes_with_its_end() -> None:
    values = count(1)
    assert next(values) == 0
    with pytest.raises(StopIteration) as end:
        next(values)
    assert end.value.value == "end"


def test_an_async_generator_that_is_left_early_has_completed(home: Path) -> None:
    async def main() -> None:
        async for _ in acount(3):
            break

    asyncio.run(main())
    assert _states(home) == ["Running", "Completed"]


def test_a_submitted_generator_gives_a_list() -> None:
    @flow
    def main() -> Any:
        return count.submit(2).result(), acount.submit(2).result(), count.map([1, 2]).result()

    assert main() == ([0, 1], [0, 1], [[0], [0, 1]])
    assert count.submit(2, return_state=True).result() == [0, 1]


def test_an_async_generator_is_iterated_over_with_async_for(home: Path) -> None:
    async def main() -> list[int]:
        return [value async for value in acount(3)]

    assert asyncio.run(main()) == [0, 1, 2]
    assert _states(home) == ["Running", "Completed"]


def test_a_generator_in_a_flow_belongs_to_it() -> None:
    @flow
    def main() -> Any:
        return [value + later for value in count(3) for later in count(1)]

    assert main() == [0, 1, 2]


def test_a_failed_generator_begins_again_when_it_has_retries(home: Path) -> None:
    @task(retries=1)
    def numbers() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise ValueError("xyz")

    values = numbers()
    assert [next(values) for _ in range(4)] == [1, 2, 1, 2]
    with pytest.raises(ValueError, match="xyz"):
        next(values)
    assert _states(home) == ["Running", "AwaitingRetry", "Retrying", "Failed"]


def test_a_failed_async_generator_raises_what_it_failed_with() -> None:
    @task
    async def numbers() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("xyz")

    async def main() -> None:
        values = numbers()
        assert await anext(values) == 1
        with pytest.raises(ValueError, match="xyz"):
            await anext(values)

    asyncio.run(main())


def test_a_generator_that_is_left_early_is_closed_and_has_completed(home: Path) -> None:
    closed = []

    @task
    def numbers() -> Generator[int, None, None]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    values = numbers()
    assert next(values) == 1
    values.close()
    assert closed == [True]
    assert _states(home) == ["Running", "Completed"]


def test_what_the_caller_sends_and_throws_reaches_the_generator() -> None:
    @task
    def echo() -> Generator[Any, Any, None]:
        got = yield "first"
        try:
            yield got
        except KeyError as error:
            yield repr(error)

    values = echo()
    assert next(values) == "first"
    assert values.send("sent") == "sent"
    assert values.throw(KeyError("thrown")) == "KeyError('thrown')"


def test_the_callers_own_time_is_no_part_of_a_generators_time_limit() -> None:
    @task(timeout_seconds=1)
    def numbers() -> Generator[int, None, None]:
        yield 1
        yield 2
        time.sleep(300)
        yield 3

    values = numbers()
    for expected in (1, 2):
        assert next(values) == expected
        time.sleep(0.7)
    with pytest.raises(TimeoutError):
        next(values)


def test_an_async_generators_time_is_limited() -> None:
    @task(timeout_seconds=0.2)
    async def numbers() -> AsyncGenerator[int, None]:
        yield 1
        await asyncio.sleep(60)
        yield 2

    async def main() -> None:
        values = numbers()
        assert await anext(values) == 1
        with pytest.raises(TimeoutError):
            await anext(values)

    asyncio.run(main())


def test_a_generator_runs_in_its_own_context_and_its_caller_in_theirs() -> None:
    @task
    def numbers() -> Generator[Any, None, None]:
        with tags("inside"):
            yield task_run.name, inner.submit().task_run.tags
            yield task_run.name, inner.submit().task_run.tags

    @task
    def inner() -> None:
        pass

    @flow
    def main() -> None:
        for name, inside in numbers():
            assert name.startswith("numbers-")
            assert inside == ("inside",)
            assert task_run.name is None
            assert inner.submit().task_run.tags == ()

    main()


def test_a_task_that_returns_the_call_of_a_generator_gives_its_list() -> None:
    @task
    def outer() -> Any:
        return count(3)

    assert outer() == [0, 1, 2]


def test_a_generator_has_no_state_before_it_has_run() -> None:
    with pytest.raises(OptionValueError, match="return_type for a generator task must be 'result'"):
        count(1, return_state=True)


def test_a_wrong_call_of_a_generator_is_told_before_the_first_value() -> None:
    with pytest.raises(ParameterBindError, match="missing a required argument: 'n'"):
        count()


def test_a_generator_waits_for_futures_among_its_arguments() -> None:
    @task
    def size() -> int:
        return 2

    @flow
    def main() -> Any:
        return list(count(size.submit()))

    assert main() == [0, 1]


def test_a_generator_may_have_resources_and_be_a_method() -> None:
    class Model:
        @task(resources={"cpus": 1})
        def letters(self, text: str) -> Generator[str, None, None]:
            yield from text

    @flow
    def main() -> Any:
        return list(Model().letters("ab"))

    assert main() == ["a", "b"]


def test_the_end_of_a_flow_closes_the_generators_that_are_not_used_up(home: Path) -> None:
    held: list[Any] = []
    closed: list[str] = []

    @task
    def numbers(name: str) -> Generator[int, None, None]:
        try:
            yield from range(3)
        finally:
            closed.append(name)

    @flow
    def main() -> None:
        for name in ("first", "second", "used up"):
            values = numbers(name)
            next(values)
            held.append(values)
        list(held[2])
        held.append(numbers("never begun"))

    main()
    assert closed == ["used up", "second", "first"]
    assert sorted(_states(home)) == ["Completed"] * 3 + ["Running"] * 3
    with pytest.raises(CrashedRun, match="the flow run that it belongs to has ended"):
        next(held[0])
    held[1].close()
    assert next(held[2], "no more") == "no more"


@pytest.mark.parametrize("end", [ValueError, KeyboardInterrupt])
def test_a_generator_ends_with_a_flow_that_fails_or_is_interrupted(
    home: Path, end: type[BaseException]
) -> None:
    held: list[Any] = []

    @flow
    def main() -> None:
        held.append(count(3))
        next(held[0])
        raise end("now")

    with pytest.raises(end):
        main()
    assert _states(home) == ["Running", "Completed"]


def test_a_generator_that_cannot_be_closed_fails_and_its_flow_does_not(home: Path) -> None:
    held: list[Any] = []

    @task(retries=1)
    def stubborn() -> Generator[int, None, None]:
        try:
            yield 1
        finally:
            raise ValueError("not now")

    @flow
    def main() -> str:
        held.append(stubborn())
        next(held[0])
        return "done"

    assert main() == "done"
    assert _states(home) == ["Running", "AwaitingRetry", "Retrying", "Failed"]


@pytest.mark.parametrize("in_loop", [True, False])
def test_async_generators_are_closed_at_the_end_of_their_flow(
    home: Path,
    in_loop: bool,  # noqa: FBT001 - pytest gives it by name
) -> None:
    held: list[Any] = []
    closed: list[bool] = []

    @task
    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    @flow
    async def main() -> None:
        held.append(numbers())
        await anext(held[0])

    @flow
    def plain() -> None:
        held.append(numbers())
        loop.run_until_complete(anext(held[0]))

    loop = asyncio.new_event_loop()
    if in_loop:
        loop.run_until_complete(main())
    else:
        plain()
    loop.run_until_complete(held[0].aclose())
    loop.close()
    assert closed == [True]
    assert _states(home) == ["Running", "Completed"]


def test_a_generator_that_is_dropped_is_forgotten_by_its_flow() -> None:
    kept: list[Any] = []

    @flow
    def main() -> None:
        for _ in range(5):
            next(count(3))
        kept.append(current().submitted.lent)  # type: ignore[union-attr]

    main()
    assert kept == [{}]
