"""Why the client lacks what Prefect's client has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.exceptions import close_match

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Words of the names of Prefect's methods, and the reason; the first that is in a name counts.
_REASONS = (
    (("deployment", "scheduled_flow_run"), "there are no deployments in this version"),
    (("work_pool", "work_queue", "worker"), "there are no work pools in this version"),
    (("block",), "there are no blocks in this version"),
    (("automation",), "there are no automations in this version"),
    (("variable",), "variables are kept in the home folder: hpc_flows.variables.Variable"),
    (
        ("artifact",),
        "artifacts are read by hpc_flows.artifacts.Artifact.get and `hpc-flows artifact`",
    ),
    (
        ("concurrency", "slots", "lease"),
        "limits are kept in the home folder: `hpc-flows gcl` and `hpc-flows concurrency-limit`",
    ),
    (("flow_run_input",), "a paused run takes no input; a variable holds what it shall read"),
    (("default_result_storage",), "the setting results_path says where results are kept"),
    (
        ("create_flow_run", "create_task_run"),
        "a run is made by the process that drives it: call it",
    ),
    (
        ("set_task_run_state",),
        "a task run's state is what its driver and its job say; set_flow_run_state cancels a run",
    ),
    (("delete_task_run",), "task runs are deleted with their flow run: delete_flow_run"),
    (
        ("update_flow_run", "flow_run_name", "task_run_name", "flow_run_labels"),
        "a run is described by the process that drives it, and not changed afterwards",
    ),
    (("flow_run_state",), "a state has no id of its own there: read_flow_run_states has them all"),
    (("_flow",), "a flow is known by its name there: read_flow_runs(flow_filter=FlowFilter(...))"),
    (("create_log",), "log records come with the run's journal"),
)


def why_absent(kind: str, name: str, known: Iterable[str]) -> str:
    """Return why a client has no such attribute, and what to use instead."""
    hint = close_match(name, [each for each in known if not each.startswith("_")])
    if not name.startswith("_"):
        for words, reason in _REASONS:
            if any(word in name for word in words):
                return f"{kind} has no {name!r}: {reason}.{hint}"
    return f"{kind} has no attribute {name!r}.{hint}"
