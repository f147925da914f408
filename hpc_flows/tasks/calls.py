"""How a task is called: in place, value by value, or handed out to a runner.

Each way makes the call's task run, and the steps or the future that lead to its end.
"""

from __future__ import annotations

from hpc_flows.context import current, entered, give_way
from hpc_flows.engine.parameters import bind, run_name
from hpc_flows.engine.task_engine import await_call, run_task, run_waiting_task
from hpc_flows.futures import TaskFuture, TaskFutureList, as_waited, find_futures, is_plain
from hpc_flows.runs import TaskRun
from hpc_flows.task_runners.base import TaskCall
from hpc_flows.task_runners.routing import (
    close_alone,
    standing_alone,
    standing_alone_until_done,
    with_dispatch,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _weakref import ref
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.engine.drive import Steps
    from hpc_flows.engine.generators import Lent


def in_turns(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any) -> Lent:
    """Return the steps of a call that yields its values to whoever asks for them."""
    from hpc_flows.engine.generators import Lent  # noqa: PLC0415 - few tasks yield

    return Lent(task, lambda lent: _in_turns(task, args, kwargs, wait_for, lent))


def _in_turns(
    task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any, lent: ref[Lent]
) -> Steps:
    """Run a call that yields in the context of whoever asks for the first value."""
    from hpc_flows.engine.generators import emitted, lend  # noqa: PLC0415 - as above

    context = current()
    if context is not None and context.root is not None:
        lend(lent, context)
        return (yield from _steps_in(task, context, args, kwargs, wait_for, emitted))
    with standing_alone(task.name) as context:
        return (yield from _steps_in(task, context, args, kwargs, wait_for, emitted))


def in_place(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any) -> Steps:
    """Return the generator that runs a direct call."""
    context = current()
    if context is None or context.root is None:
        return _outside(task, args, kwargs, wait_for)
    return _steps_in(task, context, args, kwargs, wait_for)


def _steps_in(
    task: Any,
    context: RunContext,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    wait_for: Any,
    elsewhere: Callable[[RunContext], Any] | None = None,
) -> Steps:
    bound = bind(task.fn, args, kwargs)
    if context.is_sketch:
        sketch: Any = context
        noted: Steps = sketch.call(task, args, kwargs, wait_for)
        return noted
    plain = is_plain(args) and (not kwargs or is_plain(kwargs.values()))
    if plain and not wait_for and task.resources is None:
        run = _new_run(task, context, bound)
        if context.task_run is not None:
            run.callers = (*context.task_run.callers, context.task_run.id)
        return run_task(task, run, args, kwargs, context, elsewhere, is_new=True)
    reserve = None
    if task.resources is not None and not context.root.in_job:
        dispatch = with_dispatch(context)
        if dispatch.takes(task):
            return _handed_out(task, context, args, kwargs, wait_for)
        dispatch.check(task)
        reserve = lambda: dispatch.hold(task)  # noqa: E731 - short, and used once
    waited = as_waited(wait_for)
    run = _new_run(task, context, bound, find_futures((args, kwargs, waited)))
    if context.task_run is not None:
        run.callers = (*context.task_run.callers, context.task_run.id)
    context.root.record_task(run)
    return run_waiting_task(task, run, args, kwargs, context, waited, reserve, elsewhere)


def _handed_out(
    task: Any, context: RunContext, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any
) -> Steps:
    """Wait for a direct call that runs on a cluster."""
    bound = bind(task.fn, args, kwargs)
    futures = _hand_out_in(task, context, [(args, kwargs)], [bound], wait_for, mapped=False)
    steps = await_call(futures[0])
    if not task.isgenerator:
        return steps
    from hpc_flows.engine.generators import emitted_at_end  # noqa: PLC0415 - as above

    return emitted_at_end(steps)


def _outside(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any) -> Steps:
    """Run a direct call that is part of no flow run: it gets a run directory of its own."""
    with standing_alone(task.name) as context, entered(context):
        state = yield from _steps_in(task, context, args, kwargs, wait_for)
        if context.submitted.lent:
            from hpc_flows.engine.generators import end_lent  # noqa: PLC0415 - as above

            yield from end_lent(context)
        return state


def hand_out(
    task: Any,
    arguments: Sequence[tuple[tuple[Any, ...], dict[str, Any]]],
    wait_for: Any,
    *,
    mapped: bool = False,
) -> TaskFutureList:
    """Make the runs and futures of calls, and give the calls to the task runner."""
    bound = [bind(task.fn, args, kwargs) for args, kwargs in arguments]
    context = current()
    if context is not None and context.root is not None:
        return _hand_out_in(task, context, arguments, bound, wait_for, mapped=mapped)
    return hand_out_alone(task, arguments, bound, wait_for, mapped=mapped)


def hand_out_alone(
    task: Any,
    arguments: Sequence[tuple[tuple[Any, ...], dict[str, Any]]],
    bound: Sequence[Mapping[str, Any]],
    wait_for: Any,
    *,
    mapped: bool,
) -> TaskFutureList:
    """Hand calls out in a root run of their own, which is closed when they have ended."""
    context = standing_alone_until_done(task.name)
    try:
        futures = _hand_out_in(task, context, arguments, bound, wait_for, mapped=mapped)
    except BaseException:
        if not context.root.is_closed:  # the last call that was refused has closed it
            close_alone(context)
        raise
    if not futures:
        close_alone(context)
    return futures


def _hand_out_in(
    task: Any,
    context: RunContext,
    arguments: Sequence[tuple[tuple[Any, ...], dict[str, Any]]],
    bound: Sequence[Mapping[str, Any]],
    wait_for: Any,
    *,
    mapped: bool,
) -> TaskFutureList:
    dispatch = with_dispatch(context)
    dispatch.check(task)
    waited = as_waited(wait_for)
    calls = []
    for index, (args, kwargs) in enumerate(arguments):
        upstream = (
            ()
            if not waited and is_plain(args) and (not kwargs or is_plain(kwargs.values()))
            else (find_futures((args, kwargs, waited)))
        )
        run = _new_run(task, context, bound[index], upstream, index if mapped else None)
        future = TaskFuture(run, give_way)
        calls.append(TaskCall(task, run, args, kwargs, future, context, waited))
    context.root.record_pending([call.run for call in calls])
    dispatch(task, calls)
    return TaskFutureList([call.future for call in calls])


def _new_run(
    task: Any,
    context: RunContext,
    parameters: Mapping[str, Any],
    upstream: Sequence[TaskFuture] = (),
    map_index: int | None = None,
) -> TaskRun:
    """Make the run of one call."""
    name = None
    if task.task_run_name is not None:
        name = run_name(f"task {task.name!r}", task.task_run_name, parameters)
    flow_run = context.flow_run
    return TaskRun(
        task.name,
        task.task_key,
        name,
        flow_run_id=flow_run.id if flow_run is not None else None,
        tags=_tags_in(task, context),
        upstream=tuple(dict.fromkeys(f.task_run_id for f in upstream)) if upstream else (),
        resources=task.resources,
        map_index=map_index,
    )


def _tags_in(task: Any, context: RunContext) -> tuple[str, ...]:
    if not task.tags:
        return context.tags
    return tuple(sorted({*context.tags, *task.tags}))
