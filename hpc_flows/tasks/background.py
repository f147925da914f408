"""Calls that no flow waits for, and that the process does not end before."""

from __future__ import annotations

import atexit

from hpc_flows.exceptions import OptionValueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.futures import TaskFuture

_unfinished: dict[str, TaskFuture] = {}


def finish_at_exit(future: TaskFuture) -> None:
    """Let the process end only after the future has."""
    _unfinished[future.task_run_id] = future
    future.add_done_callback(_forget)


def check_dependencies(owner: str, dependencies: Any) -> None:
    """Refuse what Prefect's task workers are told of the graph.

    Raises:
        OptionValueError: there are some.
    """
    if dependencies is not None:
        msg = (
            f"{owner}: apply_async() takes no dependencies; what a run needs is found among its "
            f"arguments. Give wait_for=[...] futures that it shall wait for beside them."
        )
        raise OptionValueError(msg)


def _forget(future: TaskFuture) -> None:
    _unfinished.pop(future.task_run_id, None)


@atexit.register
def _finish() -> None:
    for future in list(_unfinished.values()):
        future.wait()
