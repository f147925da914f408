"""The message that has a worker process call a task, and what to say when it cannot be made."""

from __future__ import annotations

from hpc_flows.exceptions import PayloadError
from hpc_flows.runs import FlowRun
from hpc_flows.serializers.pickle import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from hpc_flows.context import RunContext


def greeting_of(told: dict[str, Any]) -> list[bytes]:
    """Return the first message for a worker, with the initializer of the pool.

    Raises:
        PayloadError: the initializer or its arguments cannot be sent.
    """
    try:
        return [dumps(told)]
    except Exception as error:  # noqa: BLE001 - whatever a user's __reduce__ raises
        msg = (
            f"The initializer of the process pool, or one of its initargs, cannot be sent to a "
            f"worker process: {error}. Have the initializer make there what cannot be sent."
        )
        raise PayloadError(msg) from None


def message_of(context: RunContext, bodies: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """Return the message that has a worker call a context's task, once for each body.

    A body holds the run, what to add to its count of attempts, the arguments, and those by name.
    """
    task, rest = context.task, (context.tags, context.log_prints)
    return [
        _pickled(task, "Task", task),
        _pickled_setting(context.flow_run, rest),
        *(_pickled_body(task, body) for body in bodies),
    ]


def _pickled_body(task: Any, body: tuple[Any, ...]) -> bytes:
    try:
        return dumps(body)
    except Exception as error:  # noqa: BLE001 - whatever a user's __reduce__ raises
        from hpc_flows.jobs.packing import blame_argument  # noqa: PLC0415 - only for what fails

        told = blame_argument(task.name, body[2], body[3], "a worker process")
        raise PayloadError(told or f"A call of task {task.name!r}: {error}") from None


def _pickled(task: Any, what: str, value: Any) -> bytes:
    try:
        return dumps(value)
    except Exception as error:  # noqa: BLE001 - whatever its own methods raise
        msg = f"{what} {task.name!r} cannot be sent to a worker process: {error}"
        raise PayloadError(msg) from None


def _pickled_setting(flow_run: FlowRun | None, rest: tuple[Any, ...]) -> bytes:
    """Pickle what is around a task, without the flow's parameters where they cannot be pickled."""
    try:
        return dumps((flow_run, *rest))
    except Exception:  # noqa: BLE001 - whatever the parameters' own methods raise
        return dumps((_bare(flow_run), *rest))


def _bare(flow_run: FlowRun | None) -> FlowRun | None:
    if flow_run is None:
        return None
    bare = FlowRun(flow_run.flow_name, flow_run.name, tags=flow_run.tags, root_id=flow_run.root_id)
    bare.id = flow_run.id
    return bare
