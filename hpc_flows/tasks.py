"""Tasks: the `@task` decorator, and what can be done with a decorated function."""

from __future__ import annotations

import sys
from types import MethodType

from hpc_flows.context import current, entered, give_way
from hpc_flows.engine.drive import adrive, drive
from hpc_flows.engine.hooks import check_hooks, is_coroutine_function
from hpc_flows.engine.mapping import spread
from hpc_flows.engine.options import (
    check_function,
    check_tags,
    check_template,
    check_timeout,
    check_words,
    take_after,
    unwrapped,
)
from hpc_flows.engine.parameters import bind, refuse_unknown, run_name
from hpc_flows.engine.retries import check_delays, check_retries
from hpc_flows.engine.task_engine import await_call, run_task, run_waiting_task
from hpc_flows.futures import (
    TaskFuture,
    TaskFutureList,
    as_waited,
    find_futures,
    is_plain,
    unmapped,
    value_of,
)
from hpc_flows.resources import Resources
from hpc_flows.runs import TaskRun
from hpc_flows.states import Pending
from hpc_flows.task_runners.base import TaskCall
from hpc_flows.task_runners.routing import (
    close_alone,
    standing_alone,
    standing_alone_until_done,
    with_dispatch,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Generic, ParamSpec, TypedDict, TypeVar, Unpack, overload

    from hpc_flows.context import RunContext
    from hpc_flows.engine.drive import Steps
    from hpc_flows.engine.retries import Delay

    P = ParamSpec("P")
    R = TypeVar("R")

    class TaskOptions(TypedDict, total=False):
        """The options of `@task`; their meaning is told by `Task`."""

        name: str | None
        description: str | None
        tags: Iterable[str] | None
        resources: Resources | Mapping[str, Any] | None
        task_run_name: str | Callable[..., str] | None
        retries: int | None
        retry_delay_seconds: Delay | None
        timeout_seconds: float | None
        log_prints: bool | None
        on_running: Iterable[Callable[..., Any]] | None
        on_completion: Iterable[Callable[..., Any]] | None
        on_failure: Iterable[Callable[..., Any]] | None

else:

    class Generic:
        """Stands for typing.Generic, which costs 8 ms to import in every job."""

        def __class_getitem__(cls, _: object) -> type:
            return cls

    P, R = "P", "R"

_OPTIONS = (
    "name",
    "description",
    "tags",
    "resources",
    "task_run_name",
    "retries",
    "retry_delay_seconds",
    "timeout_seconds",
    "log_prints",
    "on_running",
    "on_completion",
    "on_failure",
)


class Task(Generic[P, R]):
    """A function that leaves a task run wherever it is called, submitted or mapped.

    It can be a method. On class and static methods `@task` stands above the other decorator.

    Attributes:
        fn: the function itself, without any of it.
        name: of the task; the function's, unless given.
        task_key: tells tasks of one name in different modules apart.
        description: text for people; the function's docstring, unless given.
        tags: given to all its runs.
        resources: what each run asks for; with a cluster active, it runs there.
        task_run_name: template such as `"{x}-{y}"`, or callable, that names runs; or None.
        retries: how often a run that failed is tried again; None takes the setting.
        retry_delay_seconds: pause before each retry: one number, or one for each; None takes the
            setting.
        timeout_seconds: time limit of each attempt, or None.
        log_prints: whether `print` makes log records; None does as the flow does.
        on_running_hooks, on_completion_hooks, on_failure_hooks: functions of
            `(task, task_run, state)`.
        isasync: whether the function is a coroutine function.
    """

    def __init__(self, fn: Callable[P, R], **options: Unpack[TaskOptions]) -> None:
        """Make a task of `fn`.

        Raises:
            ParameterError: an option is wrong, or not known.
            ResourceError: the resources are wrong.
        """
        fn, self._method = unwrapped(fn)
        check_function("task", fn)
        self.fn = fn
        take_after(self, fn)
        function_name = getattr(fn, "__name__", None) or type(fn).__name__
        self.name = options.get("name") or function_name
        owner = f"Task {self.name!r}"
        refuse_unknown(owner, options.keys() - set(_OPTIONS), _OPTIONS)
        check_words(owner, options)
        self._options = options
        self.task_key = f"{_attribute(fn, '__module__')}:{_attribute(fn, '__qualname__')}"
        self.description = options.get("description") or getattr(fn, "__doc__", None)
        self.tags = check_tags(owner, options.get("tags"))
        self.resources = Resources.of(options.get("resources"))
        self.task_run_name = check_template(owner, "task_run_name", options.get("task_run_name"))
        self.retries = check_retries(owner, options.get("retries"))
        self.retry_delay_seconds = check_delays(
            owner, options.get("retry_delay_seconds"), self.retries
        )
        self.timeout_seconds = check_timeout(owner, options.get("timeout_seconds"))
        self.log_prints = options.get("log_prints")
        self.on_running_hooks = check_hooks(owner, "on_running", options.get("on_running"))
        self.on_completion_hooks = check_hooks(owner, "on_completion", options.get("on_completion"))
        self.on_failure_hooks = check_hooks(owner, "on_failure", options.get("on_failure"))
        self.isasync = is_coroutine_function(fn)

    def __repr__(self) -> str:
        return f"<Task {self.name!r}>"

    # Pickling -----------------------------------------------------------------------------------

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle by name where importing the name gives this task again, else by value."""
        found = _importable(self.fn)
        if found is self:
            return str(self.__qualname__)
        if isinstance(found, Task) and found.fn is self.fn:
            return _with_these, (found, dict(self._options))
        return _made_of, (self.fn, dict(self._options), self._method)

    # Methods ------------------------------------------------------------------------------------

    def __get__(self, instance: object, owner: type | None = None) -> Task[..., Any]:
        """Return the task with an object, or its class, as the first argument, as methods have."""
        if self._method is staticmethod or (instance is None and self._method is None):
            return self
        return _BoundTask(self, instance if self._method is None else owner)

    # Options ------------------------------------------------------------------------------------

    def with_options(self, **options: Unpack[TaskOptions]) -> Task[P, R]:
        """Return a task of the same function with some options changed.

        Resources are merged: the fields that are given win over those of this task.
        """
        merged: Any = {**self._options, **options}
        if self.resources is not None and options.get("resources") is not None:
            merged["resources"] = self.resources.merged(Resources.of(options["resources"]))
        return Task(self.fn, **merged)

    def on_running(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(task, task_run, state)` whenever a run starts; a decorator."""
        self.on_running_hooks += check_hooks(f"Task {self.name!r}", "on_running", [fn])
        return self._with_hook("on_running", fn)

    def on_completion(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(task, task_run, state)` when a run completes; a decorator."""
        self.on_completion_hooks += check_hooks(f"Task {self.name!r}", "on_completion", [fn])
        return self._with_hook("on_completion", fn)

    def on_failure(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(task, task_run, state)` when a run fails for good; a decorator."""
        self.on_failure_hooks += check_hooks(f"Task {self.name!r}", "on_failure", [fn])
        return self._with_hook("on_failure", fn)

    def _with_hook(self, kind: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Keep the hook among the options, which copies and pickles are made of."""
        options: Any = self._options
        options[kind] = [*(options.get(kind) or ()), fn]
        return fn

    # Running ------------------------------------------------------------------------------------

    def __call__(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> Any:
        """Run the task here, or on the cluster if it has resources and a cluster is active.

        Args:
            *args: arguments of the function; futures among them are waited for.
            return_state: give True to have the final state returned instead of the value.
            wait_for: futures to wait for before it starts.
            **kwargs: arguments by name.

        Raises:
            BaseException: what ended the run.
        """
        if self.isasync:
            return self._later(args, kwargs, wait_for, return_state=return_state)
        state = drive(self._steps(args, kwargs, wait_for))
        if return_state:
            return state
        return state.data if type(state.data) in _SIMPLE else value_of(state)

    async def _later(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any, *, return_state: bool
    ) -> Any:
        state = await adrive(self._steps(args, kwargs, wait_for))
        return state if return_state else value_of(state)

    def submit(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> Any:
        """Hand a call to the flow's task runner and return its `TaskFuture` at once.

        Args:
            *args: arguments of the function; it starts when the futures among them have ended.
            return_state: give True to wait and have the final state returned.
            wait_for: more futures to wait for before it starts.
            **kwargs: arguments by name.

        Raises:
            ParameterBindError: the arguments do not fit the function.
            ResourceError: what it asks for can never be given.
        """
        future = self._hand_out([(args, kwargs)], wait_for)[0]
        if return_state:
            future.wait()
            return future.state
        return future

    def map(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> Any:
        """Submit one call for each set of elements of the iterables among the arguments.

        Args:
            *args: iterables of one length, or what every call gets: values that cannot be
                iterated over, texts, and what is wrapped in `unmapped`.
            return_state: give True to wait and have the list of final states returned.
            wait_for: futures to wait for before any call starts.
            **kwargs: arguments by name.

        Returns:
            A `TaskFutureList` in the order of the elements.

        Raises:
            MappingLengthMismatch: the iterables have different lengths.
            MappingMissingIterable: there is no iterable.
        """
        futures = self._hand_out(spread(args, kwargs), wait_for, mapped=True)
        if return_state:
            futures.wait()
            return [future.state for future in futures]
        return futures

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a call by parameter name, defaults included.

        Raises:
            ParameterBindError: the arguments do not fit the function.
        """
        return bind(self.fn, args, kwargs)

    def _steps(self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any) -> Steps:
        """Return the generator that runs a direct call."""
        context = current()
        if context is None or context.root is None:
            return self._steps_outside(args, kwargs, wait_for)
        bound = bind(self.fn, args, kwargs)
        plain = is_plain(args) and (not kwargs or is_plain(kwargs.values()))
        if plain and not wait_for and self.resources is None:
            return run_task(self, self._new_run(context, bound), args, kwargs, context)
        reserve = None
        if self.resources is not None and not context.root.in_job:
            dispatch = with_dispatch(context)
            if dispatch.takes(self):
                return await_call(self._hand_out([(args, kwargs)], wait_for)[0])
            dispatch.check(self)
            reserve = lambda: dispatch.hold(self)  # noqa: E731 - short, and used once
        waited = as_waited(wait_for)
        run = self._new_run(context, bound, find_futures((args, kwargs, waited)))
        return run_waiting_task(self, run, args, kwargs, context, waited, reserve)

    def _steps_outside(self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any) -> Steps:
        """Run a direct call that is part of no flow run: it gets a run directory of its own."""
        with standing_alone(self.name) as context, entered(context):
            steps = self._steps(args, kwargs, wait_for)
            return (yield from steps)

    def _hand_out(
        self,
        arguments: Sequence[tuple[tuple[Any, ...], dict[str, Any]]],
        wait_for: Any,
        *,
        mapped: bool = False,
    ) -> TaskFutureList:
        """Make the runs and futures of calls, and give the calls to the task runner."""
        bound = [bind(self.fn, args, kwargs) for args, kwargs in arguments]
        context = current()
        if context is not None and context.root is not None:
            return self._hand_out_in(context, arguments, bound, wait_for, mapped=mapped)
        context = standing_alone_until_done(self.name)
        try:
            futures = self._hand_out_in(context, arguments, bound, wait_for, mapped=mapped)
        except BaseException:
            close_alone(context)
            raise
        if not futures:
            close_alone(context)
        return futures

    def _hand_out_in(
        self,
        context: RunContext,
        arguments: Sequence[tuple[tuple[Any, ...], dict[str, Any]]],
        bound: Sequence[Mapping[str, Any]],
        wait_for: Any,
        *,
        mapped: bool,
    ) -> TaskFutureList:
        dispatch = with_dispatch(context)
        dispatch.check(self)
        waited = as_waited(wait_for)
        pending = Pending()
        calls = []
        for index, (args, kwargs) in enumerate(arguments):
            upstream = (
                ()
                if not waited and is_plain(args) and is_plain(kwargs.values())
                else (find_futures((args, kwargs, waited)))
            )
            run = self._new_run(context, bound[index], upstream, index if mapped else None)
            context.root.record("task", run, pending)
            future = TaskFuture(run, give_way)
            calls.append(TaskCall(self, run, args, kwargs, future, context, waited))
        dispatch(self, calls)
        return TaskFutureList([call.future for call in calls])

    def _new_run(
        self,
        context: RunContext,
        parameters: Mapping[str, Any],
        upstream: Sequence[TaskFuture] = (),
        map_index: int | None = None,
    ) -> TaskRun:
        """Make the run of one call, and journal it."""
        name = None
        if self.task_run_name is not None:
            name = run_name(f"task {self.name!r}", self.task_run_name, parameters)
        flow_run = context.flow_run
        run = TaskRun(
            self.name,
            self.task_key,
            name,
            flow_run_id=flow_run.id if flow_run is not None else None,
            tags=self._tags_in(context),
            upstream=tuple(dict.fromkeys(future.task_run_id for future in upstream)),
            resources=self.resources,
            map_index=map_index,
        )
        context.root.record_task(run)
        return run

    def _tags_in(self, context: RunContext) -> tuple[str, ...]:
        if not self.tags:
            return context.tags
        return tuple(sorted({*context.tags, *self.tags}))


class _BoundTask(Task[P, R]):
    """A task that is a method, with the object that it was looked up on."""

    def __init__(self, task: Task[P, R], first: object) -> None:
        self.__dict__.update(task.__dict__)
        self.fn = MethodType(task.fn, first)
        self._task = task
        self._first = first

    def __reduce__(self) -> tuple[Any, ...]:
        return _BoundTask, (self._task, self._first)

    def __get__(self, instance: object, owner: type | None = None) -> Task[P, R]:
        return self

    def with_options(self, **options: Unpack[TaskOptions]) -> Task[P, R]:
        return _BoundTask(self._task.with_options(**options), self._first)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._task(self._first, *args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        return self._task.submit(self._first, *args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        return self._task.map(unmapped(self._first), *args, **kwargs)


#: Values of these types are what they look like: no states, no stored values, no exceptions.
_SIMPLE = frozenset({int, float, str, bytes, bool})


def _attribute(fn: Any, name: str) -> str:
    return str(getattr(fn, name, None) or getattr(type(fn), name))


def _importable(fn: Any) -> Any:
    """Return what importing a function's module and name gives, or None; `__main__` is nothing."""
    module = getattr(fn, "__module__", None)
    if module is None or module == "__main__":
        return None
    found: Any = sys.modules.get(module)
    for part in str(getattr(fn, "__qualname__", "")).split("."):
        found = getattr(found, part, None)
    return found


def _made_of(fn: Any, options: Any, method: Any = None) -> Task[..., Any]:
    return Task(fn if method is None else method(fn), **options)


def _with_these(found: Task[..., Any], options: Any) -> Task[..., Any]:
    return Task(found.fn, **options)


if TYPE_CHECKING:

    @overload
    def task(fn: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        **options: Unpack[TaskOptions],
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(fn: Any = None, /, **options: Any) -> Any:
    """Make a function a task: `@task`, or `@task(resources=Resources(cpus=8), retries=2)`.

    The options are the attributes of `Task` of the same names; `on_running`, `on_completion` and
    `on_failure` take lists of functions of `(task, task_run, state)`.

    Raises:
        ParameterError: an option is wrong, or not known.
        ResourceError: the resources are wrong.
    """
    if fn is None:
        return lambda fn: Task(fn, **options)
    return Task(fn, **options)
