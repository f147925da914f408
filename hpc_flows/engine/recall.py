"""Results that other runs have left, found before a task runs, and kept once it has.

`recalled` stands around the attempts of a task run, wherever that is: in the flow's process, or in
its job. For tasks that go to a cluster the flow's process looks first (`engine.recall_ahead`), so
that no job is submitted for what is there already.
"""

from __future__ import annotations

from hpc_flows.context import entered
from hpc_flows.engine.cancelling import record_abort
from hpc_flows.engine.drive import Sleep
from hpc_flows.engine.hooks import run_hooks
from hpc_flows.engine.keys import Plan, plan_of
from hpc_flows.exceptions import HpcFlowsError, ResultError, text_of
from hpc_flows.futures import has_ended
from hpc_flows.logging import DEBUG, INFO, WARNING, run_log
from hpc_flows.states import State, StateType, StoredValue
from hpc_flows.transactions import Transaction, TransactionState
from hpc_flows.transactions.base import is_open

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.engine.drive import Steps
    from hpc_flows.results.record import ResultRecord
    from hpc_flows.runs import FlowRun, TaskRun
    from hpc_flows.transactions.base import BaseTransaction

_COMPLETED = StateType.COMPLETED
#: Seconds between two looks at a lock that somebody else holds: at first, and at last.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 2.0


class Away:
    """Call something of ours that may take long: in asyncio, in a thread, so that others run."""

    __slots__ = ("context", "fn")

    def __init__(self, fn: Callable[[], Any], context: RunContext) -> None:
        self.fn = fn
        self.context = context

    def perform(self) -> Any:
        """Call it and return its value."""
        with entered(self.context):
            return self.fn()

    async def aperform(self) -> Any:
        """Call it in a thread and return its value."""
        import asyncio  # noqa: PLC0415 - loaded already: it is running

        return await asyncio.to_thread(self.perform)


def recalled(task: Any, run: TaskRun, context: RunContext, attempts: Callable[[], Steps]) -> Steps:
    """Return the final state of a task run: one that was kept, or what its attempts come to.

    Args:
        task: the `Task`.
        run: its run.
        context: the task's own; its transaction becomes this run's.
        attempts: returns the steps that run the task.
    """
    parent = context.transaction
    plan = yield Away(lambda: plan_of(task, run, context), context)
    mine = begun(task, plan, parent, context)
    try:
        state = yield from _look_then_run(task, run, context, plan, attempts)
        yield Away(lambda: settled_in(context, plan, state), context)
    except BaseException as error:
        if run.state is None or not has_ended(run.state):
            record_abort(run, context, error)  # while it waited for a lock, say
        # Not as a step: a generator that is closed must not ask for anything.
        mine.rollback()
        raise
    finally:
        plan.unlock()
    return state


def begun(
    task: Any, plan: Plan, parent: BaseTransaction | None, context: RunContext
) -> Transaction:
    """Return the transaction of one task run, begun, and make it the context's."""
    mine = Transaction(plan.key, plan.store, write_on_commit=plan.keeps)
    mine.of_task = True
    mine.prepare(parent)
    mine.context = context
    mine.plan = plan
    mine.holder = plan.holder
    if plan.level is not None:
        mine.isolation_level = plan.level
    plan.joins = _joins(task, parent)
    context.transaction = mine
    return mine


def _joins(task: Any, parent: BaseTransaction | None) -> bool:
    """Tell whether a run is committed with the transaction around it.

    In a transaction of the user's it is, as in Prefect. In a task's own it is only if there is
    something to undo: what a nested task has computed is good, whatever becomes of the outer one.
    """
    if parent is None or parent.is_loose:
        return False
    return parent.is_user_made() or bool(task.on_rollback_hooks or task.on_commit_hooks)


# Looking ------------------------------------------------------------------------------------------


def _look_then_run(
    task: Any, run: TaskRun, context: RunContext, plan: Plan, attempts: Callable[[], Steps]
) -> Steps:
    state = None
    if plan.looks:
        state = yield from _found(task, run, context, plan)
        if state is None and plan.locks:
            state = yield from _found_by_another(task, run, context, plan)
    elif plan.locks:
        yield from _lock(context, plan, lambda: iter(()))
    if state is None:
        state = yield from attempts()
    return state


def _found_by_another(task: Any, run: TaskRun, context: RunContext, plan: Plan) -> Steps:
    """Take the lock, unless what is looked for comes up meanwhile."""
    return (yield from _lock(context, plan, lambda: _found(task, run, context, plan)))


def _lock(context: RunContext, plan: Plan, look: Callable[[], Any]) -> Steps:
    """Wait for the lock; after each wait, and once it is there, look again."""
    pause, waited = _FIRST_PAUSE, False
    while True:
        try:
            taken = yield Away(plan.try_lock, context)
        except (HpcFlowsError, OSError) as error:
            message = f"No lock can be taken on {plan.key!r}, so others may compute it too: {error}"
            run_log(context, WARNING, message)
            plan.store.lock_manager = None
            return None
        if taken or waited:
            state = yield from look()
            if taken or state is not None:
                return state
        if not waited:
            waited = True
            run_log(context, INFO, f"Waiting for {plan.lock_holder()}, which computes the same.")
        yield Sleep(pause)
        run = context.task_run
        if run is not None and run.state is not None and has_ended(run.state):
            return run.state  # it was cancelled while it waited, and that has been told
        pause = min(_LONGEST_PAUSE, 1.5 * pause)


def _found(task: Any, run: TaskRun, context: RunContext, plan: Plan) -> Steps:
    """Return the state of a run whose result is there already, recorded; None if it is not."""
    data = staged(context, plan)
    if data is None:
        data = yield Away(lambda: usable(context, plan), context)
    if data is None:
        return None
    context.transaction.state = TransactionState.COMMITTED
    value = data[0]
    return (yield from _conclude(task, run, context, value, plan))


def staged(context: RunContext, plan: Plan) -> list[Any] | None:
    """Return what another task of the same transaction has computed and not committed yet."""
    other = context.transaction.find_staged(plan.key)
    if other is None:
        return None
    return [other.staged.get() if hasattr(other.staged, "metadata") else other.staged]


def usable(context: RunContext, plan: Plan) -> list[Any] | None:
    """Return the kept result in a list: its value if it is small, its record if not; or None.

    What is there and cannot be used is told, so that nobody wonders why the task runs again.
    """
    record, problem = plan.store.find(str(plan.key))
    if record is not None:
        try:
            value = record.get() if _is_small(record, context) else record
        except ResultError as error:
            problem = text_of(error)
        else:
            # With a file of its own its parts can be opened: the record leads there.
            return [record if "file" in record.metadata.fields else value]
    if problem is not None:
        message = f"The result that was kept as {plan.key!r} is computed again: {problem}"
        run_log(context, WARNING, message)
    return None


def _is_small(record: ResultRecord, context: RunContext) -> bool:
    size = int(record.metadata.fields["size"])
    return bool(size <= context.root.settings.results_inline_limit)


def _conclude(task: Any, run: TaskRun, context: RunContext, value: Any, plan: Plan) -> Steps:
    """Record that a run needs not run, call its hooks, and log it."""
    state = cached_state(value, plan)
    context.root.record("task", run, state)
    if task.on_completion_hooks:
        yield from run_hooks(task.on_completion_hooks, task, run, state, context)
    run_log(context, INFO, f"Finished in state {state!r}")
    return state


def cached_state(value: Any, plan: Plan) -> State:
    """Return the state of a run whose result was kept."""
    return State(_COMPLETED, "Cached", data=value, details={"cache_key": str(plan.key)})


# Keeping ------------------------------------------------------------------------------------------


def settled_in(context: RunContext, plan: Plan, state: State) -> None:
    """Commit what a run has come to, leave that to the transaction around it, or roll back."""
    mine, task, run = context.transaction, context.task, context.task_run
    if mine.is_committed():
        mine.end(None)
        return
    if state.type is _COMPLETED:
        value = plan.record
        if value is None:
            value = state.data
            if plan.keeps:
                value = plan.store.create_result_record(_bare(value), plan.key, plan.expires())
        undone = [_undoing(context, run), *task.on_rollback_hooks]
        done = list(task.on_commit_hooks)
        mine.stage(value, *([], []) if _is_of_job(context) else (undone, done))
        plan.lock_until(mine)
    mine.end(mine.parent if plan.joins else None, failed=state.type is not _COMPLETED)


def _bare(value: Any) -> Any:
    """Return a value, loaded if it is kept somewhere else."""
    return value.get() if isinstance(value, StoredValue) else value


def _is_of_job(context: RunContext) -> bool:
    """Tell whether it is a job's own run: its hooks are called in the flow's process."""
    run = context.task_run
    return run is not None and getattr(context.root, "job_task_run", None) == run.id


def _undoing(context: RunContext, run: Any) -> Callable[[Any], None]:
    """Return the rollback hook by which a run is seen to have been rolled back."""

    def undo(_: Any) -> None:
        message = "Task rolled back as part of transaction"
        state = State(_COMPLETED, "RolledBack", message)
        if is_open(context):
            context.root.record("task", run, state)
        else:
            run.state = state

    undo.log_on_run = False  # type: ignore[attr-defined]  # the user did not write it
    return undo


def kept(context: RunContext, state: State) -> Steps:
    """Keep the value of a completed attempt before its state is recorded, where that is for good.

    So a journal that says Completed is true also for the runs that will look for the result, and
    a job's large result is written once. A run that others may undo is kept when it is committed;
    its record knows the file from then on.

    Returns:
        the state, perhaps with the record in the place of the value.
    """
    mine = context.transaction
    plan = mine.plan
    if plan is None or not plan.keeps:
        return state
    later = plan.joins or (context.task.on_commit_hooks and not _is_of_job(context))
    try:
        record = plan.store.create_result_record(_bare(state.data), plan.key, plan.expires())
        if not later:
            yield Away(lambda: plan.store.persist_result_record(record, mine.holder), context)
    except (HpcFlowsError, OSError) as error:
        run_log(context, WARNING, _not_kept(plan, error))
        plan.keeps = mine.write_on_commit = False
        return state
    if later:
        return state if context.root.in_job else _holding(state, record, plan)
    plan.record = record
    run_log(context, DEBUG, f"The result is kept as {plan.key!r} in {plan.store.place!r}.")
    return with_record(state, record, context)


def _not_kept(plan: Plan, error: BaseException) -> str:
    return (
        f"The result could not be kept for other runs, which will compute it again "
        f"({plan.key!r}): {text_of(error)}"
    )


def with_record(state: State, record: ResultRecord, context: RunContext) -> State:
    """Return a state that holds the record: its data can be opened by parts, and need not stay."""
    fields = record.metadata.fields
    in_job = context.root.in_job
    if not context.task.cache_result_in_memory and not in_job:
        record.release()
    elif "file" not in fields or (in_job and fields.get("folder") is None):
        return state
    return _with_data(state, record)


def _holding(state: State, record: ResultRecord, plan: Plan) -> State:
    """Return a state that holds the record, whose file will be there after the commit."""
    plan.record = record
    return _with_data(state, record)


def _with_data(state: State, data: Any) -> State:
    details, epoch = state.details, state.epoch
    return State(state.type, state.name, state.message, data=data, details=details, epoch=epoch)


def keep_flow_result(flow: Any, run: FlowRun, context: RunContext, state: State) -> State:
    """Keep the value of a completed flow run; return the state, perhaps with the record in it.

    Args:
        flow: the `Flow`.
        run: its run.
        context: what its function ran in.
        state: the final state.
    """
    from hpc_flows.results.store import ResultStore  # noqa: PLC0415 - few flows keep theirs

    if state.type is not _COMPLETED or hasattr(state.data, "metadata"):
        return state
    store = ResultStore().update_for_flow(flow)
    record = store.create_result_record(state.data, f"flow-{run.id}")
    try:
        store.persist_result_record(record)
    except (ResultError, OSError) as error:
        run_log(context, WARNING, f"The flow's result could not be kept: {text_of(error)}")
        return state
    if flow.cache_result_in_memory:
        return state
    record.release()
    return State(state.type, state.name, state.message, data=record, details=state.details)
