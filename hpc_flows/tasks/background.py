"""Calls that no flow waits for, and that the process does not end before."""

from __future__ import annotations

import atexit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpc_flows.futures import TaskFuture

_unfinished: dict[str, TaskFuture] = {}


def finish_at_exit(future: TaskFuture) -> None:
    """Let the process end only after the future has."""
    _unfinished[future.task_run_id] = future
    future.add_done_callback(_forget)


def _forget(future: TaskFuture) -> None:
    _unfinished.pop(future.task_run_id, None)


@atexit.register
def _finish() -> None:
    for future in list(_unfinished.values()):
        future.wait()
