"""How a generator function runs as a task: its values reach the caller one by one, as it asks.

The engine's generator then yields, besides operations, an `Emit` for each value. `stream` and
`astream` are drivers that hand those to the caller and do the operations in between.
"""

from __future__ import annotations

from _weakref import ref
from time import monotonic

from hpc_flows.context import _current
from hpc_flows.engine.drive import Call, adrive
from hpc_flows.exceptions import CrashedRun
from hpc_flows.futures import value_of
from hpc_flows.states import Completed, Crashed, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Any

    from hpc_flows.context import RunContext
    from hpc_flows.engine.drive import Steps


class Emit:
    """Hand a value to the caller; the answer is what the caller sends."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def perform(self) -> None:
        """Drop the value, for a driver that hands values to nobody."""

    async def aperform(self) -> None:
        """Drop the value, as `perform` does."""


class NoMore(BaseException):
    """The caller wants no more values.

    It stands for GeneratorExit, which `yield from` does not hand on, and for the CancelledError
    that an event loop ends with, which it throws into what was left unfinished.
    """


def _as_thrown(op: Any, error: BaseException) -> BaseException:
    """Return what the engine's generator is told of an exception."""
    is_end = isinstance(error, GeneratorExit) or type(error).__name__ == "CancelledError"
    return NoMore() if type(op) is Emit and is_end else error


class Turn:
    """Let a generator of the user's run on to its next value.

    The time limit counts what the generator takes, not what the caller does between two values.
    The context that the generator has made for itself, such as tags in a `with` block, is put in
    place for each turn and taken away again.

    Attributes:
        is_over: whether the generator has ended.
        value: what it has returned.
    """

    __slots__ = ("_args", "_around", "_is_async", "_iterator", "_left", "_word", "is_over", "value")

    def __init__(self, task: Any, context: RunContext) -> None:
        args, kwargs = context.arguments
        self._iterator = task.fn(*args, **kwargs)
        self._is_async = task.isasync
        self._around: RunContext | None = context
        self._left: float | None = task.timeout_seconds
        self.is_over = False
        self.value: Any = None
        self.next("send", None)

    def next(self, word: str, *args: Any) -> None:
        """Say what comes next: `send` a value, `throw` an exception, or `close`."""
        self._word = f"a{word}" if self._is_async else word
        self._args = args
        self.is_over = word == "close"

    def perform(self) -> Any:
        """Let it run, and return its next value."""
        before, began = _current.get(), monotonic()
        _current.set(self._around)
        try:
            return self._limited(getattr(self._iterator, self._word))
        except StopIteration as end:
            self.is_over, self.value = True, end.value
            return None
        finally:
            self._around = _current.get()
            _current.set(before)
            self._count(began)

    def _limited(self, fn: Callable[..., Any]) -> Any:
        if self._left is None:
            return fn(*self._args)
        from hpc_flows.engine.timeouts import call_within  # noqa: PLC0415 - few tasks have one

        return call_within(self._left, fn, self._args, {})

    async def aperform(self) -> Any:
        """Let it run, and return its next value."""
        if not self._is_async:
            return self.perform()
        before, began = _current.get(), monotonic()
        _current.set(self._around)
        try:
            return await self._awaited(getattr(self._iterator, self._word)(*self._args))
        except StopAsyncIteration:
            self.is_over = True
        finally:
            self._around = _current.get()
            _current.set(before)
            self._count(began)

    async def _awaited(self, awaitable: Any) -> Any:
        if self._left is None:
            return await awaitable
        from hpc_flows.engine.timeouts import await_within  # noqa: PLC0415 - as above

        return await await_within(self._left, awaitable)

    def _count(self, began: float) -> None:
        if self._left is not None:
            self._left = max(1e-6, self._left - (monotonic() - began))


def emitted(context: RunContext, flow: Any = None) -> Steps:
    """Run the generator of a context's task, emitting its values; return what it returns.

    With a flow, it is the flow's that is run, with the context's arguments.
    """
    turn = Turn(context.task if flow is None else flow, context)
    while True:
        item = yield turn
        if turn.is_over:
            return turn.value
        try:
            sent = yield Emit(item)
        except NoMore:
            turn.next("close")
        except BaseException as error:  # noqa: BLE001 - the generator decides about each
            turn.next("throw", error)
        else:
            turn.next("send", sent)
        if context.root.is_closed and flow is None:
            run: Any = context.task_run
            run.state = Completed() if turn.is_over else _ended_too_early(context.task)
            turn.next("close")


def _ended_too_early(task: Any) -> State:
    """Return the state that tells who wants more of a task that the flow's end has ended."""
    message = (
        f"Task {task.name!r} cannot yield more: the flow run that it belongs to has ended. Take "
        f"all values of a generator within the flow that calls it."
    )
    return Crashed(message, data=CrashedRun(message))  # type: ignore[no-any-return]


#: For `run_task`: there is no result that could be kept, or found.
emitted.is_lazy = True  # type: ignore[attr-defined]


class Lent:
    """The steps of a call that yields, for `stream`: the end of its flow run ends them, too.

    Args:
        task: the task that is called.
        make: returns the steps, given a weak reference to this.
    """

    __slots__ = ("__weakref__", "_ended", "_op", "_steps", "_task")

    def __init__(self, task: Any, make: Callable[[ref[Lent]], Steps]) -> None:
        self._steps = make(ref(self))
        self._task = task
        self._op: Any = None
        self._ended = False

    def send(self, answer: Any) -> Any:
        """Send an answer to the steps and return the next operation."""
        return self._next(self._steps.send, answer)

    def throw(self, error: BaseException) -> Any:
        """Throw an exception into the steps and return the next operation."""
        return self._next(self._steps.throw, error)

    def _next(self, move: Callable[[Any], Any], given: Any) -> Any:
        if self._ended:
            is_quiet = isinstance(given, NoMore)
            raise StopIteration(Completed() if is_quiet else _ended_too_early(self._task))
        self._op = None
        self._op = move(given)
        return self._op

    def end(self, context: RunContext) -> Steps:
        """End the steps, if they wait for their caller; one that runs in a thread goes on."""
        if type(self._op) is not Emit:
            return
        self._ended = True
        if self._task.isasync:
            yield Call(adrive, (self._ending(),), {}, context, None, True)
        else:
            yield from self._ending()

    def _ending(self) -> Steps:
        try:
            op: Any = self._steps.throw(NoMore())
            while True:
                try:
                    answer = None if type(op) is Emit else (yield op)
                except BaseException as error:  # noqa: BLE001 - the generator decides about each
                    op = self._steps.throw(error)
                else:  # with retries it may have begun anew
                    wants_caller = type(op) is Emit
                    op = self._steps.throw(NoMore()) if wants_caller else self._steps.send(answer)
        except StopIteration as end:
            return end.value


def lend(lent: ref[Lent], context: RunContext) -> None:
    """Note what yields values to a caller, for as long as the caller and the flow run have it."""
    submitted, steps = context.submitted, lent()
    if submitted.lent is None:
        submitted.lent = {}
    if steps is not None:
        submitted.lent[ref(steps, submitted.lent.pop)] = None


def end_lent(context: RunContext) -> Steps:
    """End the generators of a context's flow run that are not used up, the last one first."""
    left, context.submitted.lent = context.submitted.lent, None
    for lent in reversed(list(left or ())):
        if (steps := lent()) is not None:
            yield from steps.end(context)


def emitted_at_end(steps: Steps) -> Steps:
    """Run a call that ends with a list, as one on a cluster does, and emit what is in it."""
    state = yield from steps
    if not state.is_completed():
        return state
    try:
        for item in value_of(state):
            yield Emit(item)
    except NoMore:
        return Completed()
    return Completed()


def stream(steps: Steps | Lent) -> Generator[Any, Any, Any]:
    """Run a generator of the engine and yield what it emits; return its state's value."""
    try:
        op: Any = steps.send(None)
        while True:
            try:
                answer = (yield op.value) if type(op) is Emit else op.perform()
            except BaseException as error:  # noqa: BLE001 - the generator decides about each
                op = steps.throw(_as_thrown(op, error))
            else:
                op = steps.send(answer)
    except StopIteration as end:
        return value_of(end.value)


async def astream(steps: Steps | Lent) -> AsyncGenerator[Any, Any]:
    """Run a generator of the engine in asyncio and yield what it emits."""
    try:
        op: Any = steps.send(None)
        while True:
            try:
                answer = (yield op.value) if type(op) is Emit else await op.aperform()
            except BaseException as error:  # noqa: BLE001 - the generator decides about each
                op = steps.throw(_as_thrown(op, error))
            else:
                op = steps.send(answer)
    except StopIteration as end:
        value_of(end.value)  # raises what it failed with


_STREAM = stream.__code__


def is_stream(value: Any) -> bool:
    """Tell whether a value is the unfinished call of a task that is a generator function."""
    return getattr(value, "gi_code", None) is _STREAM


def gathering(fn: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """Return a function that gives the list of what a generator function yields."""
    if is_async:

        async def agather(*args: Any, **kwargs: Any) -> list[Any]:
            return [item async for item in fn(*args, **kwargs)]

        return agather

    def gather(*args: Any, **kwargs: Any) -> list[Any]:
        return list(fn(*args, **kwargs))

    return gather
