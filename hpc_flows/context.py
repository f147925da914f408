"""What surrounds the code that runs now: the run's directory, its flow run, its task run, its tags.

One ContextVar holds it, so that threads and asyncio tasks each see their own.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, Literal

    from hpc_flows.futures import TaskFuture
    from hpc_flows.journal.writer import JournalWriter
    from hpc_flows.results import ResultStore
    from hpc_flows.runs import FlowRun, TaskRun
    from hpc_flows.settings import Settings
    from hpc_flows.states import State

_current: ContextVar[RunContext | None] = ContextVar("hpc_flows_run", default=None)


class RootRun:
    """The outermost run: everything that runs below it shares its directory and its journal.

    Attributes:
        run_dir: `$HPC_FLOWS_HOME/runs/<run_id>`.
        run_id: id of the outermost flow run (or task run).
        journal: this process's writer of the run's journal.
        results: where the run's results are kept.
        key: 32 bytes that sign what the run stores.
        settings: the settings that it was started with.
        in_job: whether this process is a job of the run, where tasks with resources run in place.
        runners: the runners of clusters that this process has started, by the cluster's name.
        cancel_reason: why the run is being cancelled, or None.
    """

    __slots__ = (
        "__weakref__",
        "cancel_reason",
        "in_job",
        "journal",
        "key",
        "results",
        "run_dir",
        "run_id",
        "runners",
        "settings",
    )

    def __init__(  # noqa: PLR0913 - one value for each part of a run's directory
        self,
        run_dir: str,
        run_id: str,
        journal: JournalWriter,
        results: ResultStore,
        key: bytes,
        settings: Settings,
        *,
        in_job: bool = False,
    ) -> None:
        self.run_dir = run_dir
        self.run_id = run_id
        self.journal = journal
        self.results = results
        self.key = key
        self.settings = settings
        self.in_job = in_job
        self.runners: dict[str, Any] = {}
        self.cancel_reason: str | None = None

    def record(self, subject: Literal["task", "flow"], run: FlowRun | TaskRun, state: State) -> None:
        """Make `state` the newest state of `run` and journal it.

        A job overrides this, to add what it knows of its node and to keep the result.
        """
        run.state = state
        data: dict[str, Any] = {
            "subject": subject,
            "id": run.id,
            "type": state.type.value,
            "name": state.name,
            "attempt": run.run_count,
        }
        if state.message:
            data["message"] = state.message
        if state.details:
            data["details"] = state.details
        self.journal.write("state", data)


class Submitted:
    """The calls that a flow run has handed out and that have not ended."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls: dict[str, Any] = {}

    def add(self, call: Any) -> None:
        """Hold a `TaskCall` until its future is resolved."""
        self.calls[call.run.id] = call
        call.future.add_done_callback(self._forget)

    def _forget(self, future: TaskFuture) -> None:
        self.calls.pop(future.task_run_id, None)

    def futures(self) -> list[TaskFuture]:
        """Return the futures of the calls that have not ended."""
        return [call.future for call in list(self.calls.values())]


class RunContext:
    """What surrounds the code that runs now.

    Attributes:
        root: the outermost run, or None outside of any run (only tags are set then).
        flow_run, flow: the innermost flow run and its `Flow`, or None.
        task_run, task: the innermost task run and its `Task`, or None.
        tags: tags for runs that are made here.
        dispatch: `dispatch(task, calls)` hands `TaskCall`s to whatever runs them, or None where
            nothing has been set up for that.
        log_prints: whether `print` makes log records.
        submitted: calls that the flow run has handed out.
        slot: has `pause()` and `resume()`, called around a wait for a future, so that a waiting
            task does not hold a place that the awaited one needs; or None.
    """

    __slots__ = (
        "dispatch",
        "flow",
        "flow_run",
        "log_prints",
        "root",
        "slot",
        "submitted",
        "tags",
        "task",
        "task_run",
    )

    def __init__(
        self,
        root: RootRun | None = None,
        *,
        flow_run: FlowRun | None = None,
        flow: Any = None,
        tags: tuple[str, ...] = (),
        dispatch: Callable[[Any, list[Any]], None] | None = None,
        log_prints: bool = False,
    ) -> None:
        self.root = root
        self.flow_run = flow_run
        self.flow = flow
        self.task_run: TaskRun | None = None
        self.task: Any = None
        self.tags = tags
        self.dispatch = dispatch
        self.log_prints = log_prints
        self.submitted = Submitted()
        self.slot: Any = None

    def copy(self) -> RunContext:
        """Return a context with the same values, to change some of them."""
        other = RunContext.__new__(RunContext)
        other.root = self.root
        other.flow_run = self.flow_run
        other.flow = self.flow
        other.task_run = self.task_run
        other.task = self.task
        other.tags = self.tags
        other.dispatch = self.dispatch
        other.log_prints = self.log_prints
        other.submitted = self.submitted
        other.slot = self.slot
        return other

    def for_task(self, task: Any, run: TaskRun) -> RunContext:
        """Return the context in which `task`'s function runs."""
        other = self.copy()
        other.task = task
        other.task_run = run
        if task.log_prints is not None:
            other.log_prints = task.log_prints
        return other


def current() -> RunContext | None:
    """Return the context of the code that calls this, or None outside of any run."""
    return _current.get()


class entered:  # noqa: N801 - reads as a statement: `with entered(context):`
    """Make a context the current one for the length of a `with` block."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: RunContext | None) -> None:
        self._context = context

    def __enter__(self) -> RunContext | None:
        self._token = _current.set(self._context)
        return self._context

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _current.reset(self._token)


class tags:  # noqa: N801 - Prefect's name
    """Give tags to every flow run and task run that is made in a `with` block.

    Nested blocks add up. `with tags("a") as all_tags:` gives the tags in force, as a set.
    """

    __slots__ = ("_new", "_tokens")

    def __init__(self, *new: str) -> None:
        self._new = new
        self._tokens: list[Any] = []

    def __enter__(self) -> set[str]:
        outer = _current.get()
        inner = RunContext() if outer is None else outer.copy()
        inner.tags = tuple(sorted({*inner.tags, *self._new}))
        self._tokens.append(_current.set(inner))
        return set(inner.tags)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _current.reset(self._tokens.pop())
