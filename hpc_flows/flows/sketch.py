"""A context in which tasks and subflows are noted instead of run, to draw what a flow would run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

from hpc_flows.context import RunContext
from hpc_flows.exceptions import FlowVisualizationError
from hpc_flows.futures import TaskFuture, allow_failure, as_waited, quote, unmapped
from hpc_flows.states import Completed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hpc_flows.engine.drive import Steps
    from hpc_flows.states import State
    from hpc_flows.task_runners.base import TaskCall


class Node:
    """A call of a task or subflow, or all calls of a `map`.

    Attributes:
        name: of the task or subflow, and a number that tells its calls apart.
        upstream: the calls whose values it was given, or that it waits for.
        is_flow: whether it is a subflow.
        is_mapped: whether it stands for all calls of a `map`.
    """

    def __init__(self, name: str, upstream: list[Node], *, is_flow: bool, is_mapped: bool) -> None:
        self.name = name
        self.upstream = upstream
        self.is_flow = is_flow
        self.is_mapped = is_mapped


class Unknown:
    """Stands for what a task would return; it can be passed on, and nothing else."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def __getattr__(self, name: str) -> Never:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def _refuse(self, *_: object) -> Never:
        name = self._node.name
        msg = (
            f"The flow uses the value of {name} itself, and no value is there while it is drawn. "
            f"Say what stands for it: @task(viz_return_value=[1, 2, 3])."
        )
        raise FlowVisualizationError(msg)


for _name in (
    "iter len getitem contains call bool int float index lt le gt ge add radd sub rsub mul rmul "
    "truediv rtruediv floordiv mod pow neg abs matmul enter exit"
).split():
    setattr(Unknown, f"__{_name}__", Unknown._refuse)  # noqa: SLF001 - the class's own


class Sketch(RunContext):
    """Notes the calls of tasks and subflows; nothing is run, and nothing journalled.

    Attributes:
        nodes: what was called, in order.
    """

    __slots__ = ("_counts", "_known", "_values", "nodes")

    is_sketch = True

    def __init__(self, root: Any = None) -> None:
        super().__init__()
        self.root = root if root is not None else _NoRecord()
        runs_nothing: Any = _NoRun(self)
        self.dispatch = runs_nothing
        self.nodes: list[Node] = []
        self._counts: dict[str, int] = {}
        self._known: dict[Any, Node] = {}  # by the id of a run, or of a value
        self._values: list[Any] = []  # so that no other value gets such an id

    def copy(self) -> Sketch:
        """Return a context of the same notes, as `with tags(...)` needs one."""
        other = Sketch(self.root)
        other.nodes, other._counts = self.nodes, self._counts
        other._known, other._values = self._known, self._values
        return other

    def call(self, task: Any, args: Any, kwargs: Any, wait_for: Any) -> Steps:
        """Note a direct call of a task; its state holds what stands for the value."""
        node = self._note(task.name, (args, kwargs, as_waited(wait_for)))
        return _ended(self._stand_in(task, node))

    def call_flow(self, flow: Any, parameters: Mapping[str, Any], wait_for: Any) -> Steps:
        """Note a call of a subflow."""
        node = self._note(flow.name, (parameters, as_waited(wait_for)), is_flow=True)
        return _ended(Unknown(node))

    def submit(self, task: Any, calls: Sequence[TaskCall]) -> None:
        """Note calls that were submitted; those of a `map` together."""
        if not calls:
            return
        mapped = calls[0].run.map_index is not None
        node = self._note(task.name, [(c.args, c.kwargs, c.wait_for) for c in calls], mapped=mapped)
        for call in calls:
            self._known[call.future.task_run_id] = node
            call.future.resolve(Completed(data=self._stand_in(task, node)))

    def _note(self, name: str, given: Any, *, is_flow: bool = False, mapped: bool = False) -> Node:
        sources = set(self._sources(given))
        upstream = [each for each in self.nodes if each in sources]
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        node = Node(f"{name}-{number}", upstream, is_flow=is_flow, is_mapped=mapped)
        self.nodes.append(node)
        return node

    def _stand_in(self, task: Any, node: Node) -> Any:
        value = task.viz_return_value
        if value is None:
            return Unknown(node)
        # Small values are the same object wherever they come from.
        if not isinstance(value, (bool, int, float, str, bytes)):
            self._known[id(value)] = node
            self._values.append(value)
        return value

    def _sources(self, given: Any) -> Iterator[Node]:
        """Yield the nodes that values come from."""
        if isinstance(given, Unknown):
            yield given._node  # noqa: SLF001 - made by this module
        elif isinstance(given, TaskFuture):
            yield from self._found(given.task_run_id)
        elif id(given) in self._known:
            yield self._known[id(given)]
        else:
            for inner in _inside(given):
                yield from self._sources(inner)

    def _found(self, key: Any) -> Iterator[Node]:
        if key in self._known:
            yield self._known[key]


def _inside(given: Any) -> Iterator[Any]:
    if isinstance(given, (allow_failure, unmapped)):
        yield given.value
    elif isinstance(given, quote):
        return
    elif isinstance(given, dict):
        yield from given.keys()
        yield from given.values()
    elif isinstance(given, (list, tuple, set, frozenset)):
        yield from given


def _ended(value: Any) -> Steps:
    """Return a generator of the engine that asks for nothing and ends with a Completed state."""
    yield from ()
    state: State = Completed(data=value)
    return state


class _NoRecord:
    """Takes the place of a root run."""

    in_job = False

    def record_pending(self, runs: Any) -> None:
        """Note nothing."""


class _NoRun:
    """Takes the place of a router."""

    def __init__(self, sketch: Sketch) -> None:
        self._sketch = sketch

    def check(self, task: Any) -> None:
        """Take every task."""

    def cancel(self, reason: str, *, started: bool) -> None:
        """Have nothing to cancel."""

    def __call__(self, task: Any, calls: Sequence[TaskCall]) -> None:
        self._sketch.submit(task, calls)
