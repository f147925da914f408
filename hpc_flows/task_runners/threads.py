"""Runs calls in threads of this process; what a flow does when it says nothing else."""

from __future__ import annotations

import ctypes
import threading
import time
from collections import deque
from contextvars import copy_context

from hpc_flows.context import entered, give_way
from hpc_flows.engine.drive import drive
from hpc_flows.engine.task_engine import last_state, run_task
from hpc_flows.exceptions import ParameterError
from hpc_flows.states import Cancelled
from hpc_flows.task_runners.base import TaskRunner
from hpc_flows.task_runners.bursts import Burst

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context
    from typing import Self

    from hpc_flows.context import RunContext
    from hpc_flows.futures import TaskFuture
    from hpc_flows.task_runners.base import TaskCall

#: Most threads where neither the runner nor the settings say. Prefect has no bound; this many
#: sleeping tasks cost about 20 MB, and login nodes limit the threads of a user.
MOST_WORKERS = 250
#: Seconds between two looks at whether more threads would help.
_LOOK = 0.002
#: Calls per second above which a process is kept busy by starting calls alone.
_BUSY = 2000.0


class ThreadPoolTaskRunner(TaskRunner):
    """Runs calls in a pool of threads that grows while calls wait and threads could help.

    A task that waits for another's future does not count as running, so that tasks which submit
    tasks cannot block each other, however small the pool.
    """

    name = "threads"

    def __init__(self, max_workers: int | None = None) -> None:
        """Make a pool of at most `max_workers` running tasks; None takes the settings."""
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            msg = f"max_workers must be a positive whole number, not {max_workers!r}."
            raise ParameterError(msg)
        self.max_workers = max_workers
        self._limit = max_workers or MOST_WORKERS
        self._queue: deque[tuple[TaskCall, Context]] = deque()
        self._lock = threading.Lock()
        self._threads: dict[threading.Thread, TaskCall | None] = {}
        # Each idle thread waits for a lock of its own, so that whoever wakes one knows which, and
        # counts it as running from then on. The last one to fall asleep is woken first.
        self._idle: list[threading.Lock] = []
        self._paused = 0
        self._taken = 0
        self._closed = False
        self._growing = False
        self._burst = Burst()

    def duplicate(self) -> Self:
        """Return a pool of the same size that shares nothing with this one."""
        return type(self)(self.max_workers)

    def start(self, context: RunContext) -> None:
        """Take the pool's size from the run's settings if it was not given."""
        if self.max_workers is None and context.root is not None:
            self._limit = context.root.settings.thread_workers or MOST_WORKERS

    def submit(self, calls: Sequence[TaskCall]) -> None:
        """Queue calls; threads take them in order."""
        outer = copy_context()
        contexts: dict[int, RunContext] = {}
        entries = []
        for call in calls:
            inner = contexts.get(id(call.context))
            if inner is None:
                inner = contexts[id(call.context)] = call.context.copy()
                inner.slots = (*inner.slots, self)
            call.context = inner
            entries.append((call, outer))
            call.future.on_wait = self._wait_begins
        with self._lock:
            self._burst.go_on()
            self._queue.extend(entries)
            self._wake_or_grow()

    def _wake_or_grow(self) -> None:
        """Let a thread take a call, with the lock held, if none is at work.

        While one is, it may take the next call sooner than another could wake up; `_grow` sees
        whether it does. To wake a thread for each call makes a thousand short ones take twice
        as long.
        """
        if self._running() == 0:
            self._wake_or_add()
        if self._queue and not self._growing and self._running() < self._limit:
            self._growing = _started(self._grow, "hpc-flows-pool")

    def _running(self) -> int:
        """Return how many threads run a task that does not wait."""
        return len(self._threads) - len(self._idle) - self._paused

    def _wake_or_add(self) -> bool:
        """Let one more thread take calls, with the lock held; return False if there is none."""
        if not self._idle:
            return self._add_thread()
        self._idle.pop().release()
        return True

    def _add_thread(self) -> bool:
        thread = threading.Thread(
            target=self._serve, name=f"hpc-flows-{len(self._threads)}", daemon=True
        )
        self._threads[thread] = None
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads; go on with those there are
            del self._threads[thread]
            if not self._threads:
                raise
            return False
        return True

    def _grow(self) -> None:
        """Let more threads work, more each time, while calls wait and are taken but slowly."""
        began = wall = time.monotonic()
        taken, step = self._taken, 1
        while True:
            time.sleep(_LOOK)
            with self._lock:
                room = self._limit - self._running()
                if not self._queue or room <= 0 or self._closed:
                    self._growing = False
                    return
                is_slow = self._taken - taken < _BUSY * (time.monotonic() - wall)
                if is_slow and not self._burst.lasts(began):
                    for _ in range(min(step, room, len(self._queue))):
                        if not self._wake_or_add():
                            break
                    step *= 2
                taken, wall = self._taken, time.monotonic()

    def _serve(self) -> None:
        try:
            self._take_calls()
        except KeyboardInterrupt:  # `cancel` wrote the thread off when its call had just ended
            return

    def _take_calls(self) -> None:
        """Take calls until there are none, or until there are more threads than there may be."""
        me = threading.current_thread()
        gate = threading.Lock()
        gate.acquire()
        self._burst.let_pass()
        while True:
            with self._lock:  # once for the end of a call and the beginning of the next
                if me not in self._threads:  # written off
                    return
                self._threads[me] = None
                sleeps = not self._queue and not self._closed
                if sleeps:
                    self._idle.append(gate)
                elif not self._queue or self._running() > self._limit:
                    self._threads.pop(me, None)
                    return
                else:
                    call, outer = self._queue.popleft()
                    self._taken += 1
                    self._threads[me] = call
            if sleeps:
                gate.acquire()
                self._burst.let_pass()
                continue
            outer.copy().run(_run, call)

    def _wait_begins(self, futures: Sequence[TaskFuture]) -> Callable[[], None]:
        """Hold nothing back any more, since somebody waits for a call; what futures call then."""
        self._burst.end()
        return give_way(futures)

    # The pool is a slot of the contexts of its calls: see `RunContext.slots`.

    def pause(self) -> None:
        """Let another thread run while this one waits."""
        with self._lock:
            self._paused += 1
            if self._queue:
                self._wake_or_grow()

    def resume(self) -> None:
        """Count the thread as running again."""
        with self._lock:
            self._paused -= 1

    def cancel(self, calls: Sequence[TaskCall] | None, reason: str) -> None:
        """End calls as Cancelled; threads that run one are interrupted and written off."""
        with self._lock:
            wanted = None if calls is None else {call.run.id for call in calls}
            queued = [call for call, _ in self._queue if wanted is None or call.run.id in wanted]
            gone = {call.run.id for call in queued}
            self._queue = deque(entry for entry in self._queue if entry[0].run.id not in gone)
            running = [
                (thread, call)
                for thread, call in self._threads.items()
                if call is not None and (wanted is None or call.run.id in wanted)
            ]
            for thread, _ in running:
                del self._threads[thread]
        state = Cancelled(reason)
        for call in (*queued, *(call for _, call in running), *(calls or ())):
            call.end(state)
        for thread, _ in running:  # only now, so that `reason` is what is told
            _interrupt(thread)

    def close(self) -> None:
        """Let the threads go once the queue is empty."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().release()


ConcurrentTaskRunner = ThreadPoolTaskRunner


def _started(target: Callable[[], None], name: str) -> bool:
    """Start a thread; return False where the system gives no more of them."""
    try:
        threading.Thread(target=target, name=name, daemon=True).start()
    except RuntimeError:
        return False
    return True


def _run(call: TaskCall) -> None:
    """Run a call and resolve its future, whatever happens."""
    if call.future.done():
        return
    try:
        # In the call's context also between the function's calls: a pause before a retry gives
        # the thread's place to others.
        with entered(call.context):
            state = drive(run_task(call.task, call.run, call.args, call.kwargs, call.context))
    except BaseException:  # noqa: BLE001 - the engine has recorded it; a thread has no caller
        state = last_state(call.run)
    call.future.resolve(state)


def _interrupt(thread: threading.Thread) -> None:
    """Raise KeyboardInterrupt in a thread, at its next step of Python code."""
    if thread.ident is not None and thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
        )
