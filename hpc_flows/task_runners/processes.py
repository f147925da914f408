"""Runs calls in processes of this machine, which use all cores and can be killed."""

from __future__ import annotations

import threading
from collections import deque
from contextvars import copy_context
from queue import Empty, SimpleQueue

from hpc_flows.context import give_way
from hpc_flows.exceptions import ParameterError
from hpc_flows.results.kept import RunResults
from hpc_flows.runs import new_id, short
from hpc_flows.states import Cancelled
from hpc_flows.task_runners.base import TaskRunner
from hpc_flows.task_runners.bursts import Burst
from hpc_flows.task_runners.machine import usable_cpus
from hpc_flows.task_runners.process_handler import Handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Self

    from hpc_flows.context import RootRun, RunContext
    from hpc_flows.futures import TaskFuture
    from hpc_flows.task_runners.base import TaskCall
    from hpc_flows.task_runners.batches import Entry


#: In the queue: take the next call that was put back.
_AGAIN = "again"


class ProcessPoolTaskRunner(TaskRunner):
    """Runs calls in worker processes, each of which runs one at a time.

    What is defined in `__main__` is sent by value, so that scripts need no
    `if __name__ == "__main__"`. A task that takes longer than its `timeout_seconds`, or is
    cancelled, has its process killed.
    """

    name = "processes"

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        """Make a pool.

        Args:
            max_workers: most processes; None takes the number of cpus.
            initializer: called with `initargs` in each new process.
            initargs: arguments of `initializer`.
        """
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            msg = f"max_workers must be a positive whole number, not {max_workers!r}."
            raise ParameterError(msg)
        self.max_workers = max_workers
        self._initializer = initializer
        self._initargs = initargs
        self._limit = max_workers or usable_cpus()
        self._root: RootRun | None = None
        # None ends a handler; `_AGAIN` leads to a call that another handler has put back.
        self._queue: SimpleQueue[Entry | str | None] = SimpleQueue()
        self._put_back: deque[Entry] = deque()
        self._lock = threading.Lock()
        self._handlers: list[Handler] = []
        self._pending = 0
        self.burst = Burst()
        #: Whose turn it is to work for short calls in this process. Handlers that do so at the
        #: same time wait for each other at every line of the journal, and take twice as long.
        self.turn = threading.Lock()

    def duplicate(self) -> Self:
        """Return a pool of the same options that shares nothing with this one."""
        return type(self)(self.max_workers, self._initializer, self._initargs)

    def start(self, context: RunContext) -> None:
        """Remember the run whose journal the processes write to."""
        self._root = context.root

    def submit(self, calls: Sequence[TaskCall]) -> None:
        """Queue calls; processes take them in order."""
        outer = copy_context()
        self.burst.go_on()
        with self._lock:
            self._pending += len(calls)
            for _ in range(min(self._pending, self._limit) - len(self._handlers)):
                self._handlers.append(Handler(self))
        for call in calls:
            call.future.add_done_callback(self._ended)
            call.future.on_wait = self._wait_begins
            self._queue.put((call, outer))

    def _wait_begins(self, futures: Sequence[TaskFuture]) -> Callable[[], None]:
        """Hold nothing back any more, since somebody waits for a call; what futures call then."""
        self.burst.end()
        return give_way(futures)

    def _ended(self, _: object) -> None:
        with self._lock:
            self._pending -= 1

    # What handlers ask for ------------------------------------------------------------------------

    def take(self) -> Entry | None:
        """Return the next call, once there is one; None when the pool is closed."""
        while True:
            entry = self._queue.get()
            if entry is None or not isinstance(entry, str):
                return entry
            if self._put_back:
                return self._put_back.popleft()

    def take_waiting(self) -> Entry | None:
        """Return the next call if one is waiting."""
        try:
            entry = self._queue.get_nowait()
        except Empty:
            return None
        if entry is None:
            self._queue.put(None)
        if entry is None or isinstance(entry, str):
            return self._put_back.popleft() if entry is not None and self._put_back else None
        return entry

    def share(self) -> int:
        """Return how many of the waiting calls each process would have."""
        return self._queue.qsize() // len(self._handlers)

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Let other processes run calls that one has not begun."""
        for entry in entries:
            self._put_back.append(entry)
            self._queue.put(_AGAIN)

    # ----------------------------------------------------------------------------------------------

    def cancel(self, calls: Sequence[TaskCall] | None, reason: str) -> None:
        """End calls as Cancelled; processes that run one are killed."""
        with self._lock:
            handlers = list(self._handlers)
        if calls is None:
            running = [handler.running() for handler in handlers]
            calls = [*(call for call in running if call is not None), *self._drained()]
        for call in calls:
            call.end(Cancelled(reason))
        wanted = {call.run.id for call in calls}
        for handler in handlers:
            handler.cancel(wanted)

    def _drained(self) -> list[TaskCall]:
        drained = []
        while (entry := self.take_waiting()) is not None:
            drained.append(entry[0])
        return drained

    def close(self) -> None:
        """Let the processes end once the queue is empty."""
        for _ in self._handlers:
            self._queue.put(None)

    def greeting(self) -> tuple[dict[str, Any], RunResults]:
        """Return what a new process is told first, and what reads the errors that it sends."""
        root = self._root
        if root is None:
            msg = "The process pool was not started."
            raise RuntimeError(msg)
        settings = root.settings
        told = {
            "run_dir": root.run_dir,
            "run_id": root.run_id,
            "key": root.key,
            "settings": (settings.to_dict(secrets=True), settings.sources, settings.profile),
            "writer": f"process-{short(new_id())}",
            "initializer": self._initializer,
            "initargs": self._initargs,
        }
        return told, RunResults(root.run_dir, root.key)
