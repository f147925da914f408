"""What `pause_flow_run` does in the flow that calls it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hpc_flows.context import current
from hpc_flows.engine.pausing import PERIOD, Pause, is_held, pause, resume
from hpc_flows.exceptions import FlowPauseTimeout, MissingContextError, OptionValueError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.context import RootRun, RunContext
    from hpc_flows.runs import FlowRun

#: Keys of pauses that were waited for to their end, as (flow run id, key), by root run.
_passed: set[tuple[str, str]] = set()


def steps(timeout: float, poll_interval: float, key: str | None) -> Iterator[float]:
    """Pause the caller's flow run, and yield how long to wait before each look, until it goes on.

    Raises:
        FlowPauseTimeout: nobody resumed it in time.
        MissingContextError: the caller is no flow, or runs where no request is heard.
        OptionValueError: a number makes no sense.
    """
    _check(timeout, poll_interval)
    context = _calling_flow()
    run: FlowRun = context.flow_run  # type: ignore[assignment]
    if key is not None and (run.id, key) in _passed:
        return iter(())
    return _waits(context.root, run, timeout, min(poll_interval, PERIOD), key)


def _check(timeout: float, poll_interval: float) -> None:
    for name, value in (("timeout", timeout), ("poll_interval", poll_interval)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            msg = f"{name} of pause_flow_run is a number of seconds above 0, not {value!r}."
            raise OptionValueError(msg)


def _calling_flow() -> RunContext:
    context = current()
    if context is None or context.flow_run is None:
        msg = (
            "Flow runs can only be paused from within a flow run, by this function. From outside, "
            "`hpc-flows flow-run pause RUN` pauses one."
        )
        raise MissingContextError(msg)
    if context.task_run is not None:
        msg = "A task run cannot be paused. Call pause_flow_run() in the flow."
        raise MissingContextError(msg)
    if context.root.flows is None:
        msg = (
            "This flow runs inside a task, in a job or a worker process, where no request to go on "
            "would be heard. Pause in the flow that submits the task."
        )
        raise MissingContextError(msg)
    return context


def _waits(
    root: RootRun, run: FlowRun, timeout: float, between: float, key: str | None
) -> Iterator[float]:
    deadline = time.monotonic() + timeout
    pause(root, run.id, Pause(f"Paused by pause_flow_run(), for at most {timeout:g} s."))
    while is_held(root, run):
        if time.monotonic() >= deadline and run.id in root.pauses:
            resume(root, run.id, f"Nobody resumed it within {timeout:g} s.")
            msg = (
                f"Flow run {run.name!r} was paused, and nobody resumed it within {timeout:g} "
                f"seconds. `hpc-flows flow-run resume {run.name}` does."
            )
            raise FlowPauseTimeout(msg)
        yield between
    if key is not None:
        _passed.add((run.id, key))
