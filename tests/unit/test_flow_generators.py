"""Flows that are generator functions give their values one by one, and end as other flows do."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, task
from hpc_flows.exceptions import FlowRunTimeoutError, ParameterError
from hpc_flows.journal.reader import read_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@task
def double(x: int) -> int:
    return 2 * x


def _states(home: Path) -> list[str]:
    (folder,) = (home / "runs").iterdir()
    events = [e.data for e in read_run(str(folder)) if e.kind == "state"]
    return [e["name"] for e in events if e["subject"] == "flow"]


def test_values_come_as_they_are_asked_for(home: Path) -> None:
    made: list[int] = []

    @flow
    def count(n: int) -> Iterator[int]:
        for x in range(n):
            made.append(x)
            yield double(x)

    values = count("3")
    assert next(values) == 0
    assert made == [0]
    assert _states(home) == ["Pending", "Running"]
    assert list(values) == [2, 4]
    assert _states(home) == ["Pending", "Running", "Completed"]


def test_an_async_generator_is_a_flow() -> None:
    @flow
    async def count(n: int) -> AsyncIterator[int]:
        for x in range(n):
            await asyncio.sleep(0)
            yield double(x)

    async def main() -> list[int]:
        return [value async for value in count(3)]

    assert asyncio.run(main()) == [0, 2, 4]


def test_what_a_generator_raises_fails_the_flow_and_is_not_tried_again_for_its_caller(
    home: Path,
) -> None:
    @flow
    def fails() -> Iterator[int]:
        yield 1
        raise ValueError("half way")

    values = fails()
    assert next(values) == 1
    with pytest.raises(ValueError, match="half way"):
        next(values)
    assert _states(home)[-1] == "Failed"


def test_a_caller_who_wants_no_more_ends_the_flow(home: Path) -> None:
    closed: list[bool] = []

    @flow
    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    values = endless()
    next(values)
    values.close()
    assert closed == [True]
    assert _states(home)[-1] == "Completed"


def test_the_time_limit_counts_what_the_generator_takes() -> None:
    @flow(timeout_seconds=0.2)
    def slow() -> Iterator[int]:
        yield 1
        time.sleep(300)

    values = slow()
    assert next(values) == 1
    with pytest.raises(FlowRunTimeoutError):
        next(values)


def test_a_generator_has_no_state_to_return() -> None:
    @flow
    def count() -> Iterator[int]:
        yield 1

    with pytest.raises(ParameterError, match="must be 'result'"):
        count(return_state=True)


def test_arguments_of_a_generator_are_checked_at_the_call() -> None:
    @flow
    def count(n: int) -> Iterator[int]:
        yield n

    with pytest.raises(ParameterError, match="missing a required argument"):
        count()


def test_a_generator_flow_can_be_a_method() -> None:
    class Study:
        def __init__(self, n: int) -> None:
            self.n = n

        @flow
        def count(self) -> Any:
            yield from range(self.n)

    assert list(Study(2).count()) == [0, 1]
