"""Time limits that stop code which does not look at the clock.

In the main thread an alarm signal interrupts sleeping and computing code alike. Elsewhere signals
do not arrive, so the code runs in a thread of its own: at the deadline an exception is injected
into that thread and it is left behind, whether or not it is in a state to notice.
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident, start_new_thread
from contextvars import copy_context
from time import monotonic

from hpc_flows.futures import pass_gate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any


#: Seconds after which an alarm that was not heard is given again: one that comes just before a call
#: of the system does not end it.
_AGAIN = 1.0


class DeadlineReached(Exception):
    """A call took longer than it may, and was stopped."""


class Stopped(BaseException):
    """The time is over; not an Exception, so that the code that it stops does not catch it."""


def call_within(
    seconds: float, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """Return `fn(*args, **kwargs)`.

    Raises:
        DeadlineReached: it took longer than `seconds`, and was stopped.
    """
    import signal  # noqa: PLC0415 - few tasks have a time limit

    if _is_main(signal):
        return _with_alarm(signal, seconds, fn, args, kwargs)
    return _in_side_thread(seconds, fn, args, kwargs)


def _is_main(signal: Any) -> bool:
    """Tell whether this thread may set signal handlers, by setting one to what it is."""
    present = signal.getsignal(signal.SIGALRM)
    if present is None:  # set by something other than Python; it could not be restored
        return False
    try:
        signal.signal(signal.SIGALRM, present)
    except ValueError:
        return False
    return True


def _with_alarm(
    signal: Any,
    seconds: float,
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> Any:
    outer_left, outer_again = signal.getitimer(signal.ITIMER_REAL)
    if outer_left and outer_left <= seconds:
        return fn(*args, **kwargs)  # the time of an enclosing call is over before ours
    mine, is_over = Stopped(seconds), False

    def stop(_number: int, _frame: object) -> None:
        if not is_over:  # else it strikes what comes after the call, which is none of its affair
            signal.setitimer(signal.ITIMER_REAL, 0)  # what the call does at its end is not struck
            raise mine

    before, started = signal.getsignal(signal.SIGALRM), monotonic()
    try:
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6), _AGAIN)
        return fn(*args, **kwargs)
    except Stopped as stopped:
        is_over = True
        if stopped is mine:
            raise DeadlineReached(seconds) from None
        raise
    finally:
        is_over = True  # before anything is called: signals are heard after calls
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer_left:
            left = outer_left - (monotonic() - started)
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-6), outer_again)


class _SideCall:
    """A call in a thread of its own."""

    def __init__(self) -> None:
        self.ident = 0
        self.value: Any = None
        self.error: BaseException | None = None
        self.ended = allocate_lock()
        self.ended.acquire()
        self._lock = allocate_lock()
        self._over = False

    def run(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        self.ident = get_ident()
        try:
            self.value = fn(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - it is raised again by the waiting thread
            self.error = error
        with self._lock:
            self._over = True
        self.ended.release()

    def stop(self) -> None:
        """Raise Stopped in the thread, unless the call has ended."""
        import ctypes  # noqa: PLC0415 - only when a time limit is reached in a thread

        with self._lock:
            if not self._over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.ident), ctypes.py_object(Stopped)
                )


def _in_side_thread(
    seconds: float, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    return call_aside(fn, args, kwargs, seconds)


def call_aside(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    seconds: float | None = None,
) -> Any:
    """Return `fn(*args, **kwargs)`, called in a thread of its own that sees the caller's context.

    Raises:
        DeadlineReached: it took longer than `seconds`, and was stopped.
    """
    call = _SideCall()
    # The low-level function, because the interpreter's exit waits for no such thread.
    start_new_thread(copy_context().run, (call.run, fn, args, kwargs))
    try:
        ended = pass_gate(call.ended, seconds)
    except BaseException:  # Ctrl-C, or a time limit of the main thread
        call.stop()
        raise
    if not ended:
        call.stop()
        raise DeadlineReached(seconds)
    if call.error is not None:
        raise call.error
    return call.value


async def await_within(seconds: float, awaitable: Awaitable[Any]) -> Any:
    """Return what `awaitable` gives.

    Raises:
        DeadlineReached: it took longer than `seconds`, and was cancelled.
    """
    import asyncio  # noqa: PLC0415 - loaded already: it is running

    limit = asyncio.timeout(seconds)
    watched = _Watched(asyncio.current_task(), seconds)
    try:
        with watched:
            async with limit:
                try:
                    return await awaitable
                finally:
                    watched.is_over = True
    except TimeoutError:
        if limit.expired():
            raise DeadlineReached(seconds) from None
        raise
    except Stopped as stopped:
        if stopped is watched.stop:
            raise DeadlineReached(seconds) from None
        raise


class _Watched:
    """Stops an asyncio task that computes and never awaits, which asyncio cannot.

    The alarm does nothing while the event loop, or another task, is at work: then the loop is
    alive and cancels the task by itself.
    """

    def __init__(self, task: Any, seconds: float) -> None:
        self.task = task
        # A little later than asyncio, which ends what awaits more gently.
        self.deadline = monotonic() + seconds + max(0.05, seconds / 20)
        self.stop = Stopped(seconds)
        self.is_over = False

    def __enter__(self) -> None:
        import signal  # noqa: PLC0415 - few tasks have a time limit

        self._alarm: _LoopAlarm | None = None
        if _is_main(signal):
            present = signal.getsignal(signal.SIGALRM)
            self._alarm = present if isinstance(present, _LoopAlarm) else _LoopAlarm(signal)
            self._alarm.add(self)

    def __exit__(self, *_: object) -> None:
        if self._alarm is not None:
            self._alarm.remove(self)


class _LoopAlarm:
    """The signal handler of all watched tasks of one event loop, which come and go in any order.

    A timer that somebody else has set is taken over, and set again for what is left of it.
    """

    def __init__(self, signal: Any) -> None:
        self._signal = signal
        self._watched: list[_Watched] = []
        self._began = monotonic()
        self._outer_left, self._outer_again = signal.getitimer(signal.ITIMER_REAL)
        self._before = signal.signal(signal.SIGALRM, self)

    def add(self, watched: _Watched) -> None:
        self._watched.append(watched)
        self._set()

    def remove(self, watched: _Watched) -> None:
        if watched in self._watched:
            self._watched.remove(watched)
        if self._signal.getsignal(self._signal.SIGALRM) is self:
            self._set()

    def _set(self) -> None:
        timer = self._signal.ITIMER_REAL
        outer = self._began + self._outer_left if self._outer_left else None
        if self._watched:
            ends = [watched.deadline for watched in self._watched]
            first = min(ends if outer is None else [*ends, outer])
            self._signal.setitimer(timer, max(first - monotonic(), 1e-6))
            return
        self._signal.signal(self._signal.SIGALRM, self._before)
        left = 0.0 if outer is None else max(outer - monotonic(), 1e-6)
        self._signal.setitimer(timer, left, self._outer_again)

    def __call__(self, number: int, frame: Any) -> None:
        import asyncio  # noqa: PLC0415 - loaded already: it is running

        now = monotonic()
        if self._outer_left and self._began + self._outer_left <= now and callable(self._before):
            self._outer_left = now - self._began + self._outer_again if self._outer_again else 0.0
            self._before(number, frame)
        due = [watched for watched in self._watched if watched.deadline <= now]
        self._watched = [watched for watched in self._watched if watched not in due]
        if self._watched:
            self._set()
        try:
            running = asyncio.current_task()
        except RuntimeError:  # the loop has ended
            return
        for watched in due:
            if watched.task is running and not watched.is_over:
                raise watched.stop
