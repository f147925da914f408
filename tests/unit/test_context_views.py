"""Prefect's names for what is around the code that asks."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any, ClassVar

import pytest

from hpc_flows import flow, tags, task
from hpc_flows.context import (
    ContextModel,
    FlowRunContext,
    SettingsContext,
    TagsContext,
    TaskRunContext,
    get_run_context,
    get_settings_context,
    hydrated_context,
    serialize_context,
)
from hpc_flows.exceptions import MissingContextError
from hpc_flows.results import should_persist_result
from hpc_flows.settings import get_settings


class Example(ContextModel):
    __var__: ClassVar[ContextVar[Any]] = ContextVar("example")
    x: int


def test_flow_and_task_see_their_runs() -> None:
    @task(task_run_name="named")
    def inner(a: int, b: int = 2) -> Any:
        mine, outer = TaskRunContext.get(), FlowRunContext.get()
        assert mine is not None
        assert outer is not None
        assert mine.task is inner
        assert mine.log_prints is True
        assert mine.start_time.tzinfo is not None
        here: Any = get_run_context()
        return here.task_run.name, mine.parameters, outer.flow_run.name

    @flow(log_prints=True, flow_run_name="fine")
    def outer(p: int) -> Any:
        mine = get_run_context()
        assert isinstance(mine, FlowRunContext)
        assert (mine.flow, mine.parameters, mine.persist_result) == (outer, {"p": p}, False)
        assert TaskRunContext.get() is None
        assert not should_persist_result()
        return inner(1)

    assert outer(3) == ("named", {"a": 1, "b": 2}, "fine")


def test_persistence_is_seen() -> None:
    @task(persist_result=True)
    def keeps() -> Any:
        return should_persist_result()

    @task(persist_result=False)
    def drops() -> Any:
        return should_persist_result()

    @flow(persist_result=True)
    def run() -> list[bool]:
        return [should_persist_result(), keeps(), drops(), task(should_persist_result)()]

    assert run() == [True, True, False, True]
    assert not should_persist_result()


def test_a_flow_in_a_task_sees_itself() -> None:
    @flow
    def inner() -> str:
        found = FlowRunContext.get()
        assert found is not None
        here: Any = get_run_context()
        assert here.flow is inner
        return str(found.flow.name)

    @task
    def around() -> Any:
        return inner()

    assert flow(around)() == "inner"


def test_outside_of_runs_there_is_nothing() -> None:
    assert FlowRunContext.get() is None
    assert TaskRunContext.get() is None
    assert TagsContext.get().current_tags == set()
    assert get_settings_context().settings is get_settings()
    with pytest.raises(MissingContextError, match="No run context available"):
        get_run_context()
    with tags("a", "b"):
        assert TagsContext.get().current_tags == {"a", "b"}


def test_async_flows_see_their_runs() -> None:
    @flow
    async def run() -> str:
        here: Any = get_run_context()
        return str(here.flow_run.name)

    assert asyncio.run(run())


def test_what_was_serialized_is_seen_again() -> None:
    seen = serialize_context()
    assert seen["flow_run_context"] == seen["tags_context"] == {}
    assert seen["settings_context"] == SettingsContext.get().serialize()

    @flow
    def run(p: int) -> Any:
        with tags("x"):
            return serialize_context()

    found = run(5)
    with hydrated_context(found):
        again = FlowRunContext.get()
        assert again is not None
        assert again.parameters == {"p": 5}
        assert TagsContext.get().current_tags == {"x"}
    assert FlowRunContext.get() is None
    with hydrated_context({}):
        assert FlowRunContext.get() is None


def test_contexts_of_ones_own() -> None:
    with pytest.raises(ValueError, match="x must be int"):
        Example(x="hello")
    one = Example(x=1)
    with one:
        assert Example.get() is one
        with pytest.raises(RuntimeError, match="already entered"):
            one.__enter__()
        with one.model_copy(update={"x": 2}):
            assert Example.get().x == 2
    assert Example.get() is None
    with pytest.raises(RuntimeError, match="Asymmetric"):
        one.__exit__()
