"""How a task run goes from Pending to its end, as a generator that the drivers of `drive` run."""

from __future__ import annotations

import os

from hpc_flows.engine.cancelling import record_abort
from hpc_flows.engine.drive import Call, Sleep, Wait
from hpc_flows.engine.hooks import hook_name, is_coroutine_function, run_hooks
from hpc_flows.engine.retries import delay_before
from hpc_flows.engine.timeouts import DeadlineReached
from hpc_flows.exceptions import (
    TaskRunTimeoutError,
    UpstreamTaskError,
    repr_of,
    text_of,
)
from hpc_flows.futures import (
    find_futures,
    has_ended,
    is_plain,
    replace_futures,
    value_of,
)
from hpc_flows.logging import (
    ERROR,
    INFO,
    catch_prints,
    end_log,
    run_log,
    trace_of,
    without_our_frames,
)
from hpc_flows.states import (
    AwaitingRetry,
    Completed,
    Crashed,
    Failed,
    NotReady,
    Retrying,
    Running,
    State,
    StateType,
    TimedOut,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.engine.drive import Op, Steps
    from hpc_flows.futures import TaskFuture
    from hpc_flows.runs import TaskRun

_COMPLETED = StateType.COMPLETED


def run_task(
    task: Any,
    run: TaskRun,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    context: RunContext,
    elsewhere: Callable[[RunContext], Op | Steps] | None = None,
    *,
    is_new: bool = False,
) -> Steps:
    """Run a task whose arguments are values, with its retries; return its final state.

    Args:
        task: the `Task`.
        run: its run.
        args: the arguments.
        kwargs: the arguments by name.
        context: what surrounds the run; its `root` journals the states.
        elsewhere: returns the operation that calls the function of a context's task, for runners
            that do it in another process, or the steps that do; it keeps the time limit.
        is_new: whether the journal does not know of the run yet. It hears of it before anything
            else happens to it, in one write with the state that it starts in if it starts at once.

    Raises:
        BaseException: what is no failure of the task, such as KeyboardInterrupt, after the run
            was recorded as Cancelled or Crashed.
    """
    root = context.root
    if root.pauses and (held := _held(task, run, args, kwargs, context, elsewhere, is_new)):
        return held
    inner = context.for_task(task, run, (args, kwargs))
    if inner.log_prints:
        catch_prints()
    # A job's own run has nobody above it to wait for what it submits; the runs in it have it.
    is_job = root.in_job and context.task_run is None and context.flow is None
    looks = task.recall or inner.transaction is not None or inner.keeping
    if is_new and (looks or run.tags):
        root.record_task(run)
        is_new = False
    # Values that are handed over one by one are no result that could be kept.
    if looks and not getattr(elsewhere, "is_lazy", False):
        from hpc_flows.engine.recall import recalled  # noqa: PLC0415 - few tasks need it

        return recalled(
            task, run, inner, lambda: _in_turn(task, run, inner, elsewhere, is_job=is_job)
        )
    if run.tags:
        return _in_turn(task, run, inner, elsewhere, is_job=is_job)
    return _attempts(task, run, inner, elsewhere, is_job=is_job, is_new=is_new)


def _held(
    task: Any,
    run: TaskRun,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    context: RunContext,
    elsewhere: Callable[[RunContext], Op | Steps] | None,
    is_new: bool,  # noqa: FBT001 - as run_task's
) -> Steps | None:
    """Return the steps that run a task once its flow run goes on; None when it is not paused."""
    from hpc_flows.engine.pausing import after_pause, is_held  # noqa: PLC0415 - few are paused

    if not is_held(context.root, context.flow_run):
        return None
    if is_new:
        context.root.record_task(run)
    return after_pause(context, run, lambda: run_task(task, run, args, kwargs, context, elsewhere))


def _in_turn(
    task: Any,
    run: TaskRun,
    context: RunContext,
    elsewhere: Callable[[RunContext], Op | Steps] | None,
    *,
    is_job: bool,
) -> Steps:
    """Make a run's attempts, once there are the slots that its tags need, if they have limits."""

    def attempts(inner: RunContext) -> Steps:
        return _attempts(task, run, inner, elsewhere, is_job=is_job)

    if not run.tags or not os.path.isdir(f"{context.root.settings.home}/concurrency"):
        return attempts(context)
    from hpc_flows.engine.slots import held  # noqa: PLC0415 - only where there are limits

    return held(task, run, context, attempts)


def _attempts(
    task: Any,
    run: TaskRun,
    context: RunContext,
    elsewhere: Callable[[RunContext], Op | Steps] | None,
    *,
    is_job: bool,
    is_new: bool = False,
) -> Steps:
    """Call the task's function until it completes or its retries are exhausted."""
    root: Any = context.root
    retry = 0
    while True:
        if root.pauses:
            if is_new:
                root.record_task(run)
                is_new = False
            from hpc_flows.engine.pausing import Hold  # noqa: PLC0415 - few runs are paused

            yield Hold(root, context.flow_run, run)
        if run.state is not None and has_ended(run.state):
            return run.state  # it was cancelled before it could begin
        run.run_count += 1
        begun = Retrying() if retry else Running()
        if is_new:
            root.record_begun(run, begun)
            is_new = False
        else:
            root.record("task", run, begun)
        state = yield from _attempt(task, run, context, begun, elsewhere, everything=is_job)
        if run.state is not begun:
            return run.state  # it was cancelled meanwhile, and that has been told
        retry += 1
        if state.type is _COMPLETED:
            break
        if not (yield from _tries_again(task, run, context, state, retry)):
            break
    if context.transaction is not None and state.type is _COMPLETED:
        from hpc_flows.engine.recall import kept  # noqa: PLC0415 - few tasks need it

        state = yield from kept(context, state)
    yield from _conclude(task, run, context, state)
    return state


def _attempt(
    task: Any,
    run: TaskRun,
    context: RunContext,
    begun: State,
    elsewhere: Callable[[RunContext], Op | Steps] | None,
    *,
    everything: bool,
) -> Steps:
    """Call the task's function once and return the state that it ended in.

    `everything` says to wait for all that it has submitted.
    """
    if task.on_running_hooks:
        yield from run_hooks(task.on_running_hooks, task, run, begun, context)
    try:
        if elsewhere is None:
            args, kwargs = context.arguments
            fn = task.body if task.isgenerator else task.fn
            value = yield Call(fn, args, kwargs, context, task.timeout_seconds, task.isasync)
        else:
            made: Any = elsewhere(context)
            value = (yield from made) if type(made) is _GENERATOR else (yield made)
        if everything or type(value) not in _SIMPLE:
            value = yield from settled(value, context, everything=everything)
        return value if isinstance(value, State) else Completed(data=value)
    except Exception as error:  # noqa: BLE001 - any failure of the task
        return _failed(task, error)
    except BaseException as error:
        if run.state is begun:
            record_abort(run, context, error)
        raise


#: Values of these types are neither states nor hold futures.
_SIMPLE = frozenset({int, float, str, bytes, bool, complex, type(None)})


def settled(value: Any, context: RunContext, *, everything: bool) -> Steps:
    """Replace futures in a task's return value by their values.

    The flow run waits for what its tasks submit. Where there is no flow run, in jobs and worker
    processes, `everything` says that the task does.
    """
    if type(value) in UNFINISHED:
        value = yield from finished(value, context)
    futures = find_futures(value)
    if futures:
        yield Wait(futures)
        value = replace_futures(value, lambda future: value_of(future.state))
    if everything and context.submitted.lent:
        from hpc_flows.engine.generators import end_lent  # noqa: PLC0415 - few tasks yield

        yield from end_lent(context)
    while everything and (pending := context.submitted.futures()):
        yield Wait(pending)
    return value


async def _awaited(value: Any) -> Any:
    return await value


def finished(value: Any, context: RunContext) -> Steps:
    """Finish what a task has begun and returned: runs in its own must not outlive it."""
    if type(value) is _COROUTINE:
        return (yield Call(_awaited, (value,), {}, context, None, True))
    from hpc_flows.engine.generators import is_stream  # noqa: PLC0415 - few return one

    return (yield Call(list, (value,), {}, context)) if is_stream(value) else value


_GENERATOR = type(finished(None, None))  # type: ignore[arg-type]
_started = _awaited(None)
_COROUTINE = type(_started)
_started.close()
#: Types of what a function may return that is only begun: coroutines and generators.
UNFINISHED = frozenset({_GENERATOR, _COROUTINE})


def _failed(task: Any, error: BaseException) -> State:
    if isinstance(error, DeadlineReached):
        message = f"Task run exceeded timeout of {task.timeout_seconds} second(s)"
        return TimedOut(message, data=TaskRunTimeoutError(message))  # type: ignore[no-any-return]
    message = f"Task run encountered an exception {type(error).__name__}: {text_of(error)}"
    return Failed(message, data=without_our_frames(error))  # type: ignore[no-any-return]


def _tries_again(task: Any, run: TaskRun, context: RunContext, state: State, retry: int) -> Steps:
    """Tell whether a failed run is tried again, having slept until it is time."""
    settings = context.root.settings
    retries = settings.task_default_retries if task.retries is None else task.retries
    error = state.data
    if retry > retries:
        ending = "Retries are exhausted" if retries else "No retries are configured"
        if isinstance(error, BaseException):
            message = f"Task run failed with exception: {repr_of(error)} - {ending}"
            run_log(context, ERROR, message + trace_of(error))
        return False
    condition = task.retry_condition_fn
    if condition is not None and not (yield from _wants_retry(condition, run, context, state)):
        return False
    delays = task.retry_delay_seconds
    if delays is None:
        delays = settings.task_default_retry_delay_seconds
    delay = delay_before(retry, delays, task.retry_jitter_factor)
    when = f"start {delay:g} second(s) from now" if delay else "start immediately"
    what = f"Task run failed with exception: {repr_of(error)}"
    run_log(context, INFO, f"{what} - Retry {retry}/{retries} will {when}")
    context.root.record("task", run, AwaitingRetry(state.message))
    if delay:
        yield Sleep(delay)
    return True


def _wants_retry(condition: Any, run: TaskRun, context: RunContext, state: State) -> Steps:
    """Ask a task's own condition whether a failed run is tried again; an error in it means no."""
    try:
        args = (context.task, run, state)
        wanted = yield Call(condition, args, {}, context, None, is_coroutine_function(condition))
    except Exception as error:  # noqa: BLE001 - the user's code
        name = hook_name(condition)
        message = (
            f"An error was encountered while running `retry_condition_fn` {name!r}: "
            f"{repr_of(error)}. The task is not tried again."
        )
        run_log(context, ERROR, message + trace_of(error))
        return False
    if not wanted:
        what = f"Task run failed with exception: {repr_of(state.data)}"
        run_log(context, ERROR, f"{what} - Its retry condition does not want another attempt")
    return wanted


def _conclude(task: Any, run: TaskRun, context: RunContext, state: State) -> Steps:
    """Record a final state, call its hooks, and log it."""
    level, hooks = INFO, task.on_completion_hooks
    if state.type is not _COMPLETED:
        level, hooks = ERROR, task.on_failure_hooks if state.is_failed() else ()
    if not hooks:
        end_log(context, level, state)
        return
    context.root.record("task", run, state)
    yield from run_hooks(hooks, task, run, state, context)
    run_log(context, level, f"Finished in state {state!r}")


def run_waiting_task(
    task: Any,
    run: TaskRun,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    context: RunContext,
    wait_for: Sequence[Any],
    reserve: Callable[[], Any] | None = None,
    elsewhere: Callable[[RunContext], Op | Steps] | None = None,
) -> Steps:
    """Run a task that waits for futures, and for a place on this machine; return its last state.

    The arguments, which may hold futures, are those of `run_task`; `wait_for` holds more futures.
    `reserve` returns a reservation of this machine, or is None where there is no need of one, and
    `elsewhere` is that of `run_task`.
    """
    yield Wait(find_futures((args, kwargs, wait_for)))
    try:
        args, kwargs = with_values(args, kwargs, wait_for)
    except UpstreamTaskError as error:
        return not_ready(task, run, context, error)
    if reserve is None:
        return (yield from run_task(task, run, args, kwargs, context, elsewhere))
    reservation = reserve()
    try:
        yield Wait([reservation])
        inner = context.copy()
        inner.slots = (*inner.slots, reservation)
        return (yield from run_task(task, run, args, kwargs, inner, elsewhere))
    finally:
        reservation.release()


def await_call(future: TaskFuture) -> Steps:
    """Wait for a call that was handed to a runner; return its last state."""
    yield Wait([future])
    return future.state


def with_values(
    args: Sequence[Any], kwargs: dict[str, Any], wait_for: Sequence[Any] = ()
) -> tuple[Sequence[Any], dict[str, Any]]:
    """Return arguments with every future replaced by its value; all of them have ended.

    Raises:
        UpstreamTaskError: one did not complete, and `allow_failure` is not around it.
    """
    for item in wait_for:
        replace_futures(item, _value, _value_or_error, _STATES)
    if is_plain(args) and is_plain(kwargs.values()):
        return args, kwargs
    args = [replace_futures(arg, _value, _value_or_error, _STATES) for arg in args]
    return args, {
        name: replace_futures(value, _value, _value_or_error, _STATES)
        for name, value in kwargs.items()
    }


#: What stands for its value among arguments, besides futures: what `return_state=True` gave.
_STATES = (State,)


def _value(given: TaskFuture | State) -> Any:
    check_upstream(given)
    return value_of(_state_of(given))


def _value_or_error(given: TaskFuture | State) -> Any:
    return value_of(_state_of(given), raise_on_failure=False)


def _state_of(given: TaskFuture | State) -> State:
    return given if isinstance(given, State) else given.state


def check_upstream(given: TaskFuture | State) -> None:
    """Raise UpstreamTaskError, from what it raised, when an ended task run did not complete."""
    state = _state_of(given)
    if state.type is _COMPLETED:
        return
    whose = "" if isinstance(given, State) else f"{given.name!r} "
    message = (
        f"Upstream task run {whose}did not reach a 'COMPLETED' state; it ended as "
        f"{state.name}. Wrap its future in allow_failure() to run the task all the same."
    )
    raise UpstreamTaskError(message) from _error_of(state)


def _error_of(state: State) -> BaseException | None:
    """Return what ended a run, loaded from where its job kept it, or None if it cannot be had."""
    try:
        error = value_of(state, raise_on_failure=False)
    except Exception:  # noqa: BLE001 - the error that led here is the one to tell
        return None
    return error if isinstance(error, BaseException) else None


def not_ready(task: Any, run: TaskRun, context: RunContext, error: UpstreamTaskError) -> State:
    """Record that a run will never start, and return its last state."""
    inner = context.for_task(task, run)
    state: State = NotReady(str(error), data=error)
    context.root.record("task", run, state)
    run_log(inner, ERROR, f"Finished in state {state!r}")
    return state


def last_state(run: TaskRun) -> State:
    """Return the state that a run was left in by an exception that ended its driver."""
    if run.state is not None and has_ended(run.state):
        return run.state
    return Crashed("The run was interrupted before it reached a state.")  # type: ignore[no-any-return]
