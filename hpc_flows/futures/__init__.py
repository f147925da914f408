"""Futures of task runs, and how they are found and replaced in arguments and results."""

# ruff: noqa: F405 - names in __all__ that are loaded when first used
from __future__ import annotations

from _thread import allocate_lock
from time import monotonic

from hpc_flows.exceptions import UnfinishedRun
from hpc_flows.futures.annotations import (
    BaseAnnotation,
    allow_failure,
    opaque,
    quote,
    unmapped,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Generic

    from typing_extensions import TypeVar

    from hpc_flows.futures.waiting import *  # noqa: F403 - had from here, see _HOMES
    from hpc_flows.futures.wrapped import *  # noqa: F403 - as above
    from hpc_flows.runs import TaskRun
    from hpc_flows.states import State

    R = TypeVar("R", default=Any)
    OnWait = Callable[[Sequence["TaskFuture"]], Callable[[], None]]
else:

    class Generic:
        """Stands for typing.Generic, which costs 8 ms to import in every job."""

        __slots__ = ()

        def __class_getitem__(cls, _: object) -> type:
            return cls

    R = "R"

__all__ = [
    "BaseAnnotation",
    "DoneAndNotDoneFutures",
    "PrefectConcurrentFuture",
    "PrefectFuture",
    "PrefectFutureList",
    "PrefectWrappedFuture",
    "TaskFuture",
    "TaskFutureList",
    "allow_failure",
    "as_completed",
    "opaque",
    "quote",
    "resolve_futures_to_results",
    "resolve_futures_to_states",
    "unmapped",
    "wait",
]

_NOT_READY = "NotReady"
_STEP = 0.5  # seconds between two looks whether an exception has been sent to a thread that waits
#: Values of these types hold no futures, so that containers of them are passed over quickly.
_PLAIN = frozenset({int, float, str, bytes, bool, complex, type(None), bytearray, range})


class TaskFuture(Generic[R]):
    """The end of a task run that was handed out with `submit` or `map`.

    Attributes:
        task_run: the `TaskRun`; its newest state is `state`.
        task_run_id, name: the run's id and name.
        on_wait: called before a wait that blocks, with what is waited for if that may take for
            ever; what it returns is called after it; or None.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_final",
        "_lock",
        "name",
        "on_wait",
        "task_run",
        "task_run_id",
    )

    def __init__(self, task_run: TaskRun, on_wait: OnWait | None = None) -> None:
        """Make the future of `task_run`."""
        self.task_run = task_run
        self.task_run_id = task_run.id
        self.name = task_run.name
        self._final: State | None = None
        self._lock = allocate_lock()
        self._callbacks: list[Callable[[TaskFuture], None]] = []
        self.on_wait = on_wait

    def __repr__(self) -> str:
        return f"TaskFuture(name={self.name!r}, state={self.state!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the future of a run that has ended, with its end.

        Raises:
            UnfinishedRun: it has not ended, and would never end elsewhere.
        """
        if self._final is None:
            msg = (
                f"The future of task run {self.name!r} cannot be sent to another process before it "
                f"has ended. Give it to the task as an argument, and the task gets its value."
            )
            raise UnfinishedRun(msg)
        return _ended, (self.task_run, self._final)

    @property
    def state(self) -> State:
        """The newest state of the task run."""
        if self._final is not None:
            return self._final
        from hpc_flows.states import Pending  # noqa: PLC0415

        return self.task_run.state or Pending()

    def done(self) -> bool:
        """Tell whether the task run has ended."""
        return self._final is not None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the task run has ended, or for `timeout` seconds."""
        if self._final is None:
            wait_until([self], 1, timeout)

    async def wait_async(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - Prefect's signature
        """Wait as `wait` does, and let others run."""
        if self._final is None:
            from hpc_flows.futures.gathering import wait_in_asyncio  # noqa: PLC0415 - asyncio's only

            await wait_in_asyncio(self, timeout)

    async def result_async(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - Prefect's signature
        raise_on_failure: bool = True,  # noqa: FBT001, FBT002 - as above
    ) -> R:
        """Return what `result` returns, and let others run meanwhile."""
        await self.wait_async(timeout)
        return self._result(timeout, raise_on_failure)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:  # noqa: FBT001, FBT002 - Prefect's signature
        """Return the task's value, waiting for it, or raise what ended the task.

        Args:
            timeout: seconds to wait; None waits as long as it takes.
            raise_on_failure: give False to have the exception returned instead of raised.

        Raises:
            TimeoutError: the task run has not ended in time.
        """
        self.wait(timeout)
        return self._result(timeout, raise_on_failure)

    def _result(self, timeout: float | None, raise_on_failure: bool) -> R:  # noqa: FBT001 - internal
        if self._final is None:
            raise self._too_late(timeout)
        value: R = value_of(self._final, raise_on_failure=raise_on_failure)
        return value

    def result_handle(self, timeout: float | None = None) -> Any:
        """Wait, and return a handle of the result's file, to read parts without loading it all.

        Raises:
            TimeoutError: the task run has not ended within `timeout` seconds.
            MissingResult: the result is in no file.
        """
        self.wait(timeout)
        if self._final is None:
            raise self._too_late(timeout)
        return self._final.result_handle()

    def _too_late(self, timeout: float | None) -> TimeoutError:
        return TimeoutError(
            f"Task run {self.name!r} did not end within {timeout} s; it is in state "
            f"{self.state!r}. Give a longer timeout, or none."
        )

    def add_done_callback(self, fn: Callable[[TaskFuture], None]) -> None:
        """Call `fn(future)` once the task run has ended, at once if it has.

        It is called in the thread that ends the run, and must not block. What it raises is
        written to the log.
        """
        with self._lock:
            if self._final is None:
                self._callbacks.append(fn)
                return
        fn(self)

    def remove_done_callback(self, fn: Callable[[TaskFuture], None]) -> None:
        """Forget a callback; nothing happens when it is not there."""
        with self._lock:
            if fn in self._callbacks:
                self._callbacks.remove(fn)

    def update(self, state: State) -> None:
        """Note a state that does not end the run."""
        if self._final is None:
            self.task_run.state = state

    def resolve(self, state: State) -> bool:
        """End the run in `state`; return False, and change nothing, when it has ended already."""
        with self._lock:
            if self._final is not None:
                return False
            self._final = state
            callbacks, self._callbacks = self._callbacks, []
        run = self.task_run
        run.state = state
        if state.run is None:  # it has come from a job
            state.belongs_to("task", run.id, run.flow_run_id)
        if callbacks:
            self._call(callbacks)
        return True

    def _call(self, callbacks: list[Callable[[TaskFuture], None]]) -> None:
        """Call back all who asked for it, whatever some of them raise."""
        interrupt = None
        for fn in callbacks:
            try:
                fn(self)
            except Exception:
                import logging  # noqa: PLC0415 - only when it went wrong

                told = "A callback of task run %r raised:"
                logging.getLogger("hpc_flows.futures").exception(told, self.name)
            except BaseException as error:  # noqa: BLE001 - the others are to be called all the same
                interrupt = error
        if interrupt is not None:
            raise interrupt


PrefectFuture = TaskFuture


def _ended(task_run: TaskRun, state: State) -> TaskFuture:
    """Return the future of a run that has ended."""
    future: TaskFuture = TaskFuture(task_run)
    future.resolve(state)
    return future


def value_of(state: State, *, raise_on_failure: bool = True) -> Any:
    """Return a state's value as `State.result` does; NotReady raises why the task did not start."""
    if state.name == _NOT_READY and isinstance(state.data, BaseException):
        if raise_on_failure:
            raise state.data
        return state.data
    return state.get(raise_on_failure)


def has_ended(state: State) -> bool:
    """Tell whether a run in this state will not change: it is final, or it will never start."""
    return state.is_final() or state.name == _NOT_READY


class TaskFutureList(list[TaskFuture]):
    """The futures of a `map`, in the order of its arguments."""

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all have ended, or for `timeout` seconds."""
        check_timeout(timeout)
        wait_until(self, len(self), timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[Any]:  # noqa: FBT001, FBT002 - Prefect's signature
        """Return the values in order, waiting for all.

        The first failure is raised at once, whatever the others do.

        Raises:
            TimeoutError: not all have ended within `timeout` seconds.
            BaseException: what ended the one that failed.
        """
        from hpc_flows.futures.gathering import values_of  # noqa: PLC0415 - who waits has time

        check_timeout(timeout)
        return values_of(self, timeout, wait_until, raise_on_failure=raise_on_failure)


PrefectFutureList = TaskFutureList


def check_timeout(timeout: float | None) -> None:
    """Refuse to wait for less than no time.

    Raises:
        ValueError: `timeout` is negative.
    """
    if timeout is not None and timeout < 0:
        msg = f"'timeout' must be a non-negative number of seconds, not {timeout!r}."
        raise ValueError(msg)


class _Countdown:
    """Opens a gate once a number of futures have ended, or one of them has failed."""

    __slots__ = ("gate", "left", "lock", "until_failure")

    def __init__(self, count: int, *, until_failure: bool) -> None:
        self.left = count
        self.until_failure = until_failure
        self.lock = allocate_lock()
        self.gate = allocate_lock()
        self.gate.acquire()

    def __call__(self, future: TaskFuture) -> None:
        failed = self.until_failure and not future.state.is_completed()
        with self.lock:
            self.left -= 1
            if (failed or self.left <= 0) and self.gate.locked():
                self.gate.release()


def wait_until(
    futures: Sequence[TaskFuture],
    count: int,
    timeout: float | None,
    *,
    until_failure: bool = False,
) -> None:
    """Wait until `count` of the futures have ended, one has failed, or for `timeout` seconds."""
    pending = [future for future in futures if not future.done()]
    count -= len(futures) - len(pending)
    if count <= 0:
        return
    countdown = _Countdown(count, until_failure=until_failure)
    on_wait = pending[0].on_wait  # futures of one flow run share it
    for_ever = timeout is None and count == len(pending)
    resume = on_wait(pending if for_ever else ()) if on_wait is not None else None
    try:
        for future in pending:
            future.add_done_callback(countdown)
        pass_gate(countdown.gate, timeout)
    finally:
        for future in pending:
            future.remove_done_callback(countdown)
        if resume is not None:
            resume()


def pass_gate(gate: LockType, timeout: float | None) -> bool:
    """Take a lock, or wait for it for `timeout` seconds; tell whether it was taken.

    In steps: in other threads than the main one an exception that cancels, or tells of a time
    limit, strikes between two of them only. In the main one a signal that came just before the
    system's call, or to another thread, does not end that: Python would hear of it for ever after.
    """
    end = float("inf") if timeout is None else monotonic() + timeout
    while not gate.acquire(True, max(0.0, min(_STEP, end - monotonic()))):
        if monotonic() >= end:
            return False
    return True


def as_waited(wait_for: Any) -> tuple[Any, ...]:
    """Return what `wait_for` was given, one thing or several, as a tuple."""
    if not wait_for:
        return ()
    one = isinstance(wait_for, (TaskFuture, BaseAnnotation, dict, str))
    return (wait_for,) if one or not hasattr(wait_for, "__iter__") else tuple(wait_for)


def is_plain(values: Iterable[Any]) -> bool:
    """Tell quickly whether none of the values can be, or hold, a future."""
    return _PLAIN.issuperset(map(type, values))


def find_futures(obj: Any) -> list[TaskFuture]:
    """Return the futures in nested lists, tuples, sets, dicts, dataclasses and annotations."""
    found: list[TaskFuture] = []
    if type(obj) not in _PLAIN:
        _find(obj, (TaskFuture,), found, set())
    return found


def _find(obj: Any, kinds: tuple[type, ...], found: list[Any], seen: set[int]) -> None:
    if isinstance(obj, kinds):
        found.append(obj)
        return
    inner = _children(obj)
    if inner is None or id(obj) in seen or is_plain(inner):
        return
    seen.add(id(obj))
    for item in inner:
        _find(item, kinds, found, seen)


def _children(obj: Any) -> Sequence[Any] | None:
    """Return what a container holds, or None for what is not one that we look into."""
    if isinstance(obj, (list, tuple)):
        return obj
    if isinstance(obj, (set, frozenset)):
        return list(obj)
    if isinstance(obj, dict):
        return [*obj.keys(), *obj.values()]
    if isinstance(obj, BaseAnnotation):
        hidden = isinstance(obj, quote)
        hidden = hidden or (isinstance(obj, opaque) and not isinstance(obj.value, TaskFuture))
        return None if hidden else (obj.value,)
    fields = getattr(type(obj), "__dataclass_fields__", None)
    if fields is not None:
        return [getattr(obj, name) for name in fields if hasattr(obj, name)]
    return None


def replace_futures(
    obj: Any,
    fn: Callable[[TaskFuture], Any],
    lenient: Callable[[TaskFuture], Any] | None = None,
    kinds: tuple[type, ...] = (),
) -> Any:
    """Return `obj` with every future in it replaced by `fn(future)`.

    Inside of `allow_failure`, which is taken off, `lenient` is called instead where it is given.
    Containers that hold no future are returned as they are; others are copied, of the same type.
    Objects of `kinds` are replaced as futures are.
    """
    if isinstance(obj, (TaskFuture, *kinds)):
        return fn(obj)  # type: ignore[arg-type]
    if isinstance(obj, BaseAnnotation):
        if _children(obj) is None:
            return obj.value
        chosen = (isinstance(obj, allow_failure) and lenient) or fn
        return replace_futures(obj.value, chosen, lenient, kinds)
    found: list[Any] = []
    _find(obj, (TaskFuture, *kinds), found, set())
    if not found:
        return obj
    return _rebuilt(obj, lambda item: replace_futures(item, fn, lenient, kinds))


def _rebuilt(obj: Any, each: Callable[[Any], Any]) -> Any:
    """Return a container of the same type that holds `each(item)` for every item."""
    if isinstance(obj, dict):
        return _refilled(obj, {each(key): each(value) for key, value in obj.items()})
    if isinstance(obj, tuple) and hasattr(obj, "_fields"):
        return type(obj)(*map(each, obj))
    if isinstance(obj, TaskFutureList):
        return [each(item) for item in obj]
    if isinstance(obj, (list, tuple, set, frozenset)):
        return type(obj)(map(each, obj))
    from dataclasses import replace  # noqa: PLC0415 - loaded already: obj is a dataclass

    fields = obj.__dataclass_fields__
    changed = {
        name: each(getattr(obj, name))
        for name, field in fields.items()
        if field.init and find_futures(getattr(obj, name))
    }
    return replace(obj, **changed)


def _refilled(original: dict[Any, Any], items: dict[Any, Any]) -> dict[Any, Any]:
    """Return `items` as a dict of the original's type, with what its copy keeps."""
    if type(original) is dict:
        return items
    other = original.copy()
    other.clear()
    other.update(items)
    return other


#: Names that are had from here, and the modules that they are loaded from when first used.
_HOMES = {
    "DoneAndNotDoneFutures": "waiting",
    "PrefectConcurrentFuture": "wrapped",
    "PrefectWrappedFuture": "wrapped",
    "as_completed": "waiting",
    "resolve_futures_to_results": "waiting",
    "resolve_futures_to_states": "waiting",
    "wait": "waiting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from hpc_flows.exceptions.absent import no_such_name  # noqa: PLC0415 - once it is wrong

        raise no_such_name(__name__, name, [*globals(), *_HOMES])
    value = getattr(__import__(f"{__name__}.{_HOMES[name]}", fromlist=[name]), name)
    globals()[name] = value
    return value
