"""The threads of a flow's process that give calls to worker processes, one thread for each."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time

from hpc_flows.engine.drive import ExecutionLost, drive
from hpc_flows.engine.family import Family
from hpc_flows.engine.pausing import Hold
from hpc_flows.engine.task_engine import last_state, run_task
from hpc_flows.engine.timeouts import DeadlineReached
from hpc_flows.serializers.pickle import loads
from hpc_flows.task_runners.batches import END, MOST, Batch, Tokens
from hpc_flows.task_runners.frames import Receiver, send
from hpc_flows.task_runners.process_messages import greeting_of, message_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.engine.drive import Steps
    from hpc_flows.results.kept import RunResults
    from hpc_flows.task_runners.base import TaskCall
    from hpc_flows.task_runners.batches import Entry
    from hpc_flows.task_runners.processes import ProcessPoolTaskRunner

    Message = list[bytes | bytearray]

#: Seconds that a worker process may take to start; slow file systems are very slow.
_LONGEST_START = 300.0
#: Seconds for a call, below which the next ones are sent several at once.
_QUICK = 0.0005
#: Seconds without an answer after which calls that have not begun are taken back for others.
_SLOW = 0.005


class Handler:
    """Gives calls to one worker process, and starts another when that dies."""

    def __init__(self, pool: ProcessPoolTaskRunner) -> None:
        self._pool = pool
        self._lock = threading.Lock()  # of the batch
        self._batch = Batch()
        self._alone: TaskCall | None = None
        self._quick = False
        self._waited = 0.0  # seconds, for answers to the newest message
        self._held: Entry | None = None  # taken from the queue, and not like the others
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._receiver: Receiver | None = None
        self._tokens: Tokens | None = None
        self._marks = 0  # marks of the end of a message that were not awaited
        self._errors: RunResults | None = None
        threading.Thread(target=self._serve, name="hpc-flows-process", daemon=True).start()

    def _serve(self) -> None:
        while (entry := self._next()) is not None:
            call, outer = entry
            if call.future.done():
                continue
            count, self._waited = 1, 0.0
            if self._quick and _is_simple(call) and not call.context.root.pauses:
                self._pool.burst.let_pass()
                with self._pool.turn:
                    count = self._run_batch([entry, *self._more_like(call)])
            else:
                self._alone = call
                outer.copy().run(self._run_alone, call)
                self._alone = None
            self._quick = self._waited < _QUICK * count
        self._part()

    def _next(self) -> Entry | None:
        entry, self._held = self._held, None
        return entry or self._pool.take()

    def _more_like(self, first: TaskCall) -> list[Entry]:
        """Take more calls that one message can hold, leaving the other processes their part."""
        alike: list[Entry] = []
        for _ in range(min(MOST - 1, self._pool.share())):
            entry = self._pool.take_waiting()
            if entry is None:
                break
            if not _is_like(entry[0], first):
                self._held = entry
                break
            if not entry[0].future.done():
                alike.append(entry)
        return alike

    # One call, with all that may be between its beginning and its end ----------------------------

    def _run_alone(self, call: TaskCall) -> None:
        _finish(call, self._steps(call))

    def _steps(self, call: TaskCall) -> Steps:
        return run_task(call.task, call.run, call.args, call.kwargs, call.context, self._operation)

    def _operation(self, context: RunContext) -> RemoteCall:
        return RemoteCall(self, context)

    def ask(self, context: RunContext) -> Any:
        """Have the process call the function of a context's task; return its value or raise.

        Raises:
            DeadlineReached: it took longer than its time limit; the process was killed.
            ExecutionLost: the process died.
        """
        task = context.task
        message = message_of(context, [(context.task_run, 0, *context.arguments)])
        self._ensure_process()
        channel, started = self._channel, time.monotonic()
        if channel is None:
            raise ExecutionLost(self._obituary(0.0))
        channel.settimeout(task.timeout_seconds)
        try:
            self._send(message, 1)
            answer = self._received()
        except TimeoutError:
            self._end()
            raise DeadlineReached(task.timeout_seconds) from None
        except (EOFError, OSError):
            raise ExecutionLost(self._obituary(time.monotonic() - started)) from None
        self._marks += 1
        return self._opened(answer)

    def _send(self, message: list[bytes], count: int) -> None:
        if self._channel is None or self._tokens is None:
            raise EOFError
        self._tokens.offer(count)
        send(self._channel, message)

    def _received(self, *, patiently: bool = False) -> Message:
        """Return the next answer, or the mark that the worker has come to the message's end."""
        next_message = self._patiently_next if patiently else self._next_message
        answer = next_message()
        while answer[0] == END and self._marks:
            self._marks -= 1
            answer = next_message()
        return answer

    def _next_message(self) -> Message:
        if self._receiver is None:
            raise EOFError
        if self._receiver.is_empty():
            self._await_message(self._receiver)
        return self._receiver.receive()

    def _await_message(self, receiver: Receiver) -> None:
        """Wait for the beginning of a message; other handlers have their turn meanwhile."""
        began = time.monotonic()
        shares = self._alone is None
        if shares:
            self._pool.turn.release()
        try:
            receiver.wait()
        finally:
            self._waited += time.monotonic() - began
            if shares:
                self._pool.turn.acquire()

    def _opened(self, answer: Message) -> Any:
        """Return the value in an answer, or raise the exception in it."""
        kind, content = answer
        if kind == b"value":
            return loads(content)
        if self._errors is None:
            raise EOFError
        raise self._errors.load(loads(content)).with_traceback(None)

    # Many short calls ---------------------------------------------------------------------------

    def _run_batch(self, entries: list[Entry]) -> int:
        """Run short calls of one task that are sent in one message; return their number.

        When the process dies, the call that it ran is lost, and the others go to other processes.
        """
        try:
            self._ensure_process()
            first = entries[0][0]
            bodies = [(call.run, 1, call.args, call.kwargs) for call, _ in entries]
            message = message_of(first.context.for_task(first.task, first.run), bodies)
        except BaseException:  # noqa: BLE001 - told for each call by itself, where it belongs
            for call, outer in entries:
                outer.copy().run(self._run_alone, call)
            return 0
        with self._lock:
            self._batch = Batch(entries)
        if self._channel is not None:
            self._channel.settimeout(None)  # an earlier call's limit is none for this message
        try:
            self._send(message, len(entries))
        except (EOFError, OSError):
            self._pool.put_back(entries[1:])
            with self._lock:
                self._batch = Batch(entries[:1])
        while (entry := self._current()) is not None:
            call, outer = entry
            outer.copy().run(self._run_current, call)
        if self._process is not None:
            self._marks += 1
        return len(entries)

    def _current(self) -> Entry | None:
        with self._lock:
            return self._batch.current()

    def _run_current(self, call: TaskCall) -> None:
        """Follow the batch's current call from its beginning to its end."""
        answered = _Answered(self, call)
        _finish(call, answered.steps_of(self._steps(call)))
        if not answered.was_asked:  # it was cancelled before it began, and its answer is nobody's
            answered.perform_quietly()
        with self._lock:
            self._batch.advance()

    def await_current(self, call: TaskCall) -> Any:
        """Return the value of the batch's current call, or raise; others get the rest if it lasts.

        Raises:
            ExecutionLost: the process died.
        """
        started = time.monotonic()
        try:
            answer = self._received(patiently=True)
            while answer[0] == END:  # it was taken back when another was cancelled
                if call.future.done():
                    self._marks -= 1
                    return None
                context = call.context.for_task(call.task, call.run)
                body = (call.run, 0, call.args, call.kwargs)
                self._send(message_of(context, [body]), 1)
                answer = self._received()
        except (EOFError, OSError):
            self._take_back()
            raise ExecutionLost(self._obituary(time.monotonic() - started)) from None
        return self._opened(answer)

    def _patiently_next(self) -> Message:
        """Return the next message; let others have the rest of the batch if it does not come."""
        receiver, channel = self._receiver, self._channel
        if receiver is None or channel is None:
            raise EOFError
        if receiver.is_empty() and self._batch.has_more():
            channel.settimeout(_SLOW)
            try:
                self._await_message(receiver)
            except TimeoutError:
                self._take_back()
        # None within a message: what had come of it would be lost, and the rest taken for another.
        channel.settimeout(None)
        return self._next_message()

    def _take_back(self) -> None:
        """Give the calls that the worker has not begun to whoever comes first."""
        with self._lock:
            if self._tokens is not None:
                self._pool.put_back(self._batch.give_back(self._tokens.take_back()))

    # The process --------------------------------------------------------------------------------

    def _ensure_process(self) -> None:
        """Start a process where there is none, and wait until its initializer has run."""
        if self._channel is not None:
            return
        channel, receiver = self._begin()
        channel.settimeout(_LONGEST_START)
        started = time.monotonic()
        try:
            answer = receiver.receive()
        except TimeoutError:
            self._end()
            raise DeadlineReached(_LONGEST_START) from None
        except (EOFError, OSError):
            raise ExecutionLost(self._obituary(time.monotonic() - started)) from None
        try:
            self._opened(answer)
        except Exception:  # the initializer's
            self._end()
            raise

    def _begin(self) -> tuple[socket.socket, Receiver]:
        told, self._errors = self._pool.greeting()
        greeting = greeting_of(told)  # before there is a process that would wait for it
        ours, theirs = socket.socketpair()
        self._tokens = Tokens()
        descriptors = theirs.fileno(), self._tokens.reader
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from hpc_flows.task_runners.process_worker import main; main{descriptors}"
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program], stdin=subprocess.DEVNULL, pass_fds=descriptors
            )
        self._channel, self._receiver = ours, Receiver(ours)
        send(ours, greeting)
        return self._channel, self._receiver

    def running(self) -> TaskCall | None:
        """Return the call that the process runs, or is about to."""
        if self._alone is not None:
            return self._alone
        entry = self._current()
        return None if entry is None else entry[0]

    def cancel(self, wanted: set[str]) -> None:
        """Kill the process if it runs one of these runs; from any thread."""
        if self._alone is None:
            self._take_back()
        call = self.running()
        if call is not None and call.run.id in wanted:
            self.kill()

    def kill(self) -> None:
        """Kill the process and what it has started, from any thread; the handler's own sees it die.

        A solver that its task has started would run on without it.
        """
        process = self._process
        if process is not None and process.poll() is None:
            Family(process.pid).end(0.0)
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
        with self._lock:
            if self._tokens is not None:
                self._tokens.close()
            self._tokens = None
        self._channel = self._process = self._receiver = None
        self._marks = 0

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


def _finish(call: TaskCall, steps: Steps) -> None:
    """Drive a call's steps to their end and resolve its future, whatever happens."""
    try:
        state = drive(steps)
    except BaseException:  # noqa: BLE001 - the engine has recorded it; a thread has no caller
        state = last_state(call.run)
    call.future.resolve(state)


class RemoteCall:
    """The operation of calling a task's function in a worker process."""

    __slots__ = ("_context", "_handler")

    def __init__(self, handler: Handler, context: RunContext) -> None:
        self._handler = handler
        self._context = context

    def perform(self) -> Any:
        """Call it there and return its value."""
        return self._handler.ask(self._context)

    async def aperform(self) -> Any:
        """Call it there; only handlers' threads do, which have no event loop."""
        return self.perform()


class _Answered:
    """The operation of waiting for the answer to a call that was sent with others."""

    __slots__ = ("_call", "_handler", "was_asked")

    def __init__(self, handler: Handler, call: TaskCall) -> None:
        self._handler = handler
        self._call = call
        self.was_asked = False

    def steps_of(self, steps: Steps) -> Steps:
        """Return a call's steps, with the remote call among them answered by this."""
        try:
            op = next(steps)
            while True:
                try:
                    if isinstance(op, Hold):  # the worker has its arguments: it has begun
                        answer = None
                    else:
                        answer = yield self if isinstance(op, RemoteCall) else op
                except BaseException as error:  # noqa: BLE001 - the engine decides about each
                    op = steps.throw(error)
                else:
                    op = steps.send(answer)
        except StopIteration as end:
            return end.value

    def perform(self) -> Any:
        """Return the value of the call, or raise what ended it."""
        self.was_asked = True
        return self._handler.await_current(self._call)

    async def aperform(self) -> Any:
        """As above; only handlers' threads do, which have no event loop."""
        return self.perform()

    def perform_quietly(self) -> None:
        """Let the answer go by."""
        try:
            self.perform()
        except BaseException:  # noqa: BLE001 - the run had ended before
            return


def _is_simple(call: TaskCall) -> bool:
    """Tell whether nothing happens to a call but that it begins, is computed, and ends."""
    task, context = call.task, call.context
    retries = task.retries
    if retries is None:
        retries = context.root.settings.task_default_retries
    return not (
        retries
        or task.timeout_seconds is not None
        or task.recall
        or task.on_running_hooks
        or task.on_completion_hooks
        or task.on_failure_hooks
        or call.run.tags
        or context.transaction is not None
    )


def _is_like(call: TaskCall, first: TaskCall) -> bool:
    """Tell whether two calls differ in nothing but their runs and arguments."""
    one, other = call.context, first.context
    return (
        call.task is first.task
        and one.flow_run is other.flow_run
        and one.tags == other.tags
        and one.log_prints == other.log_prints
        and _is_simple(call)
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
