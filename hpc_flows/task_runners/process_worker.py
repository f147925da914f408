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
from hpc_flows.engine.task_engine import settled, without_our_frames
from hpc_flows.exceptions import ResultError
from hpc_flows.journal.writer import JournalWriter
from hpc_flows.logging import catch_prints
from hpc_flows.results.kept import RunResults
from hpc_flows.serializers.pickle import dumps, loads, not_picklable
from hpc_flows.settings import Settings
from hpc_flows.task_runners.frames import receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Results in one message are not written to files, whatever their size.
_UNLIMITED = 1 << 62

#: Tasks that are kept unpickled.
_MOST_TASKS = 100


class Worker:
    """One worker process."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._tasks: dict[bytes, Any] = {}
        start = loads(receive(channel)[0])
        settings = Settings(*start["settings"])
        run_dir, run_id, key = start["run_dir"], start["run_id"], start["key"]
        journal = JournalWriter(run_dir, run_id, start["writer"], fsync=settings.journal_fsync)
        results = RunResults(run_dir, key, settings.results_inline_limit)
        self._root = RootRun(run_dir, run_id, journal, results, key, settings)
        self._errors = RunResults(run_dir, key, _UNLIMITED)
        self._start = start

    def begin(self) -> bool:
        """Call the pool's initializer, and tell the flow's process how that went."""
        initializer = self._start["initializer"]
        try:
            if initializer is not None:
                initializer(*self._start["initargs"])
        except BaseException as error:  # noqa: BLE001 - it is raised in the flow's process
            send(self._channel, self._error(without_our_frames(error)))
            return False
        send(self._channel, [b"value", dumps(None)])
        return True

    def serve(self) -> None:
        """Answer calls until the flow's process closes the channel."""
        while True:
            try:
                task, body = receive(self._channel)
            except (EOFError, OSError):
                break
            send(self._channel, self._answer(bytes(task), body))
        self._root.close()

    def _answer(self, task: bytes, body: bytearray) -> list[bytes]:
        try:
            value = self._call(self._task(task), loads(body))
        except BaseException as error:  # noqa: BLE001 - it is raised in the flow's process
            return self._error(without_our_frames(error))
        try:
            return [b"value", dumps(value)]
        except Exception as error:  # noqa: BLE001 - whatever the value's own methods raise
            message = f"The task returned, but: {not_picklable(value, error)}"
            return self._error(ResultError(message))

    def _error(self, error: BaseException) -> list[bytes]:
        return [b"error", dumps(self._errors.keep_error(error))]

    def _task(self, pickled: bytes) -> Any:
        """Unpickle a task once, whose calls come one by one."""
        if pickled not in self._tasks:
            if len(self._tasks) >= _MOST_TASKS:
                self._tasks.clear()
            self._tasks[pickled] = loads(pickled)
        return self._tasks[pickled]

    def _call(self, task: Any, parts: tuple[Any, ...]) -> Any:
        run, flow_run, tags, log_prints, args, kwargs = parts
        context = RunContext(self._root, flow_run=flow_run, tags=tags, log_prints=log_prints)
        context = context.for_task(task, run, (args, kwargs))
        context.log_prints = log_prints
        if log_prints:
            catch_prints()
        value = Call(task.fn, args, kwargs, context, None, task.isasync).perform()
        with entered(context):
            return drive(settled(value, context, everything=True))


def main(descriptor: int) -> None:
    """Serve calls that arrive on an inherited socket, and end the process with it."""
    # Ctrl-C reaches every process of the terminal; the flow's process decides what it means.
    # A function, because children of the user's code would inherit "ignore".
    signal.signal(signal.SIGINT, lambda *_: None)
    channel = socket.socket(fileno=descriptor)
    try:
        worker = Worker(channel)
        if worker.begin():
            worker.serve()
    finally:
        sys.stdout.flush()
        os._exit(0)  # threads of the user's are not waited for
