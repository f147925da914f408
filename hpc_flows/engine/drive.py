"""What the engine's generators ask for, and the two drivers that do it.

A generator of the engine yields an operation and receives its answer, or has its exception raised
at the `yield`. `drive` does operations one after the other; `adrive` does the same in asyncio.
"""

from __future__ import annotations

import time

from hpc_flows.context import _current, entered, give_way

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Any

    from hpc_flows.context import RunContext


#: Seconds of a sleep, after which a thread sees whether an exception has been sent to it.
_STEP = 0.5


class ExecutionLost(BaseException):
    """The machinery lost a call, whose function has not decided its end."""


class Call:
    """Call a function of the user's in its context, for at most `timeout` seconds.

    `is_async` says that it is a coroutine function: asyncio awaits it, and the synchronous driver
    gives it an event loop of its own.
    """

    __slots__ = ("args", "context", "fn", "is_async", "kwargs", "timeout")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        context: RunContext,
        timeout: float | None = None,
        is_async: bool = False,  # noqa: FBT001, FBT002 - made for each call: no names, for speed
    ) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.context = context
        self.timeout = timeout
        self.is_async = is_async

    def perform(self) -> Any:
        """Call it and return its value."""
        token = _current.set(self.context)
        try:
            if self.timeout is None and not self.is_async:
                return self.fn(*self.args, **self.kwargs)
            return self._perform_specially()
        finally:
            _current.reset(token)

    def _perform_specially(self) -> Any:
        fn: Callable[..., Any] = self._run_in_loop if self.is_async else self.fn
        if self.timeout is None:
            return fn(*self.args, **self.kwargs)
        from hpc_flows.engine.timeouts import call_within  # noqa: PLC0415 - few tasks have one

        return call_within(self.timeout, fn, self.args, self.kwargs)

    def _run_in_loop(self, *args: Any, **kwargs: Any) -> Any:
        import asyncio  # noqa: PLC0415 - only tasks that are coroutine functions need it

        def run() -> Any:
            return asyncio.run(self.fn(*args, **kwargs))

        if asyncio._get_running_loop() is None:  # noqa: SLF001 - get_running_loop without raising
            return run()
        from hpc_flows.engine.timeouts import call_aside  # noqa: PLC0415 - in notebooks

        return call_aside(run, (), {})

    async def aperform(self) -> Any:
        """Call it, await it if need be, and return its value."""
        if not self.is_async:
            return self.perform()
        with entered(self.context):
            if self.timeout is None:
                return await self.fn(*self.args, **self.kwargs)
            from hpc_flows.engine.timeouts import await_within  # noqa: PLC0415 - as above

            return await await_within(self.timeout, self.fn(*self.args, **self.kwargs))


class Sleep:
    """Let some seconds pass; the places that the task holds are given back meanwhile."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def perform(self) -> None:
        """Sleep."""
        resume = give_way()
        left = self.seconds
        try:
            while left > 0:
                time.sleep(min(left, _STEP))
                left -= _STEP
        finally:
            resume()

    async def aperform(self) -> None:
        """Sleep, and let others run."""
        import asyncio  # noqa: PLC0415 - loaded already: it is running

        resume = give_way()
        try:
            await asyncio.sleep(self.seconds)
        finally:
            resume()


class Wait:
    """Wait until futures have ended, or for `timeout` seconds."""

    __slots__ = ("futures", "timeout")

    def __init__(self, futures: Sequence[Any], timeout: float | None = None) -> None:
        self.futures = futures
        self.timeout = timeout

    def perform(self) -> None:
        """Wait."""
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        for future in self.futures:
            if deadline is None:
                future.wait()
            else:
                future.wait(max(0.0, deadline - time.monotonic()))

    async def aperform(self) -> None:
        """Wait, and let others run."""
        import asyncio  # noqa: PLC0415 - loaded already: it is running

        async def all_ended() -> None:
            for future in self.futures:
                await _ended(future)

        # Reservations of the machine are waited for, too; they wait for nobody.
        runs = [future for future in self.futures if hasattr(future, "task_run_id")]
        resume = give_way(runs if self.timeout is None else ())
        try:
            await asyncio.wait_for(all_ended(), self.timeout)
        except TimeoutError:
            return
        finally:
            resume()


async def _ended(future: Any) -> None:
    """Wait in asyncio until a future has ended."""
    import asyncio  # noqa: PLC0415 - loaded already: it is running

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def tell(_: object) -> None:
        try:
            loop.call_soon_threadsafe(ended.set)
        except RuntimeError:  # the loop was closed: whoever waited was interrupted
            return

    future.add_done_callback(tell)
    await ended.wait()


if TYPE_CHECKING:
    from typing import Protocol

    class Op(Protocol):
        """Something that a generator of the engine asks for."""

        def perform(self) -> Any:
            """Do it and return its answer."""

        async def aperform(self) -> Any:
            """Do it in asyncio and return its answer."""

    Steps = Generator[Op, Any, Any]


def drive(steps: Steps) -> Any:
    """Run a generator of the engine to its end and return what it returns."""
    send = steps.send
    try:
        op = send(None)
        while True:
            try:
                answer = op.perform()
            except BaseException as error:  # noqa: BLE001 - the generator decides about each
                op = steps.throw(error)
            else:
                op = send(answer)
    except StopIteration as end:
        return end.value


async def adrive(steps: Steps) -> Any:
    """Run a generator of the engine to its end in asyncio and return what it returns."""
    try:
        op = steps.send(None)
        while True:
            try:
                answer = await op.aperform()
            except BaseException as error:  # noqa: BLE001 - the generator decides about each
                op = steps.throw(error)
            else:
                op = steps.send(answer)
    except StopIteration as end:
        return end.value
