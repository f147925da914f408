"""What happens while slots are held: a loss is logged and, if asked for, ends the work."""

from __future__ import annotations

from _thread import allocate_lock, get_ident
from contextvars import copy_context

from hpc_flows.concurrency.telling import tell
from hpc_flows.exceptions import SlotLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hpc_flows.leases import Lease


class Watch:
    """Tells the holder of slots that one of them was lost.

    Args:
        stop: called from another thread to end the work; None to let it go on.
    """

    def __init__(self, stop: Callable[[], None] | None) -> None:
        self.lost = ""
        self._stop = stop
        self._over = False
        self._lock = allocate_lock()
        self._context = copy_context()

    def told(self, lease: Lease) -> None:
        """Take note of a lost slot; called by the thread that renews leases."""
        with self._lock:
            if self._over or self.lost:
                return
            self.lost = (
                f"Lease renewal failed for slot {lease.path}: it was not renewed for "
                f"{lease.holder.ttl:g} s, as when the process is stopped, or somebody has freed "
                f"it. Others may have the slot now"
            )
            if self._stop is not None:
                self._stop()
        ending = (
            "the work is stopped at its next step."
            if self._stop is not None
            else "the work goes on."
        )
        level = "WARNING" if self._stop is None else "ERROR"
        self._context.run(tell, level, f"{self.lost}; {ending}")

    def over(self) -> str:
        """Say that the work is done; return what there is to raise, or an empty text."""
        with self._lock:
            self._over = True
            return self.lost if self._stop is not None else ""


class ThreadStop:
    """Raises SlotLost in the thread that made it, at its next step of Python code."""

    def __init__(self) -> None:
        self._ident = get_ident()
        self._raised = False

    def __call__(self) -> None:
        """Raise it."""
        self._raised = True
        self._set(SlotLost)

    def withdraw(self, arrived: BaseException | None) -> None:
        """See that it is not raised any more; `arrived` is what ended the work."""
        if self._raised and not isinstance(arrived, SlotLost):
            self._set(None)

    def _set(self, error: Any) -> None:
        import ctypes  # noqa: PLC0415 - only when a slot was lost

        exception = None if error is None else ctypes.py_object(error)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._ident), exception)
