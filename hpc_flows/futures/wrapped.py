"""Futures made of ids and of other libraries' futures, for task runners written for Prefect."""

from __future__ import annotations

from hpc_flows.futures import R, TaskFuture
from hpc_flows.runs import TaskRun
from hpc_flows.states import Completed, Failed, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class PrefectWrappedFuture(TaskFuture[R]):
    """The end of a task run that another future tells.

    Attributes:
        wrapped_future: the other future; what it gives is the final state, or the task's value.
    """

    __slots__ = ("wrapped_future",)

    def __init__(self, task_run_id: Any, wrapped_future: Any) -> None:
        """Make the future of the task run of that id.

        Args:
            task_run_id: id of the run, as text or a UUID.
            wrapped_future: with `add_done_callback`, `result` and `exception`, such as one of
                `concurrent.futures`.
        """
        run = TaskRun("task", "task")
        run.id = str(task_run_id)
        super().__init__(run)
        self.wrapped_future = wrapped_future
        wrapped_future.add_done_callback(self._end)

    def _end(self, ended: Any) -> None:
        self.resolve(_state_of(ended))


class PrefectConcurrentFuture(PrefectWrappedFuture[R]):
    """The end of a task run that a `concurrent.futures.Future` tells."""

    __slots__ = ()


def _state_of(ended: Any) -> State:
    """Return the final state that a future of another library tells."""
    try:
        value = ended.result()
    except BaseException as error:  # noqa: BLE001 - the state holds it
        return Failed(f"{type(error).__name__}: {error}", data=error)  # type: ignore[no-any-return]
    return value if isinstance(value, State) else Completed(data=value)
