"""Task runners: how a flow runs its tasks. They are loaded when they are first used."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.task_runners.base import TaskCall, TaskRunner
    from hpc_flows.task_runners.cluster import ClusterTaskRunner, SlurmTaskRunner
    from hpc_flows.task_runners.processes import ProcessPoolTaskRunner
    from hpc_flows.task_runners.threads import ConcurrentTaskRunner, ThreadPoolTaskRunner

__all__ = [
    "ClusterTaskRunner",
    "ConcurrentTaskRunner",
    "ProcessPoolTaskRunner",
    "SlurmTaskRunner",
    "TaskCall",
    "TaskRunner",
    "ThreadPoolTaskRunner",
]

_HOMES = {
    "ClusterTaskRunner": "cluster",
    "ConcurrentTaskRunner": "threads",
    "ProcessPoolTaskRunner": "processes",
    "SlurmTaskRunner": "cluster",
    "TaskCall": "base",
    "TaskRunner": "base",
    "ThreadPoolTaskRunner": "threads",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from hpc_flows.exceptions.absent import no_such_name  # noqa: PLC0415 - once it is wrong

        raise no_such_name(__name__, name, _HOMES)
    module = __import__(f"{__name__}.{_HOMES[name]}", fromlist=[name])
    return getattr(module, name)
