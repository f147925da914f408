"""How a flow run goes from its call to its end, as a generator that the drivers of `drive` run."""

from __future__ import annotations

from time import monotonic

from hpc_flows.engine.cancelling import cancel_reason, was_cancelled, what_ended
from hpc_flows.engine.drive import Call, Sleep, Wait
from hpc_flows.engine.final_states import state_of
from hpc_flows.engine.hooks import run_hooks
from hpc_flows.engine.parameters import unbind
from hpc_flows.engine.pausing import closed, flows_within, held_flow, opened
from hpc_flows.engine.retries import delay_before
from hpc_flows.engine.task_engine import UNFINISHED, finished, with_values
from hpc_flows.engine.timeouts import DeadlineReached, Stopped
from hpc_flows.exceptions import FlowRunTimeoutError, TerminationSignal, repr_of, text_of
from hpc_flows.futures import find_futures, replace_futures, value_of
from hpc_flows.logging import (
    ERROR,
    INFO,
    attach_loggers,
    catch_prints,
    run_log,
    trace_of,
    without_our_frames,
)
from hpc_flows.states import (
    AwaitingRetry,
    Cancelled,
    Crashed,
    Failed,
    Pending,
    Retrying,
    Running,
    State,
    TimedOut,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.engine.drive import Steps
    from hpc_flows.runs import FlowRun


#: Seconds that a flow waits for its runners to end what it cancels.
_LONGEST_CANCELLATION = 60.0
#: Seconds that flow runs in other threads, which may be in the middle of a long computation, have
#: to record that they were cancelled; and between two looks whether they have.
_LONGEST_RECORDING = 2.0
_MOMENT = 0.02


def run_flow(flow: Any, run: FlowRun, context: RunContext, wait_for: Sequence[Any] = ()) -> Steps:
    """Run a flow with the parameters of `run`; return its final state.

    Args:
        flow: the `Flow`.
        run: its run, journalled already.
        context: what the flow's function runs in; its `dispatch` takes the calls it submits.
        wait_for: futures to wait for before it starts.

    Raises:
        BaseException: what is no failure of the flow, such as KeyboardInterrupt, after the run
            was recorded as Cancelled or Crashed.
    """
    run_log(context, INFO, f"Beginning flow run {run.name!r} for flow {flow.name!r}")
    attach_loggers(context.root)
    if context.log_prints:
        catch_prints()
    _record(run, context, Pending())
    opened(context)
    try:
        state = yield from _attempts(flow, run, context, wait_for)
        closed(context)
        yield from _cancel_left(context)
    except BaseException as error:
        closed(context)
        yield from _abort(flow, run, context, error)
        raise
    finally:
        context.root.pauses.pop(run.id, None)
    _record(run, context, state)
    yield from _conclude(flow, run, context, state)
    return state


def _record(run: FlowRun, context: RunContext, state: State) -> None:
    context.root.record("flow", run, state)


def _attempts(flow: Any, run: FlowRun, context: RunContext, wait_for: Sequence[Any]) -> Steps:
    """Run the flow's function until it completes or its retries are exhausted."""
    try:
        yield from _take_parameters(flow, run, wait_for)
    except Exception as error:  # noqa: BLE001 - a wrong parameter, or an upstream run that failed
        message = f"Validation of flow parameters failed with error: {text_of(error)}"
        run_log(context, ERROR, message)
        return Failed(message, data=error)
    retry = 0
    while True:
        run.run_count += 1
        if context.root.pauses:
            yield from held_flow(context)
        begun = Retrying() if retry else Running()
        _record(run, context, begun)
        yield from run_hooks(flow.on_running_hooks, flow, run, begun, context)
        state = yield from _attempt(flow, run, context)
        retry += 1
        if not state.is_failed() or not (yield from _tries_again(flow, run, context, state, retry)):
            return state


def _take_parameters(flow: Any, run: FlowRun, wait_for: Sequence[Any]) -> Steps:
    """Replace futures among the parameters by values, and validate what came out."""
    futures = find_futures((run.parameters, wait_for))
    if futures:
        yield Wait(futures)
        with_values((), {}, wait_for)
        run.parameters = replace_futures(
            run.parameters,
            lambda future: value_of(future.state),
            lambda future: value_of(future.state, raise_on_failure=False),
        )
    if flow.should_validate_parameters:
        run.parameters = flow.validate_parameters(run.parameters)


def _attempt(flow: Any, run: FlowRun, context: RunContext) -> Steps:
    """Call the flow's function, wait for what it submitted, and return the state it ended in."""
    args, kwargs = unbind(flow.fn, run.parameters)
    try:
        if flow.isgenerator:
            value = yield from _emitted(flow, context, args, kwargs)
        else:
            value = yield Call(flow.fn, args, kwargs, context, flow.timeout_seconds, flow.isasync)
        if type(value) in UNFINISHED:
            value = yield from finished(value, context)
    except Exception as error:  # noqa: BLE001 - any failure of the flow
        state = _failed(flow, error)
        run_log(context, ERROR, f"Encountered an exception during execution: {_told(error)}")
        too_late = isinstance(error, DeadlineReached)
        _cancel(context, f"Flow run {run.name!r} failed.", started=too_late)
        yield from _wait_for_tasks(context)
        return state
    yield from _wait_for_tasks(context)
    return _kept(flow, run, context, state_of(value))


def _emitted(flow: Any, context: RunContext, args: Sequence[Any], kwargs: dict[str, Any]) -> Steps:
    """Run a generator function, whose values go to the caller one by one."""
    from hpc_flows.engine.generators import emitted  # noqa: PLC0415 - few flows yield

    inner = context.copy()
    inner.arguments = (args, kwargs)
    return (yield from emitted(inner, flow))


def _kept(flow: Any, run: FlowRun, context: RunContext, state: State) -> State:
    """Keep the result of a flow for other runs, where that is asked for."""
    if not context.keeping or flow.isgenerator:
        return state
    from hpc_flows.engine.recall import keep_flow_result  # noqa: PLC0415 - few flows keep theirs

    kept: State = keep_flow_result(flow, run, context, state)
    return kept


def _told(error: Exception) -> str:
    if isinstance(error, DeadlineReached):
        return f"the time limit of {error} second(s) was reached"
    told = repr_of(error)
    if "\\n" in told:  # a crash's message goes on with what was used, and the job's last words
        told = f"{type(error).__name__}: {text_of(error).partition(chr(10))[0]} …"
    return told + trace_of(error)


def _failed(flow: Any, error: BaseException) -> State:
    if isinstance(error, DeadlineReached):
        message = f"Flow run exceeded timeout of {flow.timeout_seconds} second(s)"
        return TimedOut(message, data=FlowRunTimeoutError(message))  # type: ignore[no-any-return]
    message = f"Flow run encountered an exception: {type(error).__name__}: {text_of(error)}"
    return Failed(message, data=without_our_frames(error))  # type: ignore[no-any-return]


def _cancel(context: RunContext, reason: str, *, started: bool) -> None:
    """Cancel what a flow run has submitted; with what has started, the flow runs within it."""
    # The thread of a flow run within may hear of it late; its jobs are not to go on meanwhile.
    for each in (context, *(flows_within(context) if started else ())):
        if each.dispatch is not None:
            each.dispatch.cancel(reason, started=started)


def _wait_for_tasks(context: RunContext) -> Steps:
    """Wait for everything that was submitted; its tasks may submit more meanwhile."""
    yield from _end_lent(context)
    while futures := context.submitted.futures():
        yield Wait(futures)


def _end_lent(context: RunContext) -> Steps:
    """End the generators among its tasks whose values nobody has taken to the end."""
    if context.submitted.lent:
        from hpc_flows.engine.generators import end_lent  # noqa: PLC0415 - few tasks yield

        yield from end_lent(context)


def _tries_again(flow: Any, run: FlowRun, context: RunContext, state: State, retry: int) -> Steps:
    """Tell whether a failed run is tried again, having slept until it is time."""
    settings = context.root.settings
    retries = settings.flow_default_retries if flow.retries is None else flow.retries
    if retry > retries:
        return False
    delays = flow.retry_delay_seconds
    delay = delay_before(
        retry, settings.flow_default_retry_delay_seconds if delays is None else delays
    )
    when = f"start {delay:g} second(s) from now" if delay else "start immediately"
    run_log(context, INFO, f"Flow run failed - Retry {retry}/{retries} will {when}")
    _record(run, context, AwaitingRetry(state.message))
    if delay:
        yield Sleep(delay)
    return True


def _abort(flow: Any, run: FlowRun, context: RunContext, error: BaseException) -> Steps:
    """End a run that something other than its own code ended: cancel what it submitted."""
    error = what_ended(error)
    if was_cancelled(error) or isinstance(error, Stopped):
        late = isinstance(error, Stopped)
        reason = (
            "The time limit of an enclosing run was reached."
            if late
            else (cancel_reason(context.root))
        )
        state, hooks = Cancelled(reason), flow.on_cancellation_hooks
    else:
        reason = _told_crash(error)
        state, hooks = Crashed(reason, data=error), flow.on_crashed_hooks
    run_log(context, ERROR, reason)
    leaving = isinstance(error, GeneratorExit)
    if isinstance(error, TerminationSignal):
        _leave(context, reason)
    elif leaving:
        _cancel(context, reason, started=True)
    else:
        leaving = yield from _cancel_all(context, reason)
    _record(run, context, state)
    if not leaving:
        yield from _end_lent(context)
        yield from run_hooks(hooks, flow, run, state, context)
    run_log(context, ERROR, f"Finished in state {state!r}")


def _told_crash(error: BaseException) -> str:
    if isinstance(error, TerminationSignal):
        return "Execution was aborted by a termination signal; jobs that were submitted live on."
    what = "system exit" if isinstance(error, SystemExit) else type(error).__name__
    return f"The flow's process was interrupted by {what}."


def _leave(context: RunContext, reason: str) -> None:
    """Record the end of what ends with the driver; jobs live on."""
    for call in list(context.submitted.calls.values()):
        if call.runner is None or not call.runner.outlives_driver:
            call.end(Crashed(reason))


def _cancel_all(context: RunContext, reason: str) -> Steps:
    """Cancel what was submitted and wait for its end; tell whether Ctrl-C cut that short."""
    try:
        try:
            _cancel(context, reason, started=True)
        except KeyboardInterrupt:  # many press it twice; no job shall live on because of that
            _cancel(context, reason, started=True)
            raise
        inner = flows_within(context)
        futures = [future for each in (context, *inner) for future in each.submitted.futures()]
        yield Wait(futures, _LONGEST_CANCELLATION)
        yield from _end_of(inner)
    except KeyboardInterrupt:
        for call in list(context.submitted.calls.values()):
            call.end(Cancelled(f"{reason} Its end was not waited for."))
        return True
    return False


def _cancel_left(context: RunContext) -> Steps:
    """Cancel what flow runs within still wait for as the outermost ends, which ends the driver.

    A task that has reached its time limit has left such a flow run, in a thread.
    """
    if context.flow_run.id != context.root.run_id:  # type: ignore[union-attr]
        return
    left = [each for each in flows_within(context) if each.submitted.calls]
    if left and (yield from _cancel_all(context, "The flow run that it belongs to has ended.")):
        raise KeyboardInterrupt


def _end_of(flows: Sequence[RunContext]) -> Steps:
    """Wait until the threads of flow runs that were cancelled have recorded it, or for a moment."""
    end = monotonic() + _LONGEST_RECORDING
    runs: list[Any] = [context.flow_run for context in flows]
    while monotonic() < end and not all(run.state and run.state.is_final() for run in runs):
        yield Sleep(_MOMENT)


def _conclude(flow: Any, run: FlowRun, context: RunContext, state: State) -> Steps:
    """Call the hooks of a final state, and log it."""
    hooks: dict[str, Any] = {
        "COMPLETED": flow.on_completion_hooks,
        "FAILED": flow.on_failure_hooks,
        "CANCELLED": flow.on_cancellation_hooks,
        "CANCELLING": flow.on_cancellation_hooks,
        "CRASHED": flow.on_crashed_hooks,
    }
    yield from run_hooks(hooks.get(state.type.value, ()), flow, run, state, context)
    run_log(context, INFO if state.is_completed() else ERROR, f"Finished in state {state!r}")
