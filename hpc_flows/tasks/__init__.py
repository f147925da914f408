"""Tasks: the `@task` decorator, and what can be done with a decorated function."""

from __future__ import annotations

from hpc_flows.context import current
from hpc_flows.engine.definition import Bound, Definition, P, R
from hpc_flows.engine.drive import adrive, drive
from hpc_flows.engine.options import (
    check_callable,
    check_expiration,
    check_flag,
    check_tags,
    check_template,
    keeps_results,
)
from hpc_flows.engine.parameters import bind
from hpc_flows.engine.retries import check_jitter, exponential_backoff
from hpc_flows.exceptions import HpcFlowsError, OptionValueError
from hpc_flows.futures import TaskFutureList, as_waited, unmapped, value_of
from hpc_flows.resources import Resources
from hpc_flows.tasks.calls import hand_out, hand_out_alone, in_place, in_turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Never, Self, Unpack, overload

    from hpc_flows.tasks.options import TaskOptions

__all__ = [
    "Task",
    "TaskOptions",
    "exponential_backoff",
    "task",
    "task_input_hash",
]

#: Names that are had from here, and the modules that they are loaded from when first used.
_HOMES = {"TaskOptions": "tasks.options", "task_input_hash": "cache_policies"}


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
        self.tags = set(check_tags(owner, given.get("tags")))
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
        if self.persist_result is None and keeps_results(given):
            self.persist_result = True
        hooks = self.on_commit_hooks or self.on_rollback_hooks  # type: ignore[attr-defined]
        self.recall = bool(self.persist_result or hooks)

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
        state = drive(in_place(self, args, kwargs, wait_for))
        if return_state:
            return state
        return state.data if type(state.data) in _SIMPLE else value_of(state)

    async def _later(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any, *, return_state: bool
    ) -> Any:
        state = await adrive(in_place(self, args, kwargs, wait_for))
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
        return (astream if self.isasync else stream)(in_turns(self, args, kwargs, wait_for))

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
        future = hand_out(self, [(args, kwargs)], wait_for)[0]
        if return_state:
            future.wait()
            return future.state
        return future

    def map(
        self,
        *args: Any,
        return_state: bool = False,
        wait_for: Any = None,
        deferred: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Submit one call for each set of elements of the iterables among the arguments.

        Args:
            *args: iterables of one length, or what every call gets: values that cannot be
                iterated over, texts, and what is wrapped in `unmapped`.
            return_state: give True to wait and have the list of final states returned.
            wait_for: futures to wait for before any call starts.
            deferred: give True to hand each call out as `delay` does.
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
        from hpc_flows.engine.mapping import spread  # noqa: PLC0415 - jobs hardly ever map

        calls = spread(args, kwargs)
        if deferred:
            return TaskFutureList([self.apply_async(*call, wait_for) for call in calls])
        futures = hand_out(self, calls, wait_for, mapped=True)
        if return_state:
            futures.wait()
            return [future.state for future in futures]
        return futures

    # In the background ---------------------------------------------------------------------------

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Begin a call in the background, as `apply_async` does, and return its `TaskFuture`."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        wait_for: Any = None,
        dependencies: None = None,
    ) -> Any:
        """Begin a call in the background: in a run of its own, which no flow waits for.

        The process does not end before it has.

        Args:
            args: the arguments; it starts when the futures among them have ended.
            kwargs: the arguments by name.
            wait_for: more futures to wait for before it starts.
            dependencies: None; what a run takes is found among its arguments and `wait_for`.

        Raises:
            ParameterBindError: the arguments do not fit the function.
            OptionValueError: `dependencies` is given.
        """
        from hpc_flows.tasks.background import (  # noqa: PLC0415 - few tasks need it
            check_dependencies,
            finish_at_exit,
        )

        check_dependencies(self._owner, dependencies)

        call = (tuple(args or ()), dict(kwargs or {}))
        bound = [bind(self.fn, *call)]
        future = hand_out_alone(self, [call], bound, wait_for, mapped=False)[0]
        finish_at_exit(future)
        return future

    def serve(self) -> Never:
        """Refuse: what `delay` begins runs in the process that calls it.

        Raises:
            HpcFlowsError: always.
        """
        msg = (
            f"{self._owner} needs no task worker: what delay() begins runs in the process that "
            f"calls it. Leave serve() out."
        )
        raise HpcFlowsError(msg)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a call by parameter name, defaults included.

        Raises:
            ParameterBindError: the arguments do not fit the function.
        """
        return bind(self.fn, args, kwargs)


class BoundTask(Bound, Task[P, R]):
    """A task that is a method, with the object that it was looked up on."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a call with the object before the other arguments."""
        return self._whole.submit(self._first, *args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Submit calls with the object before the other arguments of each."""
        return self._whole.map(unmapped(self._first), *args, **kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        wait_for: Any = None,
        dependencies: None = None,
    ) -> Any:
        """Begin a call in the background with the object before the other arguments."""
        whole = (self._first, *(args or ()))
        return self._whole.apply_async(whole, kwargs, wait_for, dependencies)


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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(__import__(f"hpc_flows.{_HOMES[name]}", fromlist=[name]), name)
