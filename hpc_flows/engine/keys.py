"""What is to be done about a task run's result: its key, and whether to look, lock and keep."""

from __future__ import annotations

import os
import time

from hpc_flows.engine.parameters import bind
from hpc_flows.exceptions import HpcFlowsError, text_of
from hpc_flows.logging import ERROR, run_log
from hpc_flows.results.places import Folder
from hpc_flows.results.store import ResultStore
from hpc_flows.transactions import IsolationLevel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.results.record import ResultRecord
    from hpc_flows.runs import TaskRun


_SERIALIZABLE = IsolationLevel.SERIALIZABLE


class Plan:
    """What is to be done about the result of one task run.

    Attributes:
        key: the key, or None for a result that is neither looked for nor kept.
        store: where.
        keeps: whether the result is kept.
        looks: whether one that was kept is looked for.
        locks: whether runs of the same key wait for each other.
        level: the isolation level that the cache policy asks for, or None.
        joins: whether the run is committed with the transaction around it.
        record: what was kept, once it was.
        holder: who takes the lock, for other processes to see.
    """

    __slots__ = (
        "_expiration",
        "_locked",
        "holder",
        "joins",
        "keeps",
        "key",
        "level",
        "locks",
        "looks",
        "record",
        "store",
    )

    def __init__(self, key: str | None, store: ResultStore, run: TaskRun, expiration: Any) -> None:
        self.key = key
        self.store = store
        self.keeps = self.looks = self.locks = key is not None
        self.level: IsolationLevel | None = None
        self.joins = False
        self.record: ResultRecord | None = None
        self._expiration = expiration
        self.holder = f"{run.name} {run.id}"
        self._locked = False

    def expires(self) -> float | None:
        """Return when a result of now stops being valid, in seconds since 1970, or None."""
        span = self._expiration
        return None if span is None else time.time() + span.total_seconds()

    def try_lock(self) -> bool:
        """Take the lock if nobody has it; return whether it was to be had."""
        manager, key = self.store.lock_manager, str(self.key)
        quick = getattr(manager, "try_lock", None)
        if quick is not None:
            self._locked = bool(quick(key, self.holder))
        else:
            self._locked = bool(manager.acquire_lock(key, self.holder, 0.0))
        return self._locked

    def unlock(self) -> None:
        """Give the lock back, if it was taken."""
        if not self._locked:
            return
        self._locked = False
        try:
            self.store.release_lock(str(self.key), self.holder)
        except (ValueError, HpcFlowsError):
            return  # it was lost, or cannot be reached: then it ends by itself, with this process

    def lock_until(self, transaction: Any) -> None:
        """Leave the lock to a transaction, where isolation was asked for until it commits."""
        if self._locked and self.joins and transaction.isolation_level is _SERIALIZABLE:
            transaction.take_lock()
            self._locked = False

    def lock_holder(self) -> str:
        """Return who has the lock, for people."""
        describe = getattr(self.store.lock_manager, "describe_holder", None)
        return "another run" if describe is None else str(describe(str(self.key)))


def plan_of(task: Any, run: TaskRun, context: RunContext) -> Plan:
    """Return what is to be done about the result of a run; what goes wrong is logged.

    Args:
        task: the `Task`.
        run: its run; its `cache_key` is used where the flow's process has computed it.
        context: the task's own.
    """
    settings = context.root.settings
    keeps = persists(task, context)
    store = store_for(task, context)
    key, cacheable = (None, False)
    if keeps:
        key, cacheable = _key(task, run, context, store)
    plan = Plan(key, store, run, task.cache_expiration)
    policy = task.cache_policy if keeps else None
    level = None if policy is None else policy.isolation_level
    plan.level = None if level is None else IsolationLevel(str(getattr(level, "value", level)))
    refresh = settings.tasks_refresh_cache if task.refresh_cache is None else task.refresh_cache
    plan.looks = cacheable and not refresh
    plan.locks = cacheable and plan.level is not IsolationLevel.READ_COMMITTED
    plan.locks = plan.locks and not _is_inside(context, key) and _has_locks(store, settings)
    run.cache_key = key if cacheable else None
    return plan


def persists(task: Any, context: RunContext) -> bool:
    """Tell whether the results of a task are kept for other runs."""
    said: bool | None = task.persist_result
    return context.keeping if said is None else said


def store_for(task: Any, context: RunContext) -> ResultStore:
    """Return the store that the options of a task, and of its flow, ask for."""
    store = ResultStore()
    if context.flow is not None:
        store = store.update_for_flow(context.flow)
    outer = context.transaction
    if outer is not None and outer.store is not None and outer.store.lock_manager is not None:
        store = store.model_copy({"lock_manager": outer.store.lock_manager})
    return store.update_for_task(task)


def _key(
    task: Any, run: TaskRun, context: RunContext, store: ResultStore
) -> tuple[str | None, bool]:
    """Return the key of a run's result, and whether others can have the same one."""
    if run.cache_key is not None:
        return run.cache_key, True
    key = None
    try:
        if not context.root.settings.tasks_disable_caching:
            key = computed_key(task, run, context)
    except Exception as error:  # noqa: BLE001 - policies and functions of the user's
        message = (
            f"Error encountered when computing cache key - result will not be persisted. "
            f"{type(error).__name__}: {text_of(error)}"
        )
        run_log(context, ERROR, message)
        return None, False
    return (store.storage_key_fn(), False) if key is None else (str(key), True)


def computed_key(task: Any, run: TaskRun, context: RunContext) -> str | None:
    """Return what the cache policy, or the template of the storage key, makes of a call."""
    policy = task.cache_policy
    args, kwargs = context.arguments
    parameters = bind(task.fn, args, kwargs)
    if policy is None:
        template = task.result_storage_key
        return None if template is None else filled(template, parameters)
    from hpc_flows.context.views import TaskRunContext  # noqa: PLC0415 - for those who cache

    flow_run = context.flow_run
    key: str | None = policy.compute_key(
        task_ctx=TaskRunContext(task=task, task_run=run, parameters=parameters),
        inputs=parameters,
        flow_parameters=None if flow_run is None else flow_run.parameters,
    )
    return key


def filled(template: str, parameters: dict[str, Any]) -> str:
    """Return a storage key: a template with parameters and facts of the run put in.

    `{parameters[x]}`, `{flow_run.name}`, `{hpc_flows.runtime.task_run.id}` and
    `{prefect.runtime.flow_run.name}` are understood.

    Raises:
        KeyError: there is no parameter of that name.
        AttributeError: there is no such fact.
    """
    from types import SimpleNamespace  # noqa: PLC0415 - only here

    from hpc_flows import runtime  # noqa: PLC0415 - only here

    package = SimpleNamespace(runtime=runtime)
    facts = {name: getattr(runtime, name) for name in ("flow_run", "task_run")}
    return template.format(parameters=parameters, hpc_flows=package, prefect=package, **facts)


def _is_inside(context: RunContext, key: str | None) -> bool:
    """Tell whether a task around this one computes the same key: it would wait for itself."""
    outer = context.transaction
    while outer is not None:
        if outer.of_task and outer.key == key:
            return True
        outer = outer.parent
    return False


def _has_locks(store: ResultStore, settings: Any) -> bool:
    """Tell whether locks can be had; those of a folder are files in it."""
    if store.lock_manager is None:
        records = store.records
        if not isinstance(records, Folder):
            return False
        from hpc_flows.locking.filesystem import FileSystemLockManager  # noqa: PLC0415 - as needed

        folder = os.path.join(records.path, ".locks")
        store.lock_manager = FileSystemLockManager(folder, ttl=settings.results_lock_seconds)
    return True
