"""Requests to cancel a run: Ctrl-C, or the file `control/cancel` in the run's folder.

`hpc-flows runs cancel` writes the file, and also sends Ctrl-C where the driver is on the same
machine; from other machines the file alone arrives, so the driver looks for it.
"""

from __future__ import annotations

import os
from _thread import get_ident, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpc_flows.context import RootRun

#: Seconds between two looks for the file.
PERIOD = 2.0

_SIGINT = 2


def watch(root: RootRun) -> None:
    """Look for a request until the root run is closed; interrupt the caller's thread for it."""
    _hear_interrupts()
    start_new_thread(_look_out, (root, get_ident()))


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


def _look_out(root: RootRun, thread: int) -> None:
    path = _request(root)
    while not root.halt.acquire(True, PERIOD):
        if os.path.exists(path):
            # `runs cancel` has sent Ctrl-C as well; a second one would cut the cancelling short.
            if root.cancel_reason is None:
                _interrupt(thread)
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
