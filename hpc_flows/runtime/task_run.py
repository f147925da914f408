"""Facts about the innermost task run: `from hpc_flows.runtime import task_run`.

`id`, `name`, `task_name`, `parameters`, `tags`, `run_count`, `api_url`, `ui_url`; the last two are
None where there is no server.
"""

from __future__ import annotations

from hpc_flows.context import current
from hpc_flows.runtime.lookup import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.runs import TaskRun


def _of_run(
    read: Callable[[RunContext, TaskRun], Any], otherwise: Callable[[], Any]
) -> Callable[[], Any]:
    def lookup() -> Any:
        context = current()
        if context is None or context.task_run is None:
            return otherwise()
        return read(context, context.task_run)

    return lookup


def _nothing() -> None:
    return None


def _zero() -> int:
    return 0


def _parameters(context: RunContext, _: TaskRun) -> dict[str, Any]:
    bound: dict[str, Any] = context.task.bind(*context.arguments)
    return bound


#: What gives each attribute its value; tests may replace one.
FIELDS: dict[str, Callable[[], Any]] = {
    "id": _of_run(lambda _, run: run.id, _nothing),
    "name": _of_run(lambda _, run: run.name, _nothing),
    "task_name": _of_run(lambda _, run: run.task_name, _nothing),
    "parameters": _of_run(_parameters, dict),
    "tags": _of_run(lambda _, run: list(run.tags), list),
    "run_count": _of_run(lambda _, run: run.run_count, _zero),
    "api_url": _nothing,
    "ui_url": _nothing,
}


def __getattr__(name: str) -> Any:
    return find("task_run", FIELDS, name)


def __dir__() -> list[str]:
    return sorted(FIELDS)
