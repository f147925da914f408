"""The interface of task runners, and the call that they are given."""

from __future__ import annotations

from _thread import allocate_lock
from abc import ABC, abstractmethod

from hpc_flows.logging import ERROR, run_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, Self

    from hpc_flows.context import RunContext
    from hpc_flows.futures import TaskFuture
    from hpc_flows.runs import TaskRun
    from hpc_flows.states import State


_ending = allocate_lock()


class TaskCall:
    """One task run that is ready to start.

    Attributes:
        task: the `Task`.
        run: its `TaskRun`, already journalled and Pending.
        args, kwargs: the arguments; when a runner gets the call, futures in them have been
            replaced by values.
        future: to be resolved exactly once, with a final state.
        context: what surrounds the call; `context.root.record` takes its states.
        wait_for: more futures that must have ended before it starts.
        runner: whom it was given to, or None while it waits for upstream runs.
        origin: the call that this one stands for, with a future of its own, or None.
        was_ended: whether `end` has ended it, or is about to.
    """

    __slots__ = (
        "args",
        "context",
        "future",
        "kwargs",
        "origin",
        "run",
        "runner",
        "task",
        "wait_for",
        "was_ended",
    )

    def __init__(
        self,
        task: Any,
        run: TaskRun,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: TaskFuture,
        context: RunContext,
        wait_for: Sequence[Any] = (),
    ) -> None:
        self.task = task
        self.run = run
        self.args = args
        self.kwargs = kwargs
        self.future = future
        self.context = context
        self.wait_for = wait_for
        self.runner: TaskRunner | None = None
        self.origin: TaskCall | None = None
        self.was_ended = False

    def given_to(self, runner: TaskRunner) -> None:
        """Note whom it is given to, who cancels it from now on."""
        self.runner = runner
        if self.origin is not None:
            self.origin.given_to(runner)

    def end(self, state: State, level: int = ERROR) -> None:
        """Record, log and resolve a call that ends without its task's code deciding how."""
        with _ending:  # a flow and one within it may be cancelled at the same time
            if self.was_ended or self.future.done():
                return
            self.was_ended = True
        try:
            self.context.root.record("task", self.run, state)
        except BaseException:  # a full disk, say: whoever tries next may end it
            self.was_ended = False
            raise
        inner = self.context.for_task(self.task, self.run)
        run_log(inner, level, f"Finished in state {state!r}")
        self.future.resolve(state)

    def __repr__(self) -> str:
        return f"TaskCall({self.run.name!r})"


class TaskRunner(ABC):
    """Runs the calls that it is given, and resolves their futures.

    The duties of a runner, for each call: journal its states through `call.context.root` (or leave
    that to the journal of the job that runs it), resolve `call.future` exactly once with a final
    `State` whose `data` is the value, the exception or a `StoredValue`, and log "Finished in state
    ..." once. `submit` does not block on the calls' work.
    """

    #: What the runner is called in messages, such as `threads`.
    name = "runner"

    #: Whether it gives tasks the resources that they ask for, each its own; then a flow that was
    #: given this runner sends it tasks with resources too, also those that are called directly.
    places_resources = False

    #: Whether what it runs goes on when the driver of the flow ends.
    outlives_driver = False

    def check(self, task: Any) -> None:  # noqa: B027 - most runners take every task
        """Raise ResourceError when the task asks for what this runner can never give."""

    def start(self, context: RunContext) -> None:  # noqa: B027 - not every runner needs it
        """Get ready to run calls of the run that `context` belongs to."""

    @abstractmethod
    def submit(self, calls: Sequence[TaskCall]) -> None:
        """Start calls whose arguments are ready; a `map` arrives as one list."""

    @abstractmethod
    def cancel(self, calls: Sequence[TaskCall] | None, reason: str) -> None:
        """Cancel some calls, or all with None, and resolve their futures as Cancelled."""

    def close(self) -> None:  # noqa: B027 - most runners have something, not all
        """Let go of what the runner holds; every future has been resolved, or is cancelled."""

    def duplicate(self) -> Self:
        """Return a runner of the same options that shares nothing with this one."""
        return type(self)()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
