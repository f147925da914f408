"""The interface of task runners, and the call that they are given."""

from __future__ import annotations

from abc import ABC, abstractmethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, Self

    from hpc_flows.context import RunContext
    from hpc_flows.futures import TaskFuture
    from hpc_flows.runs import TaskRun


class TaskCall:
    """One task run that is ready to start.

    Attributes:
        task: the `Task`.
        run: its `TaskRun`, already journalled and Pending.
        args, kwargs: the arguments; when a runner gets the call, futures in them have been
            replaced by values.
        future: to be resolved exactly once, with a final state.
        context: what surrounds the call; `context.root.journal` is where its states go.
    """

    __slots__ = ("args", "context", "future", "kwargs", "run", "task")

    def __init__(  # noqa: PLR0913 - the six parts of a call
        self,
        task: Any,
        run: TaskRun,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: TaskFuture,
        context: RunContext,
    ) -> None:
        self.task = task
        self.run = run
        self.args = args
        self.kwargs = kwargs
        self.future = future
        self.context = context

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
