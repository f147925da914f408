"""What surrounds running code, and what `runtime` tells of it."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest

from hpc_flows import flow, runtime, tags, task
from hpc_flows.context import current
from hpc_flows.exceptions import ParameterError

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


def test_there_is_no_context_outside_of_runs() -> None:
    assert current() is None
    assert (runtime.flow_run.id, runtime.flow_run.tags, runtime.flow_run.parameters) == (
        None,
        [],
        {},
    )
    assert (runtime.task_run.name, runtime.task_run.run_count) == (None, 0)


def test_runtime_tells_of_the_flow_run_and_the_task_run() -> None:
    @task(tags=["t"])
    def work(x: int, y: int = 2) -> Any:
        facts = runtime.task_run
        assert facts.name == f"work-{facts.id[:3]}"
        return facts.task_name, facts.parameters, facts.tags, facts.run_count, runtime.flow_run.name

    @flow(flow_run_name="named")
    def main(n: int) -> Any:
        assert runtime.task_run.id is None
        facts = runtime.flow_run
        assert (facts.flow_name, facts.parameters, facts.run_count) == ("main", {"n": 3}, 1)
        assert facts.root_flow_run_id == facts.id
        assert facts.scheduled_start_time.tzinfo is not None
        return work(1), work.submit(1).result()

    expected = ("work", {"x": 1, "y": 2}, ["t"], 1, "named")
    assert main(3) == (expected, expected)


def test_a_subflow_sees_itself_and_its_parent() -> None:
    @flow
    def inner() -> Any:
        return runtime.flow_run.flow_name, runtime.flow_run.parent_flow_run_id

    @flow
    def main() -> Any:
        assert inner() == ("inner", runtime.flow_run.id)
        return runtime.flow_run.flow_name

    assert main() == "main"


def test_an_unknown_fact_gets_the_close_match() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'run_cont'. Did you mean 'run_count'"):
        _ = runtime.task_run.run_cont
    assert "flow_name" in dir(runtime.flow_run)


def test_the_context_is_left_when_a_run_has_ended() -> None:
    @flow
    def main() -> None:
        raise ValueError

    main(return_state=True)
    assert current() is None


def test_context_variables_of_the_users_reach_submitted_tasks() -> None:
    @task
    def work() -> str:
        return request_id.get()

    @flow
    def main() -> Any:
        token = request_id.set("mine")
        found = [work.submit() for _ in range(2)]
        request_id.reset(token)
        return [future.result() for future in found]

    assert main() == ["mine", "mine"]


def test_tags_that_are_given_as_a_list_are_refused() -> None:
    wrong: Any = ["a", "b"]
    with pytest.raises(ParameterError, match=r'as in tags\("a", "b"\)'):
        tags(wrong)
