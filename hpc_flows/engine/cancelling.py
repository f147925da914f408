"""Requests to a run: to cancel it, by Ctrl-C or the file `control/cancel` in the run's folder.

`hpc-flows runs cancel` writes the file, and also sends Ctrl-C where the driver is on the same
machine; from other machines the file alone arrives, so the driver looks for it. Requests to pause
and to go on (`pausing`) arrive in the same folder.

SIGTERM and SIGHUP ask for something else: they end the driver, and its jobs live on.

Also what is recorded of a task run that was cut short in one way or another.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident, start_new_thread

from hpc_flows.engine.drive import ExecutionLost
from hpc_flows.engine.timeouts import Stopped
from hpc_flows.exceptions import CrashedRun, repr_of, text_of
from hpc_flows.logging import ERROR, run_log
from hpc_flows.states import Cancelled, Crashed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from hpc_flows.context import RootRun, RunContext
    from hpc_flows.runs import TaskRun
    from hpc_flows.states import State

#: Seconds between two looks for the file.
PERIOD = 2.0

_SIGHUP, _SIGINT, _SIGTERM = 1, 2, 15
#: Flags of the code of coroutines and asynchronous generators.
_COROUTINE = 0x280


def watch(root: RootRun) -> None:
    """Look for requests until the root run is closed; to cancel, interrupt the caller's thread."""
    root.flows = {}
    _hear_interrupts()
    start_new_thread(_look_out, (root, get_ident(), _running_loop()))


def _running_loop() -> Any:
    asyncio = sys.modules.get("asyncio")
    return asyncio and asyncio._get_running_loop()  # noqa: SLF001 - as get_running_loop, no error


def _hear_interrupts() -> None:
    """Let Ctrl-C reach a driver that a script's shell has started with `&`, which ignores it.

    Without it such a run could not be cancelled but by killing it, which leaves its jobs.
    """
    import _signal  # noqa: PLC0415 - the `signal` module costs 4 ms

    if _signal.getsignal(_SIGINT) == _signal.SIG_IGN:
        try:
            _signal.signal(_SIGINT, _signal.default_int_handler)
        except ValueError:  # not the main thread, which alone may say what signals do
            return


#: Functions to call before a signal ends the process, as `atexit` calls its own at other ends.
last_calls: list[Callable[[], object]] = []


class Heard:
    """What SIGTERM and SIGHUP did before a flow began, and which of them has come since.

    Attributes:
        before: what they did, by number.
        came: number of the one that has come, or None.
        flow: the asyncio task that runs the flow, or None.
    """

    __slots__ = ("before", "came", "flow")

    def __init__(self) -> None:
        self.before: dict[int, Any] = {}
        self.came: int | None = None
        loop = _running_loop()
        self.flow: Any = sys.modules["asyncio"].current_task(loop) if loop else None

    def end(self, number: int, frame: FrameType | None) -> None:
        """Raise TerminationSignal in the main thread; the second time, do not wait any more."""
        from hpc_flows.exceptions import TerminationSignal  # noqa: PLC0415 - loaded already

        if self.came is not None:
            pass_on(self)
            return
        self.came = number
        _came.append(number)
        if self.flow is None or self._strikes(frame):
            raise TerminationSignal(number)

    def _strikes(self, frame: FrameType | None) -> bool:
        """Tell whether code hears of what is raised in `frame`; cancel the flow if it does not.

        A callback would swallow it, and asyncio's own code would lose the task that it steps.
        """
        loop = self.flow.get_loop()
        strikes = _is_in_coroutine(frame)
        if not strikes or sys.modules["asyncio"].current_task(loop) is not self.flow:
            loop.call_soon_threadsafe(self.flow.cancel)
        return strikes


def _is_in_coroutine(frame: FrameType | None) -> bool:
    """Tell whether a coroutine that is none of asyncio's runs in `frame`, or has called it."""
    home = os.path.join(os.path.dirname(sys.modules["asyncio"].__file__ or ""), "")
    while frame is not None and not frame.f_code.co_filename.startswith(home):
        if frame.f_code.co_flags & _COROUTINE:
            return True
        frame = frame.f_back
    return False


#: Numbers of the signals that have come and have not been passed on.
_came: list[int] = []


def what_ended(error: BaseException) -> BaseException:
    """Return TerminationSignal for that by which asyncio passes it on, else `error`."""
    if not _came or type(error).__name__ not in {"CancelledError", "BaseExceptionGroup"}:
        return error
    from hpc_flows.exceptions import TerminationSignal  # noqa: PLC0415 - loaded already

    return TerminationSignal(_came[-1])


def hear_termination() -> Heard | None:
    """Have SIGTERM and SIGHUP end the flow in an orderly way, so that its end is recorded.

    Returns None where that cannot be: in another thread than the main one. A signal that is
    ignored, as under `nohup`, stays so.
    """
    import _signal  # noqa: PLC0415 - the `signal` module costs 4 ms

    heard = Heard()
    try:
        for number in (_SIGTERM, _SIGHUP):
            before = _signal.getsignal(number)
            if before not in (None, _signal.SIG_IGN):
                _signal.signal(number, heard.end)
                heard.before[number] = before
    except ValueError:  # not the main thread, which alone may say what signals do
        return None
    return heard


def pass_on(heard: Heard) -> None:
    """Let signals do what they did before, and do it now for the one that has come."""
    import _signal  # noqa: PLC0415 - as above

    if heard.came is not None and heard.before.get(heard.came) is _signal.SIG_DFL:
        for call in last_calls:  # what `atexit` has is not called in a process that a signal ends
            call()
    for number, before in heard.before.items():
        _signal.signal(number, before)
    if heard.came is not None:
        _came.clear()
        os.kill(os.getpid(), heard.came)


def _look_out(root: RootRun, thread: int, loop: Any) -> None:
    folder = os.path.dirname(_request(root))
    while not root.halt.acquire(True, PERIOD):
        if loop is not None:
            _rouse(loop)
        try:
            asked = os.listdir(folder)
        except OSError:  # nobody has asked for anything yet
            continue
        if "cancel" in asked:
            # `runs cancel` has sent Ctrl-C as well; a second one would cut the cancelling short.
            if root.cancel_reason is None:
                _interrupt(thread)
                if loop is not None:  # in another thread than the main one nothing else wakes it
                    _rouse(loop)
                cancel_reason(root)
            return
        if "pause" in asked or "resume" in asked:
            from hpc_flows.engine.pausing import heed  # noqa: PLC0415 - few runs are paused

            heed(root)


def _rouse(loop: Any) -> None:
    """Let an event loop that sleeps hear of a signal that came just before it fell asleep."""
    try:
        loop.call_soon_threadsafe(int)
    except RuntimeError:  # it was closed
        return


def _interrupt(thread: int) -> None:
    """Raise KeyboardInterrupt in a thread: by a signal in the main one, which ends its sleep."""
    import signal  # noqa: PLC0415 - only once somebody cancels
    import threading  # noqa: PLC0415

    if thread == threading.main_thread().ident:
        signal.pthread_kill(thread, signal.SIGINT)
        return
    import ctypes  # noqa: PLC0415

    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)
    )


def cancel_reason(root: RootRun | None) -> str:
    """Return why a run that was interrupted is cancelled: as the request says, or Ctrl-C."""
    otherwise = "Interrupted from the keyboard."
    if root is None:
        return otherwise
    if root.cancel_reason is None:
        root.cancel_reason = _reason_in(_request(root)) or otherwise
    return root.cancel_reason


def _request(root: RootRun) -> str:
    return os.path.join(root.run_dir, "control", "cancel")


def _reason_in(path: str) -> str | None:
    """Return the reason that a request gives, or None if there is no request."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError:
        return None
    import json  # noqa: PLC0415 - only once somebody cancels

    try:
        return f"Cancelled: {json.loads(text)['reason']}"
    except (ValueError, TypeError, KeyError):
        return "Cancelled by hpc-flows runs cancel."


def record_abort(run: TaskRun, context: RunContext, error: BaseException) -> None:
    """Record a run that is ended by something that is no failure of the task."""
    state: State
    error = what_ended(error)
    if isinstance(error, Stopped):
        state = Cancelled("The time limit of an enclosing run was reached.")
    elif was_cancelled(error):
        state = Cancelled(cancel_reason(context.root))
    elif isinstance(error, ExecutionLost):
        state = Crashed(str(error), data=CrashedRun(str(error)))
    elif isinstance(error, SystemExit):
        state = _exited(error)
    else:
        what = f"{type(error).__name__}: {text_of(error)}"
        state = Crashed(f"Execution was interrupted by {what}", data=error)
    context.root.record("task", run, state)
    run_log(context, ERROR, f"Finished in state {state!r}")


def _exited(error: SystemExit) -> State:
    """Return the state of a run whose code called `sys.exit`.

    Asked for its result it does not raise SystemExit, which would end the flow's process, and,
    after a bare `sys.exit()`, make it look as if all had gone well.
    """
    message = f"Execution was aborted by Python system exit call: {repr_of(error)}."
    crash = CrashedRun(message)
    crash.__cause__ = error
    return Crashed(message, data=crash)  # type: ignore[no-any-return]


def was_cancelled(error: BaseException) -> bool:
    """Tell whether an exception means that somebody wants the run to end."""
    # asyncio.CancelledError goes by its name: importing asyncio costs 30 ms.
    is_asyncio = type(error).__name__ == "CancelledError"
    return isinstance(error, (KeyboardInterrupt, GeneratorExit)) or is_asyncio
