"""What runs in a worker process: it calls the functions that it is sent, one after the other.

The task's states, retries and time limits are the flow's process's affair; what the function logs
goes to a journal file of this process.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

from hpc_flows.context import RootRun, RunContext, entered
from hpc_flows.engine.drive import Call, drive
from hpc_flows.engine.task_engine import settled
from hpc_flows.exceptions import ResultError
from hpc_flows.journal.event import hide
from hpc_flows.journal.writer import JournalWriter
from hpc_flows.logging import attach_loggers, catch_prints, without_our_frames
from hpc_flows.results.kept import RunResults
from hpc_flows.serializers.pickle import dumps, loads, not_picklable
from hpc_flows.settings import Settings
from hpc_flows.task_runners.batches import END, Claims
from hpc_flows.task_runners.frames import Receiver, send
from hpc_flows.task_runners.orphans import Orphanhood
from hpc_flows.task_runners.routing import Router

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Results in one message are not written to files, whatever their size.
_UNLIMITED = 1 << 62

#: Tasks and flow runs that are kept unpickled.
_MOST_LOADED = 100


class Worker:
    """One worker process."""

    def __init__(self, channel: socket.socket, tokens: int) -> None:
        self._channel = channel
        self._receiver = Receiver(channel)
        self._claims = Claims(tokens)
        self._loaded: dict[bytes, Any] = {}
        self._orphanhood = Orphanhood(channel)
        start = loads(self._receiver.receive()[0])
        settings = Settings(*start["settings"])
        hide(settings.secrets())  # its environment has them, and so may what it prints
        run_dir, run_id, key = start["run_dir"], start["run_id"], start["key"]
        journal = JournalWriter(run_dir, run_id, start["writer"], fsync=settings.journal_fsync)
        results = RunResults(run_dir, key, settings.results_inline_limit)
        self._root = RootRun(run_dir, run_id, journal, results, key, settings)
        attach_loggers(self._root)
        self._errors = RunResults(run_dir, key, _UNLIMITED)
        self._start = start

    def begin(self) -> bool:
        """Call the pool's initializer, and tell the flow's process how that went."""
        initializer = self._start["initializer"]
        self._orphanhood.is_busy = True
        try:
            if initializer is not None:
                initializer(*self._start["initargs"])
        except BaseException as error:  # noqa: BLE001 - it is raised in the flow's process
            send(self._channel, self._error(without_our_frames(error)))
            return False
        finally:
            self._orphanhood.is_busy = False
        send(self._channel, [b"value", dumps(None)])
        return True

    def serve(self) -> None:
        """Answer calls until the flow's process closes the channel."""
        while True:
            try:
                task, setting, *bodies = self._receiver.receive()
                self._orphanhood.is_busy = True
                for number in self._claims.of_next_message():
                    answer = self._answer(bytes(task), bytes(setting), bodies[number])
                    send(self._channel, answer)
                self._orphanhood.is_busy = False
                send(self._channel, [END, b""])
            except (EOFError, OSError):
                break
        self._orphanhood.is_busy = False
        self._root.close()

    def _answer(self, task: bytes, setting: bytes, body: bytes | bytearray) -> list[bytes]:
        try:
            value = self._call(self._once(task), self._once(setting), loads(body))
        except BaseException as error:  # noqa: BLE001 - it is raised in the flow's process
            return self._error(without_our_frames(error))
        try:
            return [b"value", dumps(value)]
        except Exception as error:  # noqa: BLE001 - whatever the value's own methods raise
            message = f"The task returned, but: {not_picklable(value, error)}"
            return self._error(ResultError(message))

    def _error(self, error: BaseException) -> list[bytes]:
        return [b"error", dumps(self._errors.keep_error(error))]

    def _once(self, pickled: bytes) -> Any:
        """Unpickle a task, or what is around it, once for all calls."""
        if pickled not in self._loaded:
            if len(self._loaded) >= _MOST_LOADED:
                self._loaded.clear()
            self._loaded[pickled] = loads(pickled)
        return self._loaded[pickled]

    def _call(self, task: Any, setting: tuple[Any, ...], body: tuple[Any, ...]) -> Any:
        flow_run, tags, log_prints = setting
        run, attempts, args, kwargs = body
        run.run_count += attempts
        context = RunContext(self._root, flow_run=flow_run, tags=tags, log_prints=log_prints)
        context = context.for_task(task, run, (args, kwargs))
        context.log_prints = log_prints
        if not log_prints:
            return self._perform(task, context)
        from hpc_flows.logging.capture import begin  # noqa: PLC0415 - few tasks want it

        catch_prints()
        name = f"{self._root.journal.writer}-{run.id}-{run.run_count}"
        capture = begin(context, name, quiet=False)
        try:
            return self._perform(task, context)
        finally:
            if capture is not None:
                capture.end()

    def _perform(self, task: Any, context: RunContext) -> Any:
        args, kwargs = context.arguments
        context.dispatch = router = Router(context)
        try:
            value = Call(task.body, args, kwargs, context, None, task.isasync).perform()
            with entered(context):
                return drive(settled(value, context, everything=True))
        finally:
            router.close()  # else the threads of what it has submitted stay, of each call


def main(descriptor: int, tokens: int) -> None:
    """Serve calls that arrive on an inherited socket, and end the process with it.

    `tokens` is the descriptor of the pipe that says which of them to begin.
    """
    # Ctrl-C reaches every process of the terminal; the flow's process decides what it means.
    # A function, because children of the user's code would inherit "ignore".
    signal.signal(signal.SIGINT, lambda *_: None)
    channel = socket.socket(fileno=descriptor)
    try:
        worker = Worker(channel, tokens)
        if worker.begin():
            worker.serve()
    finally:
        sys.stdout.flush()
        os._exit(0)  # threads of the user's are not waited for
