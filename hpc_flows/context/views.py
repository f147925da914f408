"""Prefect's names for parts of the current context, made when they are asked for.

`FlowRunContext.get()`, `TaskRunContext.get()` and `get_run_context()` show what is around the code
that calls them. They are views: to enter one, or to change it, changes nothing in the engine.
"""

from __future__ import annotations

import os
from contextvars import ContextVar

from hpc_flows.context import RunContext, current, tags
from hpc_flows.exceptions import MissingContextError
from hpc_flows.settings import get_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextvars import Token
    from datetime import datetime
    from types import TracebackType
    from typing import Any, ClassVar, Self

    from hpc_flows.results.store import ResultStore
    from hpc_flows.runs import TaskRun
    from hpc_flows.settings import Settings

__all__ = [
    "ContextModel",
    "EngineContext",
    "FlowRunContext",
    "RunContextView",
    "SettingsContext",
    "TagsContext",
    "TaskRunContext",
    "get_result_store",
    "get_run_context",
    "get_settings_context",
    "hydrated_context",
    "serialize_context",
    "should_persist_result",
]

_CHECKED: dict[str, Any] = {
    "int": int,
    "str": str,
    "float": (int, float),
    "bool": bool,
    "bytes": bytes,
}


class ContextModel:
    """A context of one's own: a class with annotations, one object of which is the current one.

    A subclass has `__var__ = ContextVar(...)`; its objects are entered by `with`.

    Args:
        values: by the names of the annotations.

    Raises:
        ValueError: a value is of another type than its annotation says.
    """

    __var__: ClassVar[ContextVar[Any]]

    def __init__(self, **values: Any) -> None:
        kinds = {
            name: kind
            for each in reversed(type(self).__mro__)
            for name, kind in vars(each).get("__annotations__", {}).items()
        }
        for name, value in values.items():
            kind = kinds.get(name)
            wanted = _CHECKED.get(kind if isinstance(kind, str) else getattr(kind, "__name__", ""))
            if wanted is not None and not isinstance(value, wanted):
                msg = f"{type(self).__name__}: {name} must be {kind}, not {value!r}."
                raise ValueError(msg)
        self.__dict__.update(values)
        self._token: Token[Any] | None = None

    @classmethod
    def model_construct(cls, **values: Any) -> Self:
        """Return an object without looking at the values."""
        made = cls.__new__(cls)
        made.__dict__.update(values, _token=None)
        return made

    @classmethod
    def get(cls) -> Any:
        """Return the current object of this class, or None."""
        return cls.__var__.get(None)

    def model_copy(self, *, update: dict[str, Any] | None = None) -> Self:
        """Return a copy, with some values changed, which can be entered."""
        return self.model_construct(**{**self.__dict__, **(update or {})})

    copy = model_copy

    def __enter__(self) -> Self:
        if self._token is not None:
            msg = "Context already entered. Context enter calls cannot be nested."
            raise RuntimeError(msg)
        self._token = self.__var__.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        if self._token is None:
            msg = "Asymmetric use of context. Context exit called without an enter."
            raise RuntimeError(msg)
        self.__var__.reset(self._token)
        self._token = None


class RunContextView(ContextModel):
    """What flow runs and task runs have in common.

    Attributes:
        parameters: what the run was called with, by name.
        start_time: when the run, or a task's present attempt, began.
        log_prints: whether `print` makes log records.
        persist_result: whether the run's result is kept for other runs.
        result_store: keeps it.
    """

    parameters: dict[str, Any]
    start_time: datetime
    log_prints: bool
    persist_result: bool
    result_store: ResultStore

    def serialize(self) -> dict[str, Any]:
        """Return what it holds, for `hydrated_context` in another process."""
        known = ("flow", "flow_run", "task", "task_run", "parameters")
        return {name: self.__dict__[name] for name in known if name in self.__dict__}


class FlowRunContext(RunContextView):
    """The flow run around the code that asks.

    Attributes:
        flow, flow_run: the `Flow` and its run.
        task_runner: as the flow was given it, or None.
    """

    __var__ = ContextVar("hpc_flows_flow_run_view")
    flow: Any
    flow_run: Any
    task_runner: Any

    @classmethod
    def get(cls) -> FlowRunContext | None:
        """Return the innermost flow run's, or None outside of flows."""
        entered_one: FlowRunContext | None = cls.__var__.get(None)
        context = current()
        if entered_one is not None or context is None or context.flow_run is None:
            return entered_one
        return cls.model_construct(
            flow=context.flow,
            flow_run=context.flow_run,
            task_runner=getattr(context.flow, "task_runner", None),
            parameters=context.flow_run.parameters,
            start_time=_moment(context.flow_run.created),
            log_prints=context.log_prints,
            persist_result=context.keeping,
            result_store=_store(context, with_task=False),
        )


EngineContext = FlowRunContext


class TaskRunContext(RunContextView):
    """The task run around the code that asks; `cache_key_fn` gets one.

    Attributes:
        task, task_run: the `Task` and its run.
    """

    __var__ = ContextVar("hpc_flows_task_run_view")
    task: Any
    task_run: Any

    @classmethod
    def get(cls) -> TaskRunContext | None:
        """Return the innermost task run's, or None where the innermost run is a flow's."""
        entered_one: TaskRunContext | None = cls.__var__.get(None)
        context = current()
        if entered_one is not None or context is None or context.task_run is None:
            return entered_one
        return cls.model_construct(
            task=context.task,
            task_run=context.task_run,
            parameters=context.task.bind(*context.arguments),
            start_time=_begun(context.task_run),
            log_prints=context.log_prints,
            persist_result=_persists(context),
            result_store=_store(context, with_task=True),
        )


class TagsContext(ContextModel):
    """The tags in force.

    Attributes:
        current_tags: as a set.
    """

    __var__ = ContextVar("hpc_flows_tags_view")
    current_tags: set[str]

    @classmethod
    def get(cls) -> TagsContext:
        """Return the tags in force, none at all outside of everything."""
        context = current()
        return cls.model_construct(current_tags=set() if context is None else set(context.tags))

    def serialize(self) -> dict[str, Any]:
        """Return what it holds, for `hydrated_context` in another process."""
        return {"current_tags": sorted(self.current_tags)} if self.current_tags else {}


class SettingsContext(ContextModel):
    """The settings in force.

    Attributes:
        settings: the `Settings`.
        profile: the name of the active profile.
    """

    __var__ = ContextVar("hpc_flows_settings_view")
    settings: Settings
    profile: str

    @classmethod
    def get(cls) -> SettingsContext:
        """Return those of the run, or those of the process outside of runs."""
        context = current()
        inside = context is not None and context.root is not None
        settings = context.root.settings if context is not None and inside else get_settings()
        return cls.model_construct(settings=settings, profile=settings.profile)

    def serialize(self) -> dict[str, Any]:
        """Return what it holds, for `hydrated_context` in another process."""
        return {"settings": self.settings.to_dict(), "profile": self.profile}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SettingsContext) and self.serialize() == other.serialize()

    __hash__ = None  # type: ignore[assignment]  # its settings are not


def get_settings_context() -> SettingsContext:
    """Return the settings in force."""
    return SettingsContext.get()


def get_run_context() -> FlowRunContext | TaskRunContext:
    """Return the context of the innermost run: a task's, or a flow's.

    Raises:
        MissingContextError: nothing runs here.
    """
    found = TaskRunContext.get() or FlowRunContext.get()
    if found is None:
        msg = "No run context available. You are not in a flow or task run context."
        raise MissingContextError(msg)
    return found


def get_result_store() -> ResultStore:
    """Return the store of the innermost run, or the default one outside of runs."""
    context = current()
    return _store(context or RunContext(), with_task=True)


def should_persist_result() -> bool:
    """Tell whether the innermost run's result is kept for other runs."""
    context = current()
    if context is None or context.root is None:
        return get_settings().results_persist_by_default
    return _persists(context) if context.task is not None else context.keeping


def _store(context: RunContext, *, with_task: bool) -> ResultStore:
    from hpc_flows.results.store import ResultStore  # noqa: PLC0415 - for those who ask

    outer = context.transaction
    if with_task and context.task is not None and outer is not None and outer.store is not None:
        found: ResultStore = outer.store
        return found
    store = ResultStore()
    if context.flow is not None:
        store = store.update_for_flow(context.flow)
    return store.update_for_task(context.task) if with_task and context.task else store


def _persists(context: RunContext) -> bool:
    said = context.task.persist_result
    plan = None if context.transaction is None else context.transaction.plan
    if said is None:
        return context.keeping if plan is None else bool(plan.keeps)
    return bool(said)


def _begun(run: TaskRun) -> datetime:
    """Return when the run's present attempt began."""
    return _moment(run.created if run.state is None else run.state.epoch)


def _moment(epoch: float) -> datetime:
    from datetime import UTC, datetime  # noqa: PLC0415 - for those who ask

    return datetime.fromtimestamp(epoch, UTC)


def serialize_context() -> dict[str, Any]:
    """Return what surrounds the caller, for `hydrated_context` in another process.

    The keys are Prefect's; those of what hpc_flows does not have are empty.
    """
    flow_run, task_run = FlowRunContext.get(), TaskRunContext.get()
    return {
        "flow_run_context": {} if flow_run is None else flow_run.serialize(),
        "task_run_context": {} if task_run is None else task_run.serialize(),
        "tags_context": TagsContext.get().serialize(),
        "settings_context": SettingsContext.get().serialize(),
        "asset_context": {},
        "deployment_id": os.environ.get("HPC_FLOWS__RUNTIME__DEPLOYMENT__ID"),
        "deployment_parameters": None,
    }


class hydrated_context:  # noqa: N801 - Prefect's name
    """Show in a `with` block what `serialize_context` saw in another process.

    Tags count for runs that are made in the block; the flow run and task run are shown by
    `FlowRunContext.get()` and its like, and own nothing of what is made.
    """

    def __init__(self, serialized_context: dict[str, Any] | None = None) -> None:
        self._seen = serialized_context or {}
        self._left: list[Any] = []

    def __enter__(self) -> Self:
        for one in self._parts():
            one.__enter__()
            self._left.append(one)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        while self._left:
            self._left.pop().__exit__(kind, error, trace)

    def _parts(self) -> Iterator[Any]:
        if seen := self._seen.get("flow_run_context"):
            yield FlowRunContext.model_construct(**seen)
        if seen := self._seen.get("task_run_context"):
            yield TaskRunContext.model_construct(**seen)
        if seen := self._seen.get("tags_context"):
            yield tags(*seen["current_tags"])
