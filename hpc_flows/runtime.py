"""Facts about the run that asks: `runtime.flow_run.name`, `runtime.task_run.run_count`, and so on.

Outside of runs every attribute is None, or empty where it would be a list or a dict.
"""

from __future__ import annotations

from hpc_flows.context import current
from hpc_flows.exceptions import close_match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.runs import FlowRun, TaskRun

__all__ = ["flow_run", "task_run"]


class Facts:
    """Attributes that are looked up in the current context whenever they are asked for."""

    def __init__(self, name: str, lookups: dict[str, Callable[[], Any]]) -> None:
        self._name = name
        self._lookups = lookups

    def __getattr__(self, name: str) -> Any:
        lookup = self.__dict__.get("_lookups", {}).get(name)
        if lookup is not None:
            return lookup()
        hint = close_match(name, self.__dict__.get("_lookups", ()))
        msg = f"runtime.{self.__dict__.get('_name')} has no attribute {name!r}.{hint}"
        raise AttributeError(msg)

    def __dir__(self) -> list[str]:
        return sorted(self._lookups)

    def __repr__(self) -> str:
        return f"<runtime.{self._name}>"


def _flow_run() -> FlowRun | None:
    context = current()
    return None if context is None else context.flow_run


def _task_context() -> tuple[RunContext, TaskRun] | None:
    context = current()
    if context is None or context.task_run is None:
        return None
    return context, context.task_run


def _of_flow_run(
    read: Callable[[FlowRun], Any], otherwise: Callable[[], Any] | None = None
) -> Callable[[], Any]:
    def lookup() -> Any:
        run = _flow_run()
        if run is None:
            return None if otherwise is None else otherwise()
        return read(run)

    return lookup


def _of_task_run(
    read: Callable[[RunContext, TaskRun], Any], otherwise: Callable[[], Any] | None = None
) -> Callable[[], Any]:
    def lookup() -> Any:
        found = _task_context()
        if found is None:
            return None if otherwise is None else otherwise()
        return read(*found)

    return lookup


def _started(run: FlowRun) -> datetime:
    from datetime import UTC, datetime  # noqa: PLC0415 - not needed on the job side

    return datetime.fromtimestamp(run.created, UTC)


def _parameters(context: RunContext, _: TaskRun) -> dict[str, Any]:
    bound: dict[str, Any] = context.task.bind(*context.arguments)
    return bound


#: The innermost flow run: `id`, `name`, `flow_name`, `parameters`, `tags`, `run_count`,
#: `parent_flow_run_id`, `parent_task_run_id`, `root_flow_run_id`, `scheduled_start_time`.
flow_run = Facts(
    "flow_run",
    {
        "id": _of_flow_run(lambda run: run.id),
        "name": _of_flow_run(lambda run: run.name),
        "flow_name": _of_flow_run(lambda run: run.flow_name),
        "parameters": _of_flow_run(lambda run: dict(run.parameters), dict),
        "tags": _of_flow_run(lambda run: list(run.tags), list),
        "run_count": _of_flow_run(lambda run: run.run_count, lambda: 0),
        "parent_flow_run_id": _of_flow_run(lambda run: run.parent_flow_run_id),
        "parent_task_run_id": _of_flow_run(lambda run: run.parent_task_run_id),
        "root_flow_run_id": _of_flow_run(lambda run: run.root_id),
        "scheduled_start_time": _of_flow_run(_started),
    },
)

#: The innermost task run: `id`, `name`, `task_name`, `parameters`, `tags`, `run_count`.
task_run = Facts(
    "task_run",
    {
        "id": _of_task_run(lambda _, run: run.id),
        "name": _of_task_run(lambda _, run: run.name),
        "task_name": _of_task_run(lambda _, run: run.task_name),
        "parameters": _of_task_run(_parameters, dict),
        "tags": _of_task_run(lambda _, run: list(run.tags), list),
        "run_count": _of_task_run(lambda _, run: run.run_count, lambda: 0),
    },
)
