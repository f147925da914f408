"""Runs calls in processes of this machine, which use all cores and can be killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from contextvars import copy_context
from queue import SimpleQueue

from hpc_flows.engine.drive import ExecutionLost, drive
from hpc_flows.engine.task_engine import last_state, run_task
from hpc_flows.engine.timeouts import DeadlineReached
from hpc_flows.exceptions import ParameterError, PayloadError
from hpc_flows.results.kept import RunResults
from hpc_flows.runs import FlowRun, new_id, short
from hpc_flows.serializers.pickle import dumps, loads
from hpc_flows.states import Cancelled
from hpc_flows.task_runners.base import TaskRunner
from hpc_flows.task_runners.frames import receive, send
from hpc_flows.task_runners.machine import usable_cpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context
    from typing import Any, Self

    from hpc_flows.context import RootRun, RunContext
    from hpc_flows.task_runners.base import TaskCall


#: Seconds that a worker process may take to start; slow file systems are very slow.
_LONGEST_START = 300.0


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
        self._queue: SimpleQueue[tuple[TaskCall, Context] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._handlers: list[_Handler] = []
        self._pending = 0

    def duplicate(self) -> Self:
        """Return a pool of the same options that shares nothing with this one."""
        return type(self)(self.max_workers, self._initializer, self._initargs)

    def start(self, context: RunContext) -> None:
        """Remember the run whose journal the processes write to."""
        self._root = context.root

    def submit(self, calls: Sequence[TaskCall]) -> None:
        """Queue calls; processes take them in order."""
        outer = copy_context()
        with self._lock:
            self._pending += len(calls)
            for _ in range(min(self._pending, self._limit) - len(self._handlers)):
                self._handlers.append(_Handler(self, self._queue))
        for call in calls:
            call.future.add_done_callback(self._ended)
            self._queue.put((call, outer))

    def _ended(self, _: object) -> None:
        with self._lock:
            self._pending -= 1

    def cancel(self, calls: Sequence[TaskCall] | None, reason: str) -> None:
        """End calls as Cancelled; processes that run one are killed."""
        with self._lock:
            handlers = list(self._handlers)
        if calls is None:
            calls = [*(h.call for h in handlers if h.call is not None), *self._drained()]
        for call in calls:
            call.end(Cancelled(reason))
        wanted = {call.run.id for call in calls}
        for handler in handlers:
            if handler.call is not None and handler.call.run.id in wanted:
                handler.kill()

    def _drained(self) -> list[TaskCall]:
        drained = []
        while not self._queue.empty():
            entry = self._queue.get()
            if entry is not None:
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
            "settings": (settings.to_dict(), settings.sources, settings.profile),
            "writer": f"process-{short(new_id())}",
            "initializer": self._initializer,
            "initargs": self._initargs,
        }
        return told, RunResults(root.run_dir, root.key)


class _Handler:
    """A thread of the flow's process that gives calls to one worker process."""

    def __init__(
        self, pool: ProcessPoolTaskRunner, queue: SimpleQueue[tuple[TaskCall, Context] | None]
    ) -> None:
        self.call: TaskCall | None = None
        self._pool = pool
        self._queue = queue
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._errors: RunResults | None = None
        threading.Thread(target=self._serve, name="hpc-flows-process", daemon=True).start()

    def _serve(self) -> None:
        while (entry := self._queue.get()) is not None:
            call, outer = entry
            if call.future.done():
                continue
            self.call = call
            outer.copy().run(self._run, call)
            self.call = None
        self._part()

    def _run(self, call: TaskCall) -> None:
        try:
            steps = run_task(
                call.task, call.run, call.args, call.kwargs, call.context, self._operation
            )
            state = drive(steps)
        except BaseException:  # noqa: BLE001 - the engine has recorded it; a thread has no caller
            state = last_state(call.run)
        call.future.resolve(state)

    def _operation(self, context: RunContext) -> _RemoteCall:
        return _RemoteCall(self, context)

    def ask(self, task: bytes, body: bytes, timeout: float | None) -> Any:
        """Have the process make a call; return its value or raise its exception.

        Raises:
            DeadlineReached: it took longer than `timeout` seconds; the process was killed.
            ExecutionLost: the process died.
        """
        if self._channel is None:
            self._begin()
            try:
                self._exchange(None, _LONGEST_START)
            except Exception:  # the initializer's
                self._end()
                raise
        return self._exchange([task, body], timeout)

    def _exchange(self, question: list[bytes] | None, timeout: float | None) -> Any:
        """Send a question, if there is one; return its answer, or raise it."""
        channel, errors = self._channel, self._errors
        if channel is None or errors is None:
            raise ExecutionLost(self._obituary(0.0))
        channel.settimeout(timeout)
        started = time.monotonic()
        try:
            if question is not None:
                send(channel, question)
            kind, answer = receive(channel)
        except TimeoutError:
            self._end()
            raise DeadlineReached(timeout) from None
        except (EOFError, OSError):
            raise ExecutionLost(self._obituary(time.monotonic() - started)) from None
        if kind == b"value":
            return loads(answer)
        raise errors.load(loads(answer)).with_traceback(None)

    def _begin(self) -> None:
        """Start a process."""
        ours, theirs = socket.socketpair()
        told, self._errors = self._pool.greeting()
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from hpc_flows.task_runners.process_worker import main; main({theirs.fileno()})"
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._channel = ours
        send(ours, [dumps(told)])

    def kill(self) -> None:
        """Kill the process, from any thread; the handler's own sees it die."""
        process = self._process
        if process is not None:
            process.kill()

    def _end(self) -> None:
        """Kill the process and forget it; the next call starts another."""
        self.kill()
        self._part()

    def _part(self) -> None:
        """Close the channel, which ends the process once it is idle, and wait for that."""
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.wait()
        self._channel = self._process = None

    def _obituary(self, seconds: float) -> str:
        """Forget a process that died, and say how it died."""
        process = self._process
        self._part()
        if process is None or process.returncode is None:
            return "The worker process died."
        code = process.returncode
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with status {code}"
        hint = " Perhaps the machine was out of memory." if code == -signal.SIGKILL else ""
        return f"The worker process {process.pid} {how} after {seconds:.1f} s of the task.{hint}"


class _RemoteCall:
    """The operation of calling a task's function in a worker process."""

    __slots__ = ("_context", "_handler")

    def __init__(self, handler: _Handler, context: RunContext) -> None:
        self._handler = handler
        self._context = context

    def perform(self) -> Any:
        """Call it there and return its value."""
        context = self._context
        task, run = context.task, context.task_run
        args, kwargs = context.arguments
        rest = (context.tags, context.log_prints, args, kwargs)
        body = _pickled_body(task, (run, context.flow_run, *rest))
        return self._handler.ask(_pickled_task(task), body, task.timeout_seconds)

    async def aperform(self) -> Any:
        """Call it there; only handlers' threads do, which have no event loop."""
        return self.perform()


def _pickled_task(task: Any) -> bytes:
    try:
        return dumps(task)
    except Exception as error:
        msg = f"Task {task.name!r} cannot be sent to a worker process: {error}"
        raise PayloadError(msg) from error


def _pickled_body(task: Any, body: tuple[Any, ...]) -> bytes:
    run, flow_run, *rest = body
    try:
        return dumps(body)
    except Exception as error:  # noqa: BLE001 - whatever the arguments' own methods raise
        try:
            return dumps((run, _bare(flow_run), *rest))
        except Exception:  # noqa: BLE001 - as above
            msg = f"An argument of task {task.name!r} cannot be sent to a worker process: {error}"
            raise PayloadError(msg) from error


def _bare(flow_run: FlowRun | None) -> FlowRun | None:
    """Return a flow run without its parameters, which may be what cannot be pickled."""
    if flow_run is None:
        return None
    bare = FlowRun(flow_run.flow_name, flow_run.name, tags=flow_run.tags, root_id=flow_run.root_id)
    bare.id = flow_run.id
    return bare


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
