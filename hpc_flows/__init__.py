"""Prefect-style flows whose every task gets its own piece of a cluster.

The names are loaded when they are first used, so that each program and each job pays only for
what it uses.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows._version import __version__
    from hpc_flows.client.orchestration import get_client
    from hpc_flows.context import tags
    from hpc_flows.flow_runs import (
        apause_flow_run,
        aresume_flow_run,
        asuspend_flow_run,
        pause_flow_run,
        resume_flow_run,
        suspend_flow_run,
    )
    from hpc_flows.flows import Flow, flow
    from hpc_flows.futures import allow_failure, unmapped
    from hpc_flows.logging import get_run_logger
    from hpc_flows.resources import Resources
    from hpc_flows.shell import ShellOperation, shell_run_command
    from hpc_flows.states import State
    from hpc_flows.tasks import Task, task
    from hpc_flows.transactions import Transaction

__all__ = [
    "Flow",
    "Resources",
    "ShellOperation",
    "State",
    "Task",
    "Transaction",
    "__version__",
    "allow_failure",
    "apause_flow_run",
    "aresume_flow_run",
    "asuspend_flow_run",
    "flow",
    "get_client",
    "get_run_logger",
    "pause_flow_run",
    "resume_flow_run",
    "shell_run_command",
    "suspend_flow_run",
    "tags",
    "task",
    "unmapped",
]

_HOMES = {
    "Flow": "flows",
    "Resources": "resources",
    "ShellOperation": "shell",
    "State": "states",
    "Task": "tasks",
    "Transaction": "transactions",
    "__version__": "_version",
    "allow_failure": "futures",
    "apause_flow_run": "flow_runs",
    "aresume_flow_run": "flow_runs",
    "asuspend_flow_run": "flow_runs",
    "flow": "flows",
    "get_client": "client.orchestration",
    "get_run_logger": "logging",
    "pause_flow_run": "flow_runs",
    "resume_flow_run": "flow_runs",
    "shell_run_command": "shell",
    "suspend_flow_run": "flow_runs",
    "tags": "context",
    "task": "tasks",
    "unmapped": "futures",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from hpc_flows.exceptions.absent import no_such_name  # noqa: PLC0415 - once it is wrong

        raise no_such_name(__name__, name, _HOMES)
    module = __import__(f"hpc_flows.{_HOMES[name]}", fromlist=[name])
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
