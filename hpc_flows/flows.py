"""Flows: the `@flow` decorator, and what can be done with a decorated function."""

from __future__ import annotations

from types import MethodType

from hpc_flows.context import RunContext, current, open_root
from hpc_flows.engine.cancelling import watch
from hpc_flows.engine.drive import adrive, drive
from hpc_flows.engine.flow_engine import run_flow
from hpc_flows.engine.hooks import check_hooks, is_coroutine_function
from hpc_flows.engine.options import (
    check_function,
    check_template,
    check_timeout,
    check_words,
    take_after,
    unwrapped,
)
from hpc_flows.engine.parameters import (
    bind,
    defaults_of,
    refuse_unknown,
    run_name,
    variadic_names,
)
from hpc_flows.engine.retries import check_delays, check_retries
from hpc_flows.exceptions import ParameterError, ParameterTypeError
from hpc_flows.futures import as_waited, value_of
from hpc_flows.runs import FlowRun
from hpc_flows.settings import get_settings
from hpc_flows.task_runners.routing import Router

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Generic, ParamSpec, TypedDict, TypeVar, Unpack, overload

    from hpc_flows.engine.drive import Steps
    from hpc_flows.engine.retries import Delay
    from hpc_flows.task_runners.base import TaskRunner

    P = ParamSpec("P")
    R = TypeVar("R")

    class FlowOptions(TypedDict, total=False):
        """The options of `@flow`; their meaning is told by `Flow`."""

        name: str | None
        description: str | None
        flow_run_name: str | Callable[..., str] | None
        retries: int | None
        retry_delay_seconds: Delay | None
        task_runner: TaskRunner | type[TaskRunner] | None
        timeout_seconds: float | None
        validate_parameters: bool
        log_prints: bool | None
        on_running: Iterable[Callable[..., Any]] | None
        on_completion: Iterable[Callable[..., Any]] | None
        on_failure: Iterable[Callable[..., Any]] | None
        on_cancellation: Iterable[Callable[..., Any]] | None
        on_crashed: Iterable[Callable[..., Any]] | None

else:

    class Generic:
        """Stands for typing.Generic, which costs 8 ms to import in every job."""

        def __class_getitem__(cls, _: object) -> type:
            return cls

    P, R = "P", "R"

_OPTIONS = (
    "name",
    "description",
    "flow_run_name",
    "retries",
    "retry_delay_seconds",
    "task_runner",
    "timeout_seconds",
    "validate_parameters",
    "log_prints",
    "on_running",
    "on_completion",
    "on_failure",
    "on_cancellation",
    "on_crashed",
)
#: What Prefect users and others look for among the options of a flow, and where it is instead.
_ELSEWHERE = {
    "resources": " Tasks ask for resources: @task(resources=...).",
    "tags": " Give a run tags where it is called: `with tags(...):`.",
}


class Flow(Generic[P, R]):
    """A function whose tasks make up one run, with a journal of its own.

    A flow that is called inside of another shares the outer one's directory and journal. It can be
    a method; on class and static methods `@flow` stands above the other decorator.

    Attributes:
        fn: the function itself, without any of it.
        name: of the flow; the function's with `-` for `_`, unless given.
        description: text for people; the function's docstring, unless given.
        flow_run_name: template such as `"{x}-{y}"`, or callable, that names runs; or None.
        retries: how often a run that failed is tried again; None takes the setting.
        retry_delay_seconds: pause before each retry: one number, or one for each; None takes the
            setting.
        task_runner: runs what is submitted; None takes threads.
        timeout_seconds: time limit of each attempt, or None.
        should_validate_parameters: whether parameters are checked against their annotations.
        log_prints: whether `print` makes log records; None takes the outer flow's, or the setting.
        on_running_hooks, on_completion_hooks, on_failure_hooks, on_cancellation_hooks,
            on_crashed_hooks: functions of `(flow, flow_run, state)`.
        isasync: whether the function is a coroutine function.
    """

    def __init__(self, fn: Callable[P, R], **options: Unpack[FlowOptions]) -> None:
        """Make a flow of `fn`.

        Raises:
            ParameterError: an option is wrong, or not known.
        """
        fn, self._method = unwrapped(fn)
        check_function("flow", fn)
        self.fn = fn
        take_after(self, fn)
        function_name = getattr(fn, "__name__", None) or type(fn).__name__
        self.name = options.get("name") or function_name.replace("_", "-")
        owner = f"Flow {self.name!r}"
        refuse_unknown(owner, options.keys() - set(_OPTIONS), _OPTIONS, _ELSEWHERE)
        check_words(owner, options)
        self._options = options
        self.description = options.get("description") or getattr(fn, "__doc__", None)
        self.flow_run_name = check_template(owner, "flow_run_name", options.get("flow_run_name"))
        self.retries = check_retries(owner, options.get("retries"))
        self.retry_delay_seconds = check_delays(
            owner, options.get("retry_delay_seconds"), self.retries
        )
        self.task_runner = _checked_runner(owner, options.get("task_runner"))
        self.timeout_seconds = check_timeout(owner, options.get("timeout_seconds"))
        self.should_validate_parameters = options.get("validate_parameters", True)
        self.log_prints = options.get("log_prints")
        self.on_running_hooks = check_hooks(owner, "on_running", options.get("on_running"))
        self.on_completion_hooks = check_hooks(owner, "on_completion", options.get("on_completion"))
        self.on_failure_hooks = check_hooks(owner, "on_failure", options.get("on_failure"))
        self.on_cancellation_hooks = check_hooks(
            owner, "on_cancellation", options.get("on_cancellation")
        )
        self.on_crashed_hooks = check_hooks(owner, "on_crashed", options.get("on_crashed"))
        self.isasync = is_coroutine_function(fn)
        self._models: dict[tuple[str, ...], Any] = {}

    def __repr__(self) -> str:
        return f"<Flow {self.name!r}>"

    def __get__(self, instance: object, owner: type | None = None) -> Flow[..., Any]:
        """Return the flow with an object, or its class, as the first argument, as methods have."""
        if self._method is staticmethod or (instance is None and self._method is None):
            return self
        return _BoundFlow(self, instance if self._method is None else owner)

    def with_options(self, **options: Unpack[FlowOptions]) -> Flow[P, R]:
        """Return a flow of the same function with some options changed."""
        merged: Any = {**self._options, **options}
        return Flow(self.fn, **merged)

    def on_running(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(flow, flow_run, state)` whenever a run starts; a decorator."""
        return self._add_hook("on_running", fn)

    def on_completion(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(flow, flow_run, state)` when a run completes; a decorator."""
        return self._add_hook("on_completion", fn)

    def on_failure(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(flow, flow_run, state)` when a run fails for good; a decorator."""
        return self._add_hook("on_failure", fn)

    def on_cancellation(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(flow, flow_run, state)` when a run is cancelled; a decorator."""
        return self._add_hook("on_cancellation", fn)

    def on_crashed(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(flow, flow_run, state)` when a run crashes; a decorator."""
        return self._add_hook("on_crashed", fn)

    def _add_hook(self, kind: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        hooks = check_hooks(f"Flow {self.name!r}", kind, [fn])
        setattr(self, f"{kind}_hooks", getattr(self, f"{kind}_hooks") + hooks)
        options: Any = self._options
        options[kind] = [*(options.get(kind) or ()), fn]
        return fn

    def __call__(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> Any:
        """Run the flow here.

        Args:
            *args: arguments of the function; futures among them are waited for.
            return_state: give True to have the final state returned instead of the value.
            wait_for: futures to wait for before it starts.
            **kwargs: arguments by name.

        Raises:
            ParameterBindError: the arguments do not fit the function.
            BaseException: what ended the run.
        """
        parameters = bind(self.fn, args, kwargs)
        if self.isasync:
            return self._later(parameters, wait_for, return_state=return_state)
        state = drive(self._steps(parameters, wait_for))
        return state if return_state else value_of(state)

    async def _later(self, parameters: dict[str, Any], wait_for: Any, *, return_state: bool) -> Any:
        state = await adrive(self._steps(parameters, wait_for))
        return state if return_state else value_of(state)

    def _steps(self, parameters: dict[str, Any], wait_for: Any) -> Steps:
        """Run the flow in a context of its own, with a router for what it submits."""
        outer = current()
        run = self._new_run(parameters, outer)
        root = outer.root if outer is not None else None
        owned = root is None
        if root is None:
            meta = {"flow": self.name, "name": run.name, "entrypoint": self.entrypoint}
            root = open_root(run.id, meta, get_settings())
            watch(root)
        context = RunContext(root, flow_run=run, flow=self, tags=run.tags)
        context.slots = outer.slots if outer is not None else ()
        context.log_prints = self._prints(outer, root.settings.log_prints)
        router = Router(context, None if self.task_runner is None else self.task_runner.duplicate())
        context.dispatch = router
        try:
            root.record_flow(run, self.entrypoint)
            return (yield from run_flow(self, run, context, as_waited(wait_for)))
        finally:
            router.close()
            if owned:
                root.close()

    def _prints(self, outer: RunContext | None, setting: bool) -> bool:  # noqa: FBT001 - internal
        if self.log_prints is not None:
            return self.log_prints
        return outer.log_prints if outer is not None and outer.root is not None else setting

    def _new_run(self, parameters: Mapping[str, Any], outer: RunContext | None) -> FlowRun:
        name = None
        if self.flow_run_name is not None:
            name = run_name(f"flow {self.name!r}", self.flow_run_name, parameters)
        if outer is None:
            return FlowRun(self.name, name, parameters=parameters)
        return FlowRun(
            self.name,
            name,
            parameters=parameters,
            tags=outer.tags,
            parent=outer.flow_run,
            parent_task_run_id=outer.task_run.id if outer.task_run is not None else None,
            root_id=outer.root.run_id if outer.root is not None else None,
        )

    @property
    def entrypoint(self) -> str:
        """Where the flow is defined: `path/to/file.py:function`, or `module:function`."""
        code = getattr(self.fn, "__code__", None)
        where = code.co_filename if code is not None else getattr(self.fn, "__module__", "?")
        return f"{where}:{getattr(self.fn, '__qualname__', self.name)}"

    def validate_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters as their annotations want them: `"3"` for an `int` becomes 3.

        Defaults are taken as they are, as `x: int = None` is common.

        Raises:
            ParameterTypeError: a value does not fit its annotation.
        """
        annotations = getattr(self.fn, "__annotations__", {})
        doubtful = [
            name
            for name, value in parameters.items()
            if name in annotations and not _fits(value, annotations[name])
        ]
        if doubtful:
            defaults = defaults_of(self.fn)
            doubtful = [
                name
                for name in doubtful
                if name not in defaults or parameters[name] is not defaults[name]
            ]
        return _coerced(self, parameters, doubtful) if doubtful else dict(parameters)


class _BoundFlow(Flow[P, R]):
    """A flow that is a method, with the object that it was looked up on."""

    def __init__(self, flow: Flow[P, R], first: object) -> None:
        self.__dict__.update(flow.__dict__)
        self.fn = MethodType(flow.fn, first)
        self._flow = flow
        self._first = first

    def __get__(self, instance: object, owner: type | None = None) -> Flow[P, R]:
        return self

    def with_options(self, **options: Unpack[FlowOptions]) -> Flow[P, R]:
        return _BoundFlow(self._flow.with_options(**options), self._first)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._flow(self._first, *args, **kwargs)


_BUILTIN: dict[str, type] = {
    kind.__name__: kind
    for kind in (int, float, str, bool, bytes, list, dict, tuple, set, frozenset, complex, object)
}


def _fits(value: Any, annotation: Any) -> bool:
    """Tell quickly whether a value is of its annotation; False means that pydantic must look."""
    if isinstance(annotation, str):
        annotation = _BUILTIN.get(annotation, annotation)
    if annotation is None:
        return value is None
    if isinstance(annotation, type):
        return annotation is object or type(value) is annotation
    if type(annotation).__name__ == "UnionType":
        return any(_fits(value, each) for each in annotation.__args__)
    return getattr(annotation, "__name__", None) == "Any"


def _coerced(
    flow: Flow[..., Any], parameters: Mapping[str, Any], names: list[str]
) -> dict[str, Any]:
    """Let pydantic check and convert the parameters of these names."""
    import pydantic  # noqa: PLC0415 - 50 ms, only where the quick look does not decide

    model = flow._models.get(tuple(names))  # noqa: SLF001 - this function is the flow's own
    if model is None:
        model = _parameter_model(pydantic, flow, names)
        flow._models[tuple(names)] = model  # noqa: SLF001 - as above
    fields = {f"p{place}": parameters[name] for place, name in enumerate(names)}
    try:
        checked = model(**fields)
    except pydantic.ValidationError as error:
        raise ParameterTypeError(_complaint(flow, names, error)) from None
    good = {name: getattr(checked, f"p{place}") for place, name in enumerate(names)}
    return {**parameters, **good}


def _parameter_model(pydantic: Any, flow: Flow[..., Any], names: list[str]) -> Any:
    """Return a pydantic model whose field p0, p1, ... are the parameters of these names."""
    from types import GenericAlias  # noqa: PLC0415 - pydantic has loaded both
    from typing import get_type_hints  # noqa: PLC0415

    try:
        hints = get_type_hints(flow.fn, include_extras=True)
    except NameError as error:
        msg = (
            f"An annotation of flow {flow.name!r} cannot be found: {error}. Import it at run time, "
            f"or decorate with @flow(validate_parameters=False)."
        )
        raise ParameterTypeError(msg) from error
    rest, more = variadic_names(flow.fn)
    if rest in hints:
        hints[rest] = GenericAlias(tuple, (hints[rest], ...))
    if more in hints:
        hints[more] = GenericAlias(dict, (str, hints[more]))
    fields = {f"p{place}": (hints[name], ...) for place, name in enumerate(names)}
    config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    return pydantic.create_model("Parameters", __config__=config, **fields)


def _complaint(flow: Flow[..., Any], names: list[str], error: Any) -> str:
    lines = [f"Flow {flow.name!r} was called with parameters that do not fit its annotations:"]
    for problem in error.errors(include_url=False):
        place, *inner = problem["loc"]
        name = ".".join([names[int(str(place)[1:])], *map(str, inner)])
        value = problem["input"]
        given = f"{value!r}, of type {type(value).__name__}"
        lines.append(f"  {name}: {problem['msg']} (given: {given})")
    return "\n".join(lines)


def _checked_runner(owner: str, runner: Any) -> Any:
    """Return a task runner, made if a class was given.

    Raises:
        ParameterError: it is no task runner.
    """
    if runner is None:
        return None
    made = runner() if isinstance(runner, type) else runner
    if hasattr(made, "submit") and hasattr(made, "duplicate"):
        return made
    msg = (
        f"{owner}: task_runner must be a TaskRunner such as ThreadPoolTaskRunner(), not {runner!r}."
    )
    raise ParameterError(msg)


if TYPE_CHECKING:

    @overload
    def flow(fn: Callable[P, R], /) -> Flow[P, R]: ...
    @overload
    def flow(
        **options: Unpack[FlowOptions],
    ) -> Callable[[Callable[P, R]], Flow[P, R]]: ...


def flow(fn: Any = None, /, **options: Any) -> Any:
    """Make a function a flow: `@flow`, or `@flow(retries=2, log_prints=True)`.

    The options are the attributes of `Flow` of the same names, with `validate_parameters` for
    `should_validate_parameters`; the hooks `on_running`, `on_completion`, `on_failure`,
    `on_cancellation` and `on_crashed` take lists of functions of `(flow, flow_run, state)`.

    Raises:
        ParameterError: an option is wrong, or not known.
    """
    if fn is None:
        return lambda fn: Flow(fn, **options)
    return Flow(fn, **options)
