"""Waiting for flow runs that other processes drive, and pausing flow runs.

What runs elsewhere is known by its journal, and is asked through files in its run's folder.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

from hpc_flows.awaiting import is_awaited
from hpc_flows.exceptions import (
    FlowRunWaitTimeout,
    MissingResult,
    NotPausedError,
    OptionValueError,
    SuspendError,
    UnfinishedRun,
)
from hpc_flows.journal.index import find_run, summarise
from hpc_flows.logging import get_logger
from hpc_flows.runs import FlowRun
from hpc_flows.settings import get_settings
from hpc_flows.states import Pending, State, StateType, StoredValue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.journal.index import RunSummary

__all__ = [
    "apause_flow_run",
    "aresume_flow_run",
    "asuspend_flow_run",
    "pause_flow_run",
    "resume_flow_run",
    "suspend_flow_run",
    "wait_for_flow_run",
]


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


# Pausing ------------------------------------------------------------------------------------------


def pause_flow_run(
    wait_for_input: Any = None,
    timeout: float = 3600,
    poll_interval: float = 10,
    key: str | None = None,
) -> Any:
    """Pause the flow run that calls this, until somebody resumes it.

    Nothing new begins in it meanwhile, neither task runs nor jobs; what runs goes on to its end.
    `resume_flow_run`, `hpc-flows flow-run resume` and the page let it go on. `await
    pause_flow_run(...)` does the same and lets others run meanwhile.

    Args:
        wait_for_input: None; a flow run takes no input here.
        timeout: seconds after which the flow gets FlowPauseTimeout instead.
        poll_interval: most seconds between two looks whether it may go on.
        key: a flow that is tried again does not stop at a pause of this key that was over once.

    Raises:
        FlowPauseTimeout: nobody resumed it in time.
        MissingContextError: called outside of a flow, in a task, or in a job.
        OptionValueError: `wait_for_input` is given, or a number makes no sense.
    """
    _refuse("wait_for_input", wait_for_input)
    waits = _pauses(timeout, poll_interval, key)
    if is_awaited(sys._getframe(1)):  # noqa: SLF001 - the only way to the caller
        return _pause_in_asyncio(waits)
    for wait in waits:
        time.sleep(wait)
    return None


async def apause_flow_run(
    wait_for_input: Any = None,
    timeout: float = 3600,  # noqa: ASYNC109 - Prefect's signature
    poll_interval: float = 10,
    key: str | None = None,
) -> None:
    """Pause the flow run that awaits this, as `pause_flow_run` does."""
    _refuse("wait_for_input", wait_for_input)
    await _pause_in_asyncio(_pauses(timeout, poll_interval, key))


def _pauses(timeout: float, poll_interval: float, key: str | None) -> Iterator[float]:
    from hpc_flows.engine.pause_calls import steps  # noqa: PLC0415 - for those who pause

    return steps(timeout, poll_interval, key)


async def _pause_in_asyncio(waits: Iterator[float]) -> None:
    for wait in waits:
        await asyncio.sleep(wait)


def resume_flow_run(flow_run_id: Any, run_input: Any = None) -> Any:
    """Let a paused flow run of this user go on, whoever drives it.

    It goes on within some two seconds. `await resume_flow_run(...)` does the same.

    Args:
        flow_run_id: id of a run that is no subflow's, or its beginning, or the run's name. A
            subflow's pause ends with it.
        run_input: None; a flow run takes no input here.

    Raises:
        UnknownRun: there is no such run.
        NotPausedError: it is not paused, or has ended.
        UnfinishedRun: its driver has died, so that nothing would hear of it.
        OptionValueError: `run_input` is given.
    """
    _refuse("run_input", run_input)
    _ask_to_resume(str(flow_run_id))
    return _nothing() if is_awaited(sys._getframe(1)) else None  # noqa: SLF001 - as above


async def aresume_flow_run(flow_run_id: Any, run_input: Any = None) -> None:
    """Let a paused flow run go on, as `resume_flow_run` does."""
    _refuse("run_input", run_input)
    _ask_to_resume(str(flow_run_id))


async def _nothing() -> None:
    return None


def _ask_to_resume(wanted: str) -> None:
    from hpc_flows.engine.requests import ask, is_there  # noqa: PLC0415 - for those who resume

    folder = find_run(get_settings().home, wanted)
    summary = summarise(folder)
    if summary.ended is not None:
        msg = f"Flow run {summary.name!r} has ended: {summary.state_name}. It cannot go on."
        raise NotPausedError(msg)
    _check_driver(summary)
    # Of a subflow that is paused, only the mark in the folder tells.
    if summary.state_type != "PAUSED" and not is_there(folder, "pause", "paused"):
        msg = f"Flow run {summary.name!r} is not paused; it is in state {summary.state_name}."
        raise NotPausedError(msg)
    ask(folder, "resume", "resume_flow_run")


def _refuse(name: str, value: Any) -> None:
    if value is not None:
        msg = (
            f"{name} is not taken: a flow run has no way to be given input while it is paused. "
            f"Write it where the flow reads it, such as `hpc-flows variable set`, and resume."
        )
        raise OptionValueError(msg)


def suspend_flow_run(*_: Any, **__: Any) -> None:
    """Refuse: a flow run is the process that drives it, which a suspension would end.

    Raises:
        SuspendError: always.
    """
    msg = (
        "A flow run cannot be suspended, which would end its process and begin the flow anew on "
        "resumption. pause_flow_run() keeps the process, and holds all that would begin; results "
        "that are kept (@task(persist_result=True)) make a new run quick."
    )
    raise SuspendError(msg)


async def asuspend_flow_run(*_: Any, **__: Any) -> None:
    """Refuse, as `suspend_flow_run` does.

    Raises:
        SuspendError: always.
    """
    suspend_flow_run()
