"""Waiting for flow runs that other processes drive, by what their journals say."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

from hpc_flows.awaiting import is_awaited
from hpc_flows.exceptions import FlowRunWaitTimeout, MissingResult, UnfinishedRun
from hpc_flows.journal.index import find_run, summarise
from hpc_flows.logging import get_logger
from hpc_flows.runs import FlowRun
from hpc_flows.settings import get_settings
from hpc_flows.states import Pending, State, StateType, StoredValue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.journal.index import RunSummary

__all__ = ["wait_for_flow_run"]


def wait_for_flow_run(
    flow_run_id: Any,
    timeout: float | None = 10800,
    poll_interval: float = 5,
    log_states: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
) -> Any:
    """Wait until a flow run of this user has ended, whoever drives it, and return it.

    `await wait_for_flow_run(...)` does the same and lets others run meanwhile.

    Args:
        flow_run_id: id of a run that is no subflow's, or its beginning, or the run's name.
        timeout: seconds to wait; None waits as long as it takes.
        poll_interval: seconds between two looks at the journal.
        log_states: whether each new state is logged.

    Returns:
        A `FlowRun` with its final `state`.

    Raises:
        UnknownRun: there is no such run.
        FlowRunWaitTimeout: it has not ended in time.
        UnfinishedRun: its driver has died, so that it will not end by itself.
    """
    looks = _looks(str(flow_run_id), timeout, poll_interval, log_states=log_states)
    if is_awaited(sys._getframe(1)):  # noqa: SLF001 - the only way to the caller
        return _wait_in_asyncio(looks)
    for look in looks:
        if isinstance(look, FlowRun):
            return look
        time.sleep(look)
    return None


async def _wait_in_asyncio(looks: Iterator[float | FlowRun]) -> FlowRun | None:
    for look in looks:
        if isinstance(look, FlowRun):
            return look
        await asyncio.sleep(look)
    return None


def _looks(
    wanted: str, timeout: float | None, pause: float, *, log_states: bool
) -> Iterator[float | FlowRun]:
    """Look at the run and yield how long to wait before the next look; return the ended run."""
    folder = find_run(get_settings().home, wanted)
    deadline = None if timeout is None else time.monotonic() + timeout
    told = None
    while True:
        summary = summarise(folder)
        if log_states and summary.state_name != told:
            told = summary.state_name
            get_logger("flow_runs").info("Flow run %r is in state %s", summary.name, told)
        state = _state_of(summary)
        if state.is_final():
            yield _run_of(summary, state)
            return
        _check_driver(summary)
        left = pause if deadline is None else deadline - time.monotonic()
        if left <= 0:
            msg = (
                f"Flow run {summary.name!r} exceeded the time limit of {timeout} seconds; it is in "
                f"state {state!r}."
            )
            raise FlowRunWaitTimeout(msg)
        yield min(pause, left)


def _check_driver(summary: RunSummary) -> None:
    if summary.alive is False:
        msg = (
            f"The driver of flow run {summary.name!r} (process {summary.pid} on {summary.host}) "
            f"has died and left it in state {summary.state_name}."
        )
        raise UnfinishedRun(msg)


def _state_of(summary: RunSummary) -> State:
    if summary.state_type is None:
        state: State = Pending()
        return state
    return State(
        StateType(summary.state_type),
        summary.state_name,
        summary.message,
        data=_Elsewhere(summary) if summary.state_type == StateType.COMPLETED else None,
        epoch=summary.ended or summary.started,
    )


def _run_of(summary: RunSummary, state: State) -> FlowRun:
    run = FlowRun(summary.flow, summary.name)
    run.id = run.root_id = summary.id
    run.created = summary.created or run.created
    run.state = state
    state.belongs_to("flow", run.id)
    return run


class _Elsewhere(StoredValue):
    """The value of a flow run, which its own process had."""

    __slots__ = ("_name",)

    def __init__(self, summary: RunSummary) -> None:
        self._name = summary.name

    def get(self) -> Any:
        msg = (
            f"The value of flow run {self._name!r} was returned to the process that called the "
            f"flow. Have the flow write what others need, or decorate a task with "
            f"@task(persist_result=True, result_storage_key=...)."
        )
        raise MissingResult(msg)
