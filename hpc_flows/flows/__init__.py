"""Flows: the `@flow` decorator, and what can be done with a decorated function."""

# ruff: noqa: F405 - names in __all__ that are loaded when first used
from __future__ import annotations

from hpc_flows.context import RunContext, current, open_root
from hpc_flows.engine.cancelling import hear_termination, pass_on, watch
from hpc_flows.engine.definition import Bound, Definition, P, R
from hpc_flows.engine.drive import adrive, drive
from hpc_flows.engine.flow_engine import run_flow
from hpc_flows.engine.options import check_flag, check_template
from hpc_flows.engine.parameters import bind, defaults_of, run_name
from hpc_flows.exceptions import InvalidNameError, OptionValueError, ParameterError
from hpc_flows.futures import as_waited, value_of
from hpc_flows.runs import FlowRun
from hpc_flows.settings import get_settings
from hpc_flows.task_runners.routing import Router

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Self, TypedDict, Unpack, overload

    from hpc_flows.engine.drive import Steps
    from hpc_flows.engine.retries import Delay
    from hpc_flows.flows.loading import *  # noqa: F403 - had from here, see _HOMES
    from hpc_flows.flows.reading import *  # noqa: F403 - as above
    from hpc_flows.flows.schema import ParameterSchema
    from hpc_flows.task_runners.base import TaskRunner

    Hooks = Iterable[Callable[..., Any]] | None

    class FlowOptions(TypedDict, total=False):
        """The options of `@flow`; their meaning is told by `Flow`."""

        name: str | None
        description: str | None
        version: str | None
        flow_run_name: str | Callable[..., str] | None
        retries: int | None
        retry_delay_seconds: Delay | None
        task_runner: TaskRunner | type[TaskRunner] | None
        timeout_seconds: float | None
        validate_parameters: bool | None
        log_prints: bool | None
        persist_result: bool | None
        result_storage: Any
        result_serializer: Any
        cache_result_in_memory: bool
        on_running: Hooks
        on_completion: Hooks
        on_failure: Hooks
        on_cancellation: Hooks
        on_crashed: Hooks


__all__ = [
    "Flow",
    "ParameterSchema",
    "flow",
    "load_flow_arguments_from_entrypoint",
    "load_flow_from_entrypoint",
    "load_flow_from_script",
    "load_flows_from_script",
    "load_function_and_convert_to_flow",
    "safe_load_flow_from_entrypoint",
    "select_flow",
]

#: Characters that would make addresses such as `flow/deployment` ambiguous.
_FORBIDDEN = "/%&<>"
#: Methods of Prefect's flows that make deployments.
_DEPLOYING = frozenset({"serve", "deploy", "to_deployment", "ato_deployment", "aserve", "adeploy"})


class Flow(Definition[P, R]):
    """A function whose tasks make up one run, with a journal of its own.

    A flow that is called inside of another shares the outer one's directory and journal. It can be
    a method; on class and static methods `@flow` stands above the other decorator. Besides these
    attributes it has those of `Definition`.

    Attributes:
        flow_run_name: template such as `"{x}-{y}"`, or callable, that names runs; or None.
        task_runner: runs what is submitted; None takes threads.
        should_validate_parameters: whether parameters are checked against their annotations.
        on_running_hooks, on_completion_hooks, on_failure_hooks, on_cancellation_hooks,
            on_crashed_hooks: functions of `(flow, flow_run, state)`.
    """

    kind = "flow"
    own_options = ("flow_run_name", "task_runner", "validate_parameters")
    hook_names = ("on_running", "on_completion", "on_failure", "on_cancellation", "on_crashed")
    refused = {  # noqa: RUF012 - of the class, and nobody changes it
        "resources": " Tasks ask for resources: @task(resources=...).",
        "tags": " Give a run tags where it is called: `with tags(...):`.",
    }

    def __init__(self, fn: Callable[P, R], **options: Unpack[FlowOptions]) -> None:
        """Make a flow of `fn`.

        Raises:
            ParameterError: an option is wrong, or not known.
        """
        given: Any = options
        super().__init__(fn, given)
        owner = self._owner
        _check_name(self.name)
        self.flow_run_name = check_template(owner, "flow_run_name", options.get("flow_run_name"))
        self.task_runner = _checked_runner(owner, options.get("task_runner"))
        validates = check_flag(owner, "validate_parameters", options.get("validate_parameters"))
        self.should_validate_parameters = validates is not False
        if self.persist_result is None and (self.result_storage or self.result_serializer):
            self.persist_result = True
        self._models: dict[tuple[str, ...], Any] = {}

    @staticmethod
    def _name_of(fn: Any) -> str:
        name = str(getattr(fn, "__name__", None) or type(fn).__name__)
        return "unknown-lambda" if name == "<lambda>" else name.replace("_", "-")

    _version: str | None

    @property
    def version(self) -> str | None:
        """The version that was given; else a digest of the file that the flow is written in."""
        if self._version is None:
            from hpc_flows.flows.digest import version_of  # noqa: PLC0415 - few ask for it

            self._version = version_of(self.fn)
        return self._version

    @version.setter
    def version(self, given: str | None) -> None:
        self._version = given

    def with_options(self, **options: Unpack[FlowOptions]) -> Self:
        """Return a flow of the same function with some options changed."""
        changed: Any = options
        return self._changed(changed)

    def _bound_to(self, first: object) -> Any:
        return BoundFlow(self, first)

    def on_cancellation(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(flow, flow_run, state)` when a run is cancelled; a decorator."""
        return self._add_hook("on_cancellation", fn)

    def on_crashed(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Call `fn(flow, flow_run, state)` when a run crashes; a decorator."""
        return self._add_hook("on_crashed", fn)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in _DEPLOYING:
            msg = (
                f"{self._owner} has no {name}(): this version of hpc_flows makes no deployments. "
                f"Call the flow, or run it with: hpc-flows run {self.entrypoint}"
            )
            raise AttributeError(msg)
        from hpc_flows.exceptions import close_match  # noqa: PLC0415 - only once it is wrong

        known = [each for each in dir(type(self)) if not each.startswith("_")]
        msg = f"A flow has no attribute {name!r}.{close_match(name, known)}"
        raise AttributeError(msg)

    # Runs -----------------------------------------------------------------------------------------

    def __call__(
        self, *args: Any, return_state: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> Any:
        """Run the flow here.

        A generator function gives its values one by one, as the caller asks for them.

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
        if self.isgenerator:
            return self._yielding(parameters, wait_for, return_state=return_state)
        if self.isasync:
            return self._later(parameters, wait_for, return_state=return_state)
        state = drive(self._steps(parameters, wait_for))
        return state if return_state else value_of(state)

    async def _later(self, parameters: dict[str, Any], wait_for: Any, *, return_state: bool) -> Any:
        state = await adrive(self._steps(parameters, wait_for))
        return state if return_state else value_of(state)

    def _yielding(self, parameters: dict[str, Any], wait_for: Any, *, return_state: bool) -> Any:
        """Return a generator that runs the flow as its values are asked for."""
        from hpc_flows.engine.generators import astream, stream  # noqa: PLC0415 - few flows yield

        if return_state:
            msg = (
                f"The return_type for a generator flow must be 'result': {self._owner} yields "
                f"values while it runs, and has no state before."
            )
            raise OptionValueError(msg)
        return (astream if self.isasync else stream)(self._steps(parameters, wait_for))

    def _steps(self, parameters: dict[str, Any], wait_for: Any) -> Steps:
        """Run the flow in a context of its own, with a router for what it submits."""
        outer = current()
        if outer is not None and outer.is_sketch:
            sketch: Any = outer
            return (yield from sketch.call_flow(self, parameters, wait_for))
        run = self._new_run(parameters, outer)
        root = outer.root if outer is not None else None
        owned = root is None
        heard = reports = None
        if root is None:
            meta = {"flow": self.name, "name": run.name, "entrypoint": self.entrypoint}
            root = open_root(run.id, meta, get_settings())
            watch(root)
            heard = hear_termination()
            reports = _begin_reports(root)
        context = RunContext(root, flow_run=run, flow=self, tags=run.tags)
        if outer is not None:
            context.slots = outer.slots
            context.transaction = outer.transaction
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
            if reports is not None:
                reports.end()
            if heard is not None:
                pass_on(heard)

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

    # Parameters -----------------------------------------------------------------------------------

    def validate_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters as their annotations want them: `"3"` for an `int` becomes 3.

        Defaults that are no dicts, lists or texts stay as they are: `x: int = None` is common.

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
                if name not in defaults
                or parameters[name] is not defaults[name]
                or _is_plain_data(defaults[name])
            ]
        if not doubtful:
            return dict(parameters)
        from hpc_flows.flows.validation import coerced  # noqa: PLC0415 - 50 ms with pydantic

        return coerced(self, parameters, doubtful)

    def serialize_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters as JSON can hold them; what cannot be told is its type's name."""
        from hpc_flows.flows.schema import json_safe  # noqa: PLC0415 - 50 ms with pydantic

        return json_safe(parameters)

    @property
    def parameters(self) -> ParameterSchema:
        """The JSON schema of the flow's parameters."""
        from hpc_flows.flows.schema import parameter_schema  # noqa: PLC0415 - as above

        return parameter_schema(self.fn)

    # Descriptions ---------------------------------------------------------------------------------

    def model_dump(self) -> dict[str, Any]:
        """Return what describes the flow, as JSON can hold it: its options and parameters."""
        from hpc_flows.flows.schema import described  # noqa: PLC0415 - as above

        return described(self)

    to_dict = model_dump

    def visualize(self, *args: Any, **kwargs: Any) -> Any:
        """Draw the tasks that a call would run, without running them.

        The function itself is called, its tasks and subflows are not: `viz_return_value` of a task
        stands for what it returns.

        Args:
            *args: arguments of the function.
            **kwargs: arguments by name.

        Returns:
            A `graphviz.Digraph`, which notebooks show; elsewhere it is also opened as a picture.

        Raises:
            FlowVisualizationError: it cannot be drawn so, or graphviz is not installed.
        """
        from hpc_flows.flows.diagram import drawn  # noqa: PLC0415 - few draw

        return drawn(self, args, kwargs)

    def generate_mermaid_graph(self, *args: Any, **kwargs: Any) -> str:
        """Return the tasks that a call would run, as the text of a Mermaid diagram.

        Args:
            *args: arguments of the function, as for `visualize`.
            **kwargs: arguments by name.

        Raises:
            FlowVisualizationError: it cannot be drawn so.
        """
        from hpc_flows.flows.diagram import mermaid  # noqa: PLC0415 - few draw

        text: str = mermaid(self, args, kwargs)
        return text

    @classmethod
    def from_source(cls, source: Any, entrypoint: str) -> Any:
        """Return a flow, or what gives it to `await`, out of a folder or a git repository.

        Args:
            source: a folder; or the address of a git repository, with `@branch` at its end for
                another branch, tag or commit than the usual.
            entrypoint: `path/in/it.py:function`.

        Raises:
            MissingFlowError: there is no such source, file or flow.
            ScriptError: the file raised an error.
        """
        from hpc_flows.awaiting import awaited  # noqa: PLC0415 - few flows come from elsewhere
        from hpc_flows.flows.source import load_flow_from_source  # noqa: PLC0415 - as above

        return awaited(load_flow_from_source(source, entrypoint))

    @classmethod
    async def afrom_source(cls, source: Any, entrypoint: str) -> Any:
        """Return what `from_source` returns, awaited."""
        return cls.from_source(source, entrypoint)


class BoundFlow(Bound, Flow[P, R]):
    """A flow that is a method, with the object that it was looked up on."""


def _begin_reports(root: Any) -> Any:
    from hpc_flows.flows.reports import begin_reports  # noqa: PLC0415 - jobs begin no root run

    return begin_reports(root)


def _check_name(name: str) -> None:
    found = sorted(set(name) & set(_FORBIDDEN))
    if found:
        msg = (
            f"The flow name {name!r} contains an invalid character: {found[0]!r}. Leave out "
            f"{' '.join(_FORBIDDEN)}."
        )
        raise InvalidNameError(msg)


def _is_plain_data(default: Any) -> bool:
    """Tell whether a default is data that its annotation may make something else of."""
    return isinstance(default, (dict, list, str)) and bool(default)


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


#: `flow.from_source(...)` is `Flow.from_source(...)`, as in Prefect.
flow.from_source = Flow.from_source  # type: ignore[attr-defined]

#: Names that are had from here, and the modules that they are loaded from when first used.
_HOMES = {
    "ParameterSchema": "schema",
    "load_flow_arguments_from_entrypoint": "reading",
    "load_flow_from_entrypoint": "loading",
    "load_flow_from_script": "loading",
    "load_flows_from_script": "loading",
    "load_function_and_convert_to_flow": "reading",
    "safe_load_flow_from_entrypoint": "reading",
    "select_flow": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from hpc_flows.exceptions import close_match  # noqa: PLC0415 - only once it is wrong

        hint = close_match(name, [*globals(), *_HOMES])
        msg = f"module {__name__!r} has no attribute {name!r}.{hint}"
        raise AttributeError(msg)
    value = getattr(__import__(f"{__name__}.{_HOMES[name]}", fromlist=[name]), name)
    globals()[name] = value
    return value
