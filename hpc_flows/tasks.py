"""Tasks: the `@task` decorator, and what can be done with a decorated function."""

from __future__ import annotations

from hpc_flows.context import current, entered, give_way
from hpc_flows.engine.definition import Bound, Definition, P, R
from hpc_flows.engine.drive import adrive, drive
from hpc_flows.engine.mapping import spread
from hpc_flows.engine.options import (
    check_callable,
    check_expiration,
    check_flag,
    check_tags,
    check_template,
    has_to_look,
)
from hpc_flows.engine.parameters import bind, run_name
from hpc_flows.engine.retries import check_jitter, exponential_backoff
from hpc_flows.engine.task_engine import await_call, run_task, run_waiting_task
from hpc_flows.exceptions import OptionValueError
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
    from datetime import timedelta
    from typing import Any, Self, TypedDict, Unpack, overload

    from hpc_flows.context import RunContext
    from hpc_flows.engine.drive import Steps
    from hpc_flows.engine.retries import Delay

    Hooks = Iterable[Callable[..., Any]] | None

    class TaskOptions(TypedDict, total=False):
        """The options of `@task`; their meaning is told by `Task`."""

        name: str | None
        description: str | None
        tags: Iterable[str] | None
        version: str | None
        resources: Resources | Mapping[str, Any] | None
        task_run_name: str | Callable[..., str] | None
        retries: int | None
        retry_delay_seconds: Delay | None
        retry_jitter_factor: float | None
        retry_condition_fn: Callable[..., Any] | None
        timeout_seconds: float | None
        log_prints: bool | None
        persist_result: bool | None
        result_storage: Any
        result_storage_key: str | None
        result_serializer: Any
        cache_result_in_memory: bool
        cache_policy: Any
        cache_key_fn: Callable[..., str | None] | None
        cache_expiration: timedelta | float | None
        cache_expiration_seconds: float | None
        refresh_cache: bool | None
        on_running: Hooks
        on_completion: Hooks
        on_failure: Hooks
        on_commit: Hooks
        on_rollback: Hooks
        viz_return_value: Any


__all__ = ["Task", "TaskOptions", "exponential_backoff", "task"]


class Task(Definition[P, R]):
    """A function that leaves a task run wherever it is called, submitted or mapped.

    It can be a method. On class and static methods `@task` stands above the other decorator.
    Besides these attributes it has those of `Definition`.

    Attributes:
        task_key: tells tasks of one name in different modules apart.
        tags: given to all its runs.
        resources: what each run asks for; with a cluster active, it runs there.
        task_run_name: template such as `"{x}-{y}"`, or callable, that names runs; or None.
        retry_jitter_factor: how much longer a pause before a retry may be at random, as a part of
            it; None for not at all.
        retry_condition_fn: `fn(task, task_run, state)` tells whether a failed run is tried again;
            None always does.
        cache_key_fn: `fn(context, parameters)` gives the key of a call's result, or None for none.
        cache_expiration: timedelta after which a kept result is made anew; None for never.
        refresh_cache: whether results are made anew although they are kept; None takes the
            setting.
        result_storage_key: the name that results are kept under, a template of parameters.
        viz_return_value: what a call returns while a flow is drawn.
        recall: whether the engine must look for a kept result, or keep one.
        on_running_hooks, on_completion_hooks, on_failure_hooks: functions of
            `(task, task_run, state)`.
        on_commit_hooks, on_rollback_hooks: functions of `(transaction)`.
    """

    kind = "task"
    own_options = (
        "tags",
        "resources",
        "task_run_name",
        "retry_jitter_factor",
        "retry_condition_fn",
        "cache_policy",
        "cache_key_fn",
        "cache_expiration",
        "cache_expiration_seconds",
        "refresh_cache",
        "result_storage_key",
        "viz_return_value",
    )
    hook_names = ("on_running", "on_completion", "on_failure", "on_commit", "on_rollback")
    refused = {  # noqa: RUF012 - annotated in Definition, and never changed
        "asset_deps": " hpc_flows keeps no catalogue of assets; pass futures, or wait_for=[...].",
        "task_runner": " Flows have a task runner: @flow(task_runner=...).",
    }

    def __init__(self, fn: Callable[P, R], **options: Unpack[TaskOptions]) -> None:
        """Make a task of `fn`.

        Raises:
            ParameterError: an option is wrong, or not known.
            ResourceError: the resources are wrong.
        """
        given: Any = options
        super().__init__(fn, given)
        owner = self._owner
        self.task_key = f"{_attribute(self.fn, '__module__')}:{_attribute(self.fn, '__qualname__')}"
        self.tags = check_tags(owner, given.get("tags"))
        self.resources = Resources.of(given.get("resources"))
        self.task_run_name = check_template(owner, "task_run_name", given.get("task_run_name"))
        self.retry_jitter_factor = check_jitter(owner, given.get("retry_jitter_factor"))
        self.retry_condition_fn = check_callable(
            owner, "retry_condition_fn", given.get("retry_condition_fn")
        )
        self.cache_key_fn = check_callable(owner, "cache_key_fn", given.get("cache_key_fn"))
        self.cache_expiration = check_expiration(owner, given)
        self.refresh_cache = check_flag(owner, "refresh_cache", given.get("refresh_cache"))
        self.result_storage_key: str | None = given.get("result_storage_key")
        self.viz_return_value = given.get("viz_return_value")
        self.recall = has_to_look(self, given)

    @property
    def cache_policy(self) -> Any:
        """What the key of a call's result is made of: a `CachePolicy`, or None."""
        from hpc_flows.cache_policies import policy_of  # noqa: PLC0415 - few tasks need it

        return policy_of(self, self._options)

    # Methods ------------------------------------------------------------------------------------

    def _bound_to(self, first: object) -> BoundTask[P, R]:
        return BoundTask(self, first)

    # Options ------------------------------------------------------------------------------------

    def with_options(self, **options: Unpack[TaskOptions]) -> Self:
        """Return a task of the same function with some options changed.

        None takes an option back to its default. Resources are merged: the fields that are given
        win over those of this task.
        """
        changed: Any = options
        if "cache_expiration_seconds" in changed:
            changed.setdefault("cache_expiration", changed.pop("cache_expiration_seconds"))
        if self.resources is not None and changed.get("resources") is not None:
            changed["resources"] = self.resources.merged(Resources.of(changed["resources"]))
        return self._changed(changed)

    def on_running(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(task, task_run, state)` whenever a run starts; a decorator."""
        return self._add_hook("on_running", fn)

    def on_completion(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(task, task_run, state)` when a run completes; a decorator."""
        return self._add_hook("on_completion", fn)

    def on_failure(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(task, task_run, state)` when a run fails for good; a decorator."""
        return self._add_hook("on_failure", fn)

    def on_commit(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(transaction)` when a run's result is kept for good; a decorator."""
        self.recall = True
        return self._add_hook("on_commit", fn)

    def on_rollback(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(transaction)` when the transaction of a run is rolled back; a decorator."""
        self.recall = True
        return self._add_hook("on_rollback", fn)

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
        if self.isgenerator:
            return self._yielding(args, kwargs, wait_for, return_state=return_state)
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

    def _yielding(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any, *, return_state: bool
    ) -> Any:
        """Return a generator that runs the task as its values are asked for."""
        from hpc_flows.engine.generators import astream, stream  # noqa: PLC0415 - few tasks yield

        if return_state:
            msg = (
                f"The return_type for a generator task must be 'result': {self._owner} yields "
                f"values while it runs, and has no state before. submit(return_state=True) has one."
            )
            raise OptionValueError(msg)
        bind(self.fn, args, kwargs)
        return (astream if self.isasync else stream)(self._turns(args, kwargs, wait_for))

    def _turns(self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any) -> Steps:
        """Run a call that yields in the context of whoever asks for the first value."""
        from hpc_flows.engine.generators import emitted  # noqa: PLC0415 - as above

        context = current()
        if context is not None and context.root is not None:
            return (yield from self._steps_in(context, args, kwargs, wait_for, emitted))
        with standing_alone(self.name) as context:
            return (yield from self._steps_in(context, args, kwargs, wait_for, emitted))

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
        context = current()
        if context is not None and context.is_sketch:  # a picture shows where iterables come from
            wait_for = [*as_waited(wait_for), *args, *kwargs.values()]
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
        return self._steps_in(context, args, kwargs, wait_for)

    def _steps_in(
        self,
        context: RunContext,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Any,
        elsewhere: Callable[[RunContext], Any] | None = None,
    ) -> Steps:
        bound = bind(self.fn, args, kwargs)
        if context.is_sketch:
            sketch: Any = context
            noted: Steps = sketch.call(self, args, kwargs, wait_for)
            return noted
        plain = is_plain(args) and (not kwargs or is_plain(kwargs.values()))
        if plain and not wait_for and self.resources is None:
            run = self._new_run(context, bound)
            context.root.record_task(run)
            return run_task(self, run, args, kwargs, context, elsewhere)
        reserve = None
        if self.resources is not None and not context.root.in_job:
            dispatch = with_dispatch(context)
            if dispatch.takes(self):
                return self._steps_handed_out(context, args, kwargs, wait_for)
            dispatch.check(self)
            reserve = lambda: dispatch.hold(self)  # noqa: E731 - short, and used once
        waited = as_waited(wait_for)
        run = self._new_run(context, bound, find_futures((args, kwargs, waited)))
        context.root.record_task(run)
        return run_waiting_task(self, run, args, kwargs, context, waited, reserve, elsewhere)

    def _steps_handed_out(
        self, context: RunContext, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any
    ) -> Steps:
        """Wait for a direct call that runs on a cluster."""
        bound = bind(self.fn, args, kwargs)
        futures = self._hand_out_in(context, [(args, kwargs)], [bound], wait_for, mapped=False)
        steps = await_call(futures[0])
        if not self.isgenerator:
            return steps
        from hpc_flows.engine.generators import emitted_at_end  # noqa: PLC0415 - as above

        return emitted_at_end(steps)

    def _steps_outside(self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any) -> Steps:
        """Run a direct call that is part of no flow run: it gets a run directory of its own."""
        with standing_alone(self.name) as context, entered(context):
            return (yield from self._steps_in(context, args, kwargs, wait_for))

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
        calls = []
        for index, (args, kwargs) in enumerate(arguments):
            upstream = (
                ()
                if not waited and is_plain(args) and is_plain(kwargs.values())
                else (find_futures((args, kwargs, waited)))
            )
            run = self._new_run(context, bound[index], upstream, index if mapped else None)
            future = TaskFuture(run, give_way)
            calls.append(TaskCall(self, run, args, kwargs, future, context, waited))
        context.root.record_pending([call.run for call in calls])
        dispatch(self, calls)
        return TaskFutureList([call.future for call in calls])

    def _new_run(
        self,
        context: RunContext,
        parameters: Mapping[str, Any],
        upstream: Sequence[TaskFuture] = (),
        map_index: int | None = None,
    ) -> TaskRun:
        """Make the run of one call."""
        name = None
        if self.task_run_name is not None:
            name = run_name(f"task {self.name!r}", self.task_run_name, parameters)
        flow_run = context.flow_run
        return TaskRun(
            self.name,
            self.task_key,
            name,
            flow_run_id=flow_run.id if flow_run is not None else None,
            tags=self._tags_in(context),
            upstream=tuple(dict.fromkeys(future.task_run_id for future in upstream)),
            resources=self.resources,
            map_index=map_index,
        )

    def _tags_in(self, context: RunContext) -> tuple[str, ...]:
        if not self.tags:
            return context.tags
        return tuple(sorted({*context.tags, *self.tags}))


class BoundTask(Bound, Task[P, R]):
    """A task that is a method, with the object that it was looked up on."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a call with the object before the other arguments."""
        return self._whole.submit(self._first, *args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Submit calls with the object before the other arguments of each."""
        return self._whole.map(unmapped(self._first), *args, **kwargs)


#: Values of these types are what they look like: no states, no stored values, no exceptions.
_SIMPLE = frozenset({int, float, str, bytes, bool})


def _attribute(fn: Any, name: str) -> str:
    return str(getattr(fn, name, None) or getattr(type(fn), name))


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
    `on_failure` take lists of functions of `(task, task_run, state)`, `on_commit` and
    `on_rollback` of functions of `(transaction)`. `cache_expiration_seconds` is another way to
    give `cache_expiration`.

    Raises:
        ParameterError: an option is wrong, or not known.
        ResourceError: the resources are wrong.
    """
    if fn is None:
        return lambda fn: Task(fn, **options)
    return Task(fn, **options)
