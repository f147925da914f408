"""What surrounds the code that runs now: the run's directory, its flow run, its task run, its tags.

One ContextVar holds it, so that threads and asyncio tasks each see their own. Prefect's names for
parts of it (`FlowRunContext`, `TaskRunContext`, `get_run_context`, ...) are in `context.views`.
"""

# ruff: noqa: F405 - the names of `views` are loaded late, by `__getattr__`
from __future__ import annotations

from _thread import _local, allocate_lock
from contextvars import ContextVar

from hpc_flows.exceptions import ParameterError
from hpc_flows.journal.event import run_text, state_text
from hpc_flows.states import Pending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any, ClassVar, Literal, Protocol

    from hpc_flows.context.views import *  # noqa: F403 - the names of its `__all__`
    from hpc_flows.futures import TaskFuture
    from hpc_flows.journal.writer import JournalWriter
    from hpc_flows.results.kept import RunResults
    from hpc_flows.runs import FlowRun, TaskRun
    from hpc_flows.settings import Settings
    from hpc_flows.states import State

    class Dispatch(Protocol):
        """Runs task calls; the context's seam to task runners, which it does not know."""

        def __call__(self, task: Any, calls: Sequence[Any]) -> None:
            """Run `TaskCall`s of one task, once what they wait for has ended."""

        def check(self, task: Any) -> None:
            """Raise ResourceError when the task asks for what can never be given."""

        def takes(self, task: Any) -> bool:
            """Tell whether a direct call of the task is handed to a cluster, too."""

        def hold(self, task: Any) -> Any:
            """Return a reservation of this machine for a call in place, or None for no need."""

        def cancel(self, reason: str, *, started: bool) -> None:
            """Cancel what has not ended; with `started=False`, only what has not begun."""

    class Slot(Protocol):
        """A place that a running task holds."""

        def pause(self) -> None:
            """Give the place back while the task waits for another."""

        def resume(self) -> None:
            """Take the place again."""


#: What users import from here; the rest is the engine's.
__all__ = [
    "ContextModel",
    "EngineContext",
    "FlowRunContext",
    "RunContextView",
    "SettingsContext",
    "TagsContext",
    "TaskRunContext",
    "get_run_context",
    "get_settings_context",
    "hydrated_context",
    "serialize_context",
    "tags",
]

#: Characters, or items, of a parameter that the journal shows.
_PREVIEW = 200
_TOGETHER = 64  # events of one write of a map's new runs, some 25 KB
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_current: ContextVar[RunContext | None] = ContextVar("hpc_flows_run", default=None)


class RootRun:
    """The outermost run: everything that runs below it shares its directory and its journal.

    Attributes:
        run_dir: `$HPC_FLOWS_HOME/runs/<run_id>`.
        run_id: id of the outermost flow run (or task run).
        journal: this process's writer of the run's journal.
        results: where the run's results are kept.
        key: 32 bytes that sign what the run stores; settings: those that it was started with.
        log_level: number of the least important level that is logged.
        in_job: whether this process is a job of the run, where tasks with resources run in place.
        runners: the runners of clusters that this process has started, by the cluster's name.
        machine: this machine's `Machine`, once tasks with resources run on it, or None.
        cancel_reason: why the run is being cancelled, or None.
        halt: a lock that is held until the run is closed.
        pauses: what is paused: a `Pause` by the id of the flow run, or of the whole run.
        flows: contexts of open flow runs, by ids; None where nobody looks for requests, as in jobs.
        is_closed: whether the run is closed: its journal takes nothing more.
    """

    __slots__ = (
        "__weakref__",
        "_alike",
        "cancel_reason",
        "flows",
        "halt",
        "in_job",
        "is_closed",
        "journal",
        "key",
        "log_level",
        "machine",
        "pauses",
        "results",
        "run_dir",
        "run_id",
        "runners",
        "settings",
    )

    def __init__(
        self,
        run_dir: str,
        run_id: str,
        journal: JournalWriter,
        results: RunResults,
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
        self.log_level = _LEVELS[settings.log_level]
        self.in_job = in_job
        self.runners: dict[str, Any] = {}
        self.machine: Any = None
        self.cancel_reason: str | None = None
        self.pauses: dict[str, Any] = {}
        self.flows: dict[str, RunContext] | None = None
        self.is_closed = False
        self._alike: dict[tuple[object, ...], str] = {}
        self.halt = allocate_lock()
        self.halt.acquire()

    def record(
        self,
        subject: Literal["task", "flow"],
        run: FlowRun | TaskRun,
        state: State,
        log: str | None = None,
    ) -> bool:
        """Make `state` the newest state of `run` and journal it.

        `log` is a log record that goes with it, as JSON; False is returned if it was dropped.
        A job overrides this, to add what it knows of its node and to keep the result.
        """
        run.state = state
        state.belongs_to(subject, run.id, getattr(run, "flow_run_id", None))
        event = ("state", state_text(subject, run, state))
        if log is None:
            return not self.journal.write_texts(event)
        return not self.journal.write_texts(event, ("log", log))

    def record_flow(self, run: FlowRun, entrypoint: str) -> None:
        """Journal a new flow run."""
        self.journal.write(
            "flow-run",
            {
                "id": run.id,
                "name": run.name,
                "flow": run.flow_name,
                "parameters": {name: _preview(value) for name, value in run.parameters.items()},
                "parent_task_run": run.parent_task_run_id,
                "parent_flow_run": run.parent_flow_run_id,
                "tags": run.tags,
                "entrypoint": entrypoint,
            },
        )

    def record_task(self, run: TaskRun) -> None:
        """Journal a new task run that has no state yet."""
        self.journal.write_texts(("task-run", run_text(run, self._alike)))

    def record_begun(self, run: TaskRun, state: State) -> None:
        """Journal a new task run that starts at once, and the state that it starts in."""
        self.journal.write_texts(*self._beginning(run, state))

    def record_pending(self, runs: Sequence[TaskRun]) -> None:
        """Journal new task runs that wait to be started; a thousand in not many writes."""
        if len(runs) == 1:
            self.journal.write_texts(*self._beginning(runs[0], Pending()))
            return
        events = [event for run in runs for event in self._beginning(run, Pending())]
        for start in range(0, len(events), _TOGETHER):
            self.journal.write_texts(*events[start : start + _TOGETHER])

    def _beginning(self, run: TaskRun, state: State) -> tuple[tuple[str, str], tuple[str, str]]:
        """Return the first two events of a new task run, and make its state that one."""
        run.state = state
        state.belongs_to("task", run.id, run.flow_run_id)
        return ("task-run", run_text(run, self._alike)), ("state", state_text("task", run, state))

    def close(self) -> None:
        """Close the runners of clusters and bring the journal to the disk."""
        if self.halt.locked():
            self.halt.release()
        for runner in self.runners.values():
            runner.close()
        self.runners.clear()
        self.is_closed = True
        self.journal.close()


class Submitted:
    """The calls that a flow run has handed out and that have not ended.

    Attributes:
        calls: `TaskCall`s by the ids of their runs.
        lent: references to generators that its code takes values from, or None.
        when_empty: called when the last one has ended; or None.
    """

    __slots__ = ("calls", "lent", "when_empty")

    def __init__(self) -> None:
        self.calls: dict[str, Any] = {}
        self.lent: dict[Any, None] | None = None
        self.when_empty: Callable[[], None] | None = None

    def add(self, call: Any) -> None:
        """Hold a `TaskCall` until its future is resolved."""
        self.calls[call.run.id] = call
        call.future.add_done_callback(self._forget)

    def _forget(self, future: TaskFuture) -> None:
        self.calls.pop(future.task_run_id, None)
        if not self.calls and self.when_empty is not None:
            self.when_empty()

    def futures(self) -> list[TaskFuture]:
        """Return the futures of the calls that have not ended."""
        return [call.future for call in list(self.calls.values())]


class RunContext:
    """What surrounds the code that runs now.

    Attributes:
        root: the outermost run, or None outside of any run (only tags are set then).
        flow_run, flow: the innermost flow run and its `Flow`, or None.
        task_run, task: the innermost task run and its `Task`, or None.
        arguments: the `(args, kwargs)` of the task run.
        tags: tags for runs that are made here.
        dispatch: `dispatch(task, calls)` hands `TaskCall`s to whatever runs them, or None where
            nothing has been set up for that.
        log_prints: whether `print` makes log records.
        submitted: calls that the flow run has handed out.
        slots: places that the running task holds; they are given back while it waits for a
            future, because the awaited task may need them.
        transaction: the innermost `Transaction`, the task's own in a task that has one, or None.
        keeping: whether the results of tasks that do not say are kept for other runs.
    """

    __slots__ = (
        "arguments",
        "dispatch",
        "flow",
        "flow_run",
        "keeping",
        "log_prints",
        "root",
        "slots",
        "submitted",
        "tags",
        "task",
        "task_run",
        "transaction",
    )

    def __init__(
        self,
        root: RootRun | None = None,
        *,
        flow_run: FlowRun | None = None,
        flow: Any = None,
        tags: tuple[str, ...] = (),
        dispatch: Dispatch | None = None,
        log_prints: bool = False,
    ) -> None:
        # RootRun in runs; typed Any so that the many uses there need not ask whether it is None.
        self.root: Any = root
        self.flow_run = flow_run
        self.flow = flow
        self.task_run: TaskRun | None = None
        self.task: Any = None
        self.arguments: tuple[Sequence[Any], dict[str, Any]] = ((), {})
        self.tags = tags
        self.dispatch = dispatch
        self.log_prints = log_prints
        self.submitted = Submitted()
        self.slots: tuple[Slot, ...] = ()
        self.transaction: Any = None
        self.keeping = root is not None and _keeps(root, flow)

    #: Whether calls are noted for a picture of the flow, instead of run.
    is_sketch: ClassVar[bool] = False

    def copy(self) -> RunContext:
        """Return a context with the same values, to change some of them."""
        other = RunContext.__new__(RunContext)
        other.root = self.root
        other.flow_run = self.flow_run
        other.flow = self.flow
        other.task_run = self.task_run
        other.task = self.task
        other.arguments = self.arguments
        other.tags = self.tags
        other.dispatch = self.dispatch
        other.log_prints = self.log_prints
        other.submitted = self.submitted
        other.slots = self.slots
        other.transaction = self.transaction
        other.keeping = self.keeping
        return other

    def for_task(
        self,
        task: Any,
        run: TaskRun,
        arguments: tuple[Sequence[Any], dict[str, Any]] | None = None,
    ) -> RunContext:
        """Return the context in which `task`'s function runs with `arguments`."""
        other = self.copy()
        other.arguments = arguments or ((), {})
        other.task = task
        other.task_run = run
        if task.log_prints is not None:
            other.log_prints = task.log_prints
        return other


def _keeps(root: RootRun, flow: Any) -> bool:
    """Tell whether the flow says that results are kept, or what is around it, or the settings."""
    said = getattr(flow, "persist_result", None)
    if said is not None:
        return bool(said)
    outer = _current.get()
    if outer is not None and outer.root is not None:
        return outer.keeping
    return root.settings.results_persist_by_default


def open_root(run_id: str, meta: dict[str, Any], settings: Settings) -> RootRun:
    """Make the directory of a new run, and open its journal as the driver's writer.

    `meta` is what `run.json` says of it, such as `flow` and `name`.

    Raises:
        JournalError: the directory cannot be made.
    """
    # Not at the top: importing tasks, as every job does, needs no driver's journal.
    from hpc_flows.journal.event import DRIVER, hide  # noqa: PLC0415
    from hpc_flows.journal.folder import create_run, read_key  # noqa: PLC0415
    from hpc_flows.journal.writer import JournalWriter  # noqa: PLC0415
    from hpc_flows.results.kept import RunResults  # noqa: PLC0415

    hide(settings.secrets())
    run_dir = create_run(settings.home, run_id, meta)
    journal = JournalWriter(run_dir, run_id, DRIVER, fsync=settings.journal_fsync)
    key = read_key(run_dir)
    results = RunResults(run_dir, key, settings.results_inline_limit)
    return RootRun(run_dir, run_id, journal, results, key, settings)


def _preview(value: object) -> str:
    """Return a value in a few words, for people; never fails, as a `__repr__` may."""
    size = len(value) if isinstance(value, (list, tuple, dict, set, bytes, str)) else 0
    if size > _PREVIEW:
        return f"<{type(value).__name__} of {size} items>"
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - the user's own code
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= _PREVIEW else text[:_PREVIEW] + "…"


_given_back = _local()


def _waits(slot: Slot, change: int) -> int:
    """Count the waits of this thread for which a place is given back: asyncio's may be many."""
    counts, key = _given_back.__dict__, str(id(slot))
    counts[key] = counts.get(key, 0) + change
    return counts[key] or counts.pop(key)  # type: ignore[no-any-return]


def give_way(futures: Sequence[TaskFuture] = ()) -> Callable[[], None]:
    """Give back the places that the caller's task holds; call what is returned to take them again.

    Called before a wait for a future, so that nested submits do not deadlock a bounded pool.

    Args:
        futures: what is waited for, if it is waited for however long it takes.

    Raises:
        CycleOfWaits: they wait for the caller's task run themselves.
    """
    context = _current.get()
    leave = None
    if futures and context is not None:
        from hpc_flows.futures.cycles import note_wait  # noqa: PLC0415 - jobs hardly ever wait

        leave = note_wait(context, futures)
    slots = () if context is None else context.slots
    for slot in slots:
        if _waits(slot, 1) == 1:
            slot.pause()

    def resume() -> None:
        for slot in slots:
            if _waits(slot, -1) == 0:
                slot.resume()
        if leave is not None:
            leave()

    return resume


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
        if not all(isinstance(tag, str) for tag in new):
            msg = f'tags() takes texts, as in tags("a", "b"), not {new!r}.'
            raise ParameterError(msg)
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


def __getattr__(name: str) -> Any:
    # Prefect's names are loaded when they are first asked for: jobs never do.
    # Not `from hpc_flows.context import views`, which asks this function for `views`.
    views: Any = __import__(f"{__name__}.views", fromlist=["__all__"])
    if name not in views.__all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(views, name)
