"""Runs tasks with parameters by name, as Prefect's module of this name does."""

from __future__ import annotations

from hpc_flows.engine.parameters import defaults_of, unbind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    from hpc_flows.tasks import Task

    Return = Literal["result", "state"]


def run_task(
    task: Task[..., Any],
    parameters: Mapping[str, Any] | None = None,
    wait_for: Any = None,
    return_type: Return = "result",
) -> Any:
    """Call a task: returns its value, or what gives it to `await` if the task is async.

    Args:
        task: the task.
        parameters: the arguments by the names of the function's parameters.
        wait_for: futures to wait for before it starts.
        return_type: `state` to have the final state instead of the value.
    """
    args, kwargs = unbind(task.fn, {**defaults_of(task.fn), **(parameters or {})})
    return task(*args, return_state=return_type == "state", wait_for=wait_for, **kwargs)


def run_task_sync(
    task: Task[..., Any],
    parameters: Mapping[str, Any] | None = None,
    wait_for: Any = None,
    return_type: Return = "result",
) -> Any:
    """Call a task that is a plain function, as `run_task` does."""
    return run_task(task, parameters, wait_for, return_type)


async def run_task_async(
    task: Task[..., Any],
    parameters: Mapping[str, Any] | None = None,
    wait_for: Any = None,
    return_type: Return = "result",
) -> Any:
    """Call a task that is a coroutine function, as `run_task` does, and await it."""
    return await run_task(task, parameters, wait_for, return_type)
