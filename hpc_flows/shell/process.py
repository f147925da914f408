"""A running script: its lines become log records as they come, and it can be ended."""

from __future__ import annotations

import atexit
import os
import selectors
import subprocess
import threading
import time
from collections import deque
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from hpc_flows.awaiting import is_called_by_coroutine
from hpc_flows.context import current
from hpc_flows.engine.cancelling import last_calls
from hpc_flows.engine.family import Family
from hpc_flows.exceptions import ShellError, ShellTimeout
from hpc_flows.logging import DEBUG, INFO, WARNING, print_line, run_log
from hpc_flows.shell.lines import Lines, LineSplitter
from hpc_flows.shell.messages import as_logged, ending, leftovers, too_late

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from typing import Any, Self

    from hpc_flows.shell.script import Script

#: Seconds between two looks at the clock and at exceptions that another thread has sent, which
#: arrive between steps of Python code only.
STEP = 0.2
#: Seconds that output is waited for once the script has ended: what it left in the background may
#: hold its output open for ever.
LINGER = 5.0
#: Seconds between SIGTERM and SIGKILL when the interpreter ends.
_LAST_GRACE = 1.0
#: Seconds between two looks at whether something is left.
_MOMENT = 0.01
#: Bytes that are read at once, and lines that error messages repeat.
_CHUNK = 1 << 16
_TAIL = 20
_LEVELS = ((40, "ERROR"), (30, "WARNING"), (20, "INFO"), (0, "DEBUG"))


class _Nobody:
    """Stands where the process of a script will be."""

    pid = 0
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return the status, which nobody ever has."""
        return self.returncode


_NOBODY: Any = _Nobody()


class ShellProcess:
    """A script that was started by `ShellOperation.trigger`.

    The thread that reads its output starts it: a signal's exception, or that of a time limit,
    meets the thread that asked for it, and never between the birth of a process and the note of it.

    It can be awaited, for those who write `await op.trigger()` as Prefect's users do.
    """

    def __init__(
        self,
        script: Script,
        *,
        env: Mapping[str, str],
        cwd: str | None,
        with_stderr: bool,
        stream_level: int | None,
        timeout: float | None,
        raises: bool = True,
    ) -> None:
        """Prepare a script; `start` starts it.

        Args:
            script: what to run; its file is removed when it has ended.
            env: the whole environment.
            cwd: the working folder, or None for this process's.
            with_stderr: whether the result holds what is printed as errors, in its place.
            stream_level: level of the log records that lines become, or None for no records.
            timeout: seconds after which it is ended, or None.
            raises: whether an exit code other than 0 is an error.
        """
        self.script = script
        self._birth = partial(_start, script, env, cwd, with_stderr=with_stderr)
        self._level = stream_level
        self._raises = raises
        self._timeout = timeout
        self._is_late = self._is_ended_by_us = False
        self._trouble: BaseException | None = None
        self._output: list[str] = []
        self._last: deque[str] = deque(maxlen=_TAIL)
        self._is_over = self._is_begun = False
        # Taken by who starts the script, or by who says before that it shall not be started.
        self._claim = threading.Lock()
        # A plain lock and no Event: an exception that another thread sends (a time limit does, or a
        # cancel) could leave the lock inside of an Event locked for good.
        self._gate, self._begun = threading.Lock(), threading.Lock()
        self._gate.acquire()
        self._begun.acquire()
        self._when_ended: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._started = time.monotonic()
        self._refusal: BaseException | None = None
        self._popen: subprocess.Popen[bytes] = _NOBODY
        self._family: Family  # there is one once there is a process

    def __repr__(self) -> str:
        code = self.return_code
        state = "running" if code is None else f"ended with {code}"
        return f"<ShellProcess {self.pid} {state}: {self.script.name()}>"

    def __await__(self) -> Generator[Any, None, Self]:
        yield from ()
        return self

    def start(self) -> None:
        """Start the script.

        Raises:
            ShellError: it cannot be started.
        """
        _remember(self)
        reader = threading.Thread(
            target=copy_context().run, args=(self._live,), name="hpc-flows-shell", daemon=True
        )
        reader.start()
        self._await_begin()
        if self._refusal is not None:
            raise self._refusal

    # What Prefect's users call ------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The number of the shell's process."""
        return self._popen.pid

    @property
    def return_code(self) -> int | None:
        """The exit code, negative for the signal that killed it, or None while it runs."""
        return self._popen.poll()

    def wait_for_completion(self) -> Any:
        """Wait until the script has ended; called in `async def` code, return what to await.

        Raises:
            ShellTimeout: it took longer than its time limit, and was ended.
            ShellError: a command failed.
        """
        return self.await_for_completion() if is_called_by_coroutine() else self.wait()

    def wait(self) -> None:
        """Do as `wait_for_completion` does, and never return something to await."""
        try:
            self.wait_at_most(None)
        except BaseException:
            self.terminate()
            raise
        self._check()

    def wait_at_most(self, seconds: float | None) -> bool:
        """Wait until the script has ended or the time is over; tell whether it has ended."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._is_over and (deadline is None or time.monotonic() < deadline):
            self._gate.acquire(True, STEP)
        return self._is_over

    async def await_for_completion(self) -> None:
        """Do as `wait_for_completion` does, and let others run meanwhile."""
        import asyncio  # noqa: PLC0415 - loaded already: it is running

        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self._call_at_end(lambda: _tell(loop, ended.set))
        try:
            await ended.wait()
        except BaseException:
            # In a thread, because it takes as long as the commands take to end.
            await asyncio.shield(asyncio.to_thread(self.terminate))
            raise
        self._check()

    def fetch_result(self) -> Lines:
        """Return the lines that were printed until now; the list can be awaited, too."""
        return Lines(self._output)

    async def afetch_result(self) -> Lines:
        """Do as `fetch_result` does."""
        return self.fetch_result()

    def terminate(self) -> None:
        """End the script and everything that it has started: SIGTERM, and SIGKILL 5 s later."""
        if os.getpid() != self._owner:
            return  # a forked child does not end what its parent has started
        if not self._is_over and self._is_or_will_be_there():
            self._is_ended_by_us = True
            self._report(self._family.end())
            self.wait_at_most(1.0)

    def close(self) -> None:
        """End the script if it runs, and what it has left behind."""
        self.terminate()
        mine = os.getpid() == self._owner and self._popen is not _NOBODY
        if mine and self._has_left_something():
            left = self._family.names()
            if left:
                self._log(WARNING, leftovers(self.script.name(), left))
                self._report(self._family.end())

    def end_at_once(self) -> None:
        """End the script, if it runs, because this process ends."""
        if os.getpid() != self._owner or self._is_over or not self._is_or_will_be_there():
            return
        if self.return_code is None:
            self._family.end(_LAST_GRACE)
        self.script.remove()  # the thread that does so has no time left for it

    def _is_or_will_be_there(self) -> bool:
        """Tell whether there is a process, once that is known; what has not begun never will."""
        if self._claim.acquire(blocking=False):
            self._is_begun = self._is_over = True
            self.script.remove()
        self._await_begin()
        return self._popen is not _NOBODY

    def _await_begin(self) -> None:
        while not self._is_begun:
            self._begun.acquire(True, STEP)

    def _has_left_something(self) -> bool:
        """Tell whether something is left a moment later: much ends, or leaves, just then."""
        deadline = time.monotonic() + STEP
        while not self._family.is_empty():
            if time.monotonic() > deadline:
                return True
            time.sleep(_MOMENT)
        return False

    # Behind it ----------------------------------------------------------------------------------

    def _check(self) -> None:
        """Raise the error that the script's end was."""
        if self._trouble is not None:
            raise self._trouble
        code = self._popen.returncode
        output = tuple(self._last)
        if self._is_late and self._timeout is not None:
            message = too_late(self.script, self._timeout, output)
            raise ShellTimeout(message, code, self.script.name(), output)
        failures = self.script.noted
        if code and self._raises:
            command, message = ending(self.script, code, failures, output)
            raise ShellError(message, code, command, output)
        if failures and not self._raises:
            texts = "; ".join(f"{text} (return code {number})" for number, text in failures)
            self._log(WARNING, f"Some commands failed, and the others went on: {texts}")
        self._log(DEBUG, f"PID {self.pid} completed with return code {code}.")

    def _report(self, left: list[str]) -> None:
        if left:
            text = "Some processes cannot be ended, perhaps because they wait for a file system: "
            self._log(WARNING, text + ", ".join(left))

    def _call_at_end(self, call: Callable[[], None]) -> None:
        with self._lock:
            if not self._is_over:
                self._when_ended.append(call)
                return
        call()

    def _live(self) -> None:
        """Start the script and read to its end; runs in a thread of its own."""
        if not self._claim.acquire(blocking=False):
            return
        try:
            self._started = time.monotonic()
            popen = self._birth()
            self._family = Family(popen.pid)
            self._popen = popen
        except BaseException as error:  # noqa: BLE001 - it is raised by who starts it
            self._refusal = error
            self._is_over = True
            self.script.remove()
        finally:
            self._is_begun = True
            self._begun.release()
        if self._refusal is None:
            self._serve()

    def _serve(self) -> None:
        """Read to the end, so that no pipe is ever full."""
        try:
            self._read()
            self._reap()
        except BaseException as error:  # noqa: BLE001 - it is raised by whoever waits
            self._trouble = error
            self._family.end(0.0)
            self._popen.wait()
            for pipe in (self._popen.stdout, self._popen.stderr):
                if pipe is not None:
                    pipe.close()
        finally:
            self.script.close()
            with self._lock:
                self._is_over = True
                calls, self._when_ended = self._when_ended, []
            self._gate.release()
            for call in calls:
                call()

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            for pipe in (self._popen.stdout, self._popen.stderr):
                if pipe is not None:
                    selector.register(pipe, selectors.EVENT_READ, LineSplitter())
            give_up: float | None = None
            while selector.get_map():
                for key, _ in selector.select(STEP):
                    self._take(selector, key)
                self._keep_time()
                if self._popen.poll() is not None and give_up is None:
                    give_up = time.monotonic() + (STEP if self._is_ended_by_us else LINGER)
                if give_up is not None and time.monotonic() > give_up:
                    for key in list(selector.get_map().values()):
                        self._finish_pipe(selector, key)

    def _take(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        chunk = os.read(key.fd, _CHUNK)
        if not chunk:
            self._finish_pipe(selector, key)
            return
        for line in key.data.split(chunk):
            self._line(key.fileobj, line)

    def _finish_pipe(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        selector.unregister(key.fileobj)
        rest = key.data.rest()
        if rest is not None:
            self._line(key.fileobj, rest)
        pipe: Any = key.fileobj
        pipe.close()

    def _line(self, pipe: object, line: str) -> None:
        if pipe is self._popen.stdout:
            self._output.append(line)
        self._last.append(as_logged(line))
        if self._level is not None:
            self._log(self._level, as_logged(line))

    def _reap(self) -> None:
        """Wait for a script that has closed its output before its end."""
        while True:
            try:
                self._popen.wait(STEP)
            except subprocess.TimeoutExpired:
                self._keep_time()
            else:
                return

    def _keep_time(self) -> None:
        if self._timeout is None or self._is_ended_by_us or self._popen.poll() is not None:
            return
        if time.monotonic() - self._started > self._timeout:
            self._is_late = self._is_ended_by_us = True
            # In a thread of its own: programs that are asked to end may print on, and must not
            # find their pipe full.
            threading.Thread(target=self._family.end, daemon=True).start()

    def _log(self, level: int, message: str) -> None:
        context = current()
        known, name = next(entry for entry in _LEVELS if level >= entry[0])
        if context is None or context.root is None:
            if known >= INFO:
                print_line("auto", name, message, time.time())
            return
        try:
            run_log(context, known or DEBUG, message)
        except Exception as error:  # noqa: BLE001 - the run has ended, or its disk is gone
            print_line("auto", "WARNING", f"{message} (not in the journal: {error})", time.time())


def _start(
    script: Script, env: Mapping[str, str], cwd: str | None, *, with_stderr: bool
) -> subprocess.Popen[bytes]:
    if cwd is not None and not os.path.isdir(cwd):
        script.remove()
        msg = f"The working folder {cwd!r} of the shell commands is not there; make it first."
        raise ShellError(msg)
    try:
        return subprocess.Popen(
            script.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if with_stderr else subprocess.PIPE,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
        )
    except OSError as error:
        script.remove()
        msg = f"{script.argv[0]} cannot be started: {error.strerror or error}."
        raise ShellError(msg) from error


def _tell(loop: Any, call: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # the loop has ended, and whoever waited with it
        return


#: What runs now, to be ended with the interpreter.
_living: WeakSet[ShellProcess] = WeakSet()
_has_hook: list[bool] = []


def _remember(process: ShellProcess) -> None:
    if not _has_hook:
        _has_hook.append(True)
        atexit.register(_end_all)
        last_calls.append(_end_all)
    _living.add(process)


def _end_all() -> None:
    """End what still runs: its output would have no reader."""
    for process in list(_living):
        process.end_at_once()
