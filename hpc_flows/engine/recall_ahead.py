"""Recalling for calls that go to a cluster: what is there already is not submitted.

The jobs look again, keep what they compute, and hold the locks (`engine.recall`). What belongs to a
transaction happens here, in the flow's process: its hooks, and keeping the result when it commits.
"""

from __future__ import annotations

from copy import copy

from hpc_flows.context import entered
from hpc_flows.engine.drive import drive
from hpc_flows.engine.hooks import run_hooks
from hpc_flows.engine.keys import Plan, plan_of
from hpc_flows.engine.recall import begun, cached_state, settled_in, staged, usable
from hpc_flows.exceptions import text_of
from hpc_flows.futures import TaskFuture, has_ended
from hpc_flows.logging import ERROR, INFO, run_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.states import State
    from hpc_flows.transactions import Transaction

#: Tasks with the options of their flows put in, by both their ids; both are held by the value.
_derived: dict[tuple[int, int, bool], tuple[Any, Any, Any]] = {}
_MOST_DERIVED = 1000


def found_before(calls: Sequence[Any]) -> list[Any]:
    """Resolve the calls whose results are there; return what is to be submitted for the others.

    Args:
        calls: `TaskCall`s of one task whose arguments are values.
    """
    return [left for call in calls if (left := _left_to_do(call)) is not None]


def _left_to_do(call: Any) -> Any:
    context = call.context.for_task(call.task, call.run, (call.args, call.kwargs))
    parent = context.transaction
    with entered(context):
        plan = plan_of(call.task, call.run, context)
        mine = begun(call.task, plan, parent, context)
        data = None
        if plan.looks:
            data = staged(context, plan) or usable(context, plan)
    if data is not None:
        _resolve(call, context, cached_state(data[0], plan))
        return None
    takes_part = plan.joins or call.task.on_commit_hooks or call.task.on_rollback_hooks
    task = _task_for_job(call.task, context, plan)
    if not takes_part and task is call.task:
        return call
    return _twin(call, task, context, plan, mine if takes_part else None)


def _resolve(call: Any, context: RunContext, state: State) -> None:
    context.root.record("task", call.run, state)
    if call.task.on_completion_hooks:
        drive(run_hooks(call.task.on_completion_hooks, call.task, call.run, state, context))
    run_log(context, INFO, f"Finished in state {state!r}")
    call.future.resolve(state)


def _task_for_job(task: Any, context: RunContext, plan: Plan) -> Any:
    """Return the task with what its job cannot know: what its flow or a transaction wants kept."""
    if plan.joins and plan.keeps:
        return _variant(task, context.flow, keeps=False)
    flow = context.flow
    asked = flow is not None and (flow.result_storage or flow.result_serializer)
    if plan.keeps and (asked or not task.recall):
        return _variant(task, flow, keeps=True)
    return task


def _variant(task: Any, flow: Any, *, keeps: bool) -> Any:
    """Return the task with other options: always the same, so that its calls go together."""
    place = (id(task), id(flow), keeps)
    if place not in _derived:
        if len(_derived) >= _MOST_DERIVED:
            _derived.clear()
        options: dict[str, Any] = {"persist_result": keeps}
        for name in ("result_storage", "result_serializer"):
            said = getattr(flow, name, None)
            if keeps and said is not None and getattr(task, name) is None:
                options[name] = said
        _derived[place] = (task.with_options(**options), task, flow)
    return _derived[place][0]


def _twin(call: Any, task: Any, context: RunContext, plan: Plan, mine: Transaction | None) -> Any:
    """Return a call for the runner; at its end the transaction is settled, then the call."""
    twin = copy(call)
    twin.origin = call  # which the flow knows of, and cancels
    twin.task = task
    twin.future = TaskFuture(call.run)
    parent = mine.parent if mine is not None and plan.joins else None
    if parent is not None:
        parent.expect()

    def ended(future: TaskFuture) -> None:
        try:
            if mine is not None:
                _take_part(context, plan, mine, future.state)
        finally:
            if parent is not None:
                parent.arrived()
            call.future.resolve(future.state)

    twin.future.add_done_callback(ended)
    call.future.add_done_callback(lambda future: twin.future.resolve(future.state))  # cancelled
    return twin


def _take_part(context: RunContext, plan: Plan, mine: Transaction, state: State) -> None:
    """Commit what a job has come to, or leave that to the transaction around it, or roll back."""
    if not has_ended(state):
        return
    context.transaction = mine
    plan.keeps = mine.write_on_commit = plan.keeps and plan.joins
    try:
        with entered(context):
            settled_in(context, plan, state)
    except Exception as error:  # noqa: BLE001 - the run's own state must reach those who wait
        run_log(context, ERROR, f"The transaction of the task could not be ended: {text_of(error)}")
