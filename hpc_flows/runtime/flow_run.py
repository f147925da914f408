"""Facts about the innermost flow run: `from hpc_flows.runtime import flow_run`.

`id`, `name`, `flow_name`, `flow_version`, `parameters`, `tags`, `run_count`,
`scheduled_start_time`, `parent_flow_run_id`, `parent_task_run_id`, `root_flow_run_id`,
`parent_deployment_id`, `job_variables`, `api_url`, `ui_url`; the last four are None where there is
no deployment and no server.
"""

from __future__ import annotations

from hpc_flows.context import current
from hpc_flows.runtime.lookup import find, id_of_flow_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Any

    from hpc_flows.runs import FlowRun


def _of_run(read: Callable[[FlowRun], Any], otherwise: Callable[[], Any]) -> Callable[[], Any]:
    def lookup() -> Any:
        context = current()
        run = None if context is None else context.flow_run
        return otherwise() if run is None else read(run)

    return lookup


def _nothing() -> None:
    return None


def _zero() -> int:
    return 0


def _scheduled() -> datetime:
    from datetime import UTC, datetime  # noqa: PLC0415 - only for those who ask

    context = current()
    run = None if context is None else context.flow_run
    return datetime.now(UTC) if run is None else datetime.fromtimestamp(run.created, UTC)


def _version() -> str | None:
    context = current()
    flow = None if context is None else context.flow
    version: str | None = getattr(flow, "version", None)
    return version


#: What gives each attribute its value; tests may replace one.
FIELDS: dict[str, Callable[[], Any]] = {
    "id": id_of_flow_run,
    "name": _of_run(lambda run: run.name, _nothing),
    "flow_name": _of_run(lambda run: run.flow_name, _nothing),
    "flow_version": _version,
    "parameters": _of_run(lambda run: dict(run.parameters), dict),
    "tags": _of_run(lambda run: list(run.tags), list),
    "run_count": _of_run(lambda run: run.run_count, _zero),
    "scheduled_start_time": _scheduled,
    "parent_flow_run_id": _of_run(lambda run: run.parent_flow_run_id, _nothing),
    "parent_task_run_id": _of_run(lambda run: run.parent_task_run_id, _nothing),
    "root_flow_run_id": _of_run(lambda run: run.root_id, _nothing),
    "parent_deployment_id": _nothing,
    "job_variables": _nothing,
    "api_url": _nothing,
    "ui_url": _nothing,
}


def __getattr__(name: str) -> Any:
    return find("flow_run", FIELDS, name)


def __dir__() -> list[str]:
    return sorted(FIELDS)
