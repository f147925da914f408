"""`concurrency` and `rate_limit` for coroutines: waiting lets others run."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from hpc_flows.concurrency import sync
from hpc_flows.concurrency.holding import Watch
from hpc_flows.concurrency.taking import Wanted, give_back, spending, taking
from hpc_flows.concurrency.telling import who
from hpc_flows.exceptions import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    SlotLost,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from hpc_flows.leases import Lease

__all__ = [
    "AcquireConcurrencySlotTimeoutError",
    "ConcurrencySlotAcquisitionError",
    "concurrency",
    "rate_limit",
]


class concurrency(sync.concurrency):  # noqa: N801 - Prefect's name, and reads as a statement
    """Hold slots of concurrency limits for the length of an `async with` block.

    The arguments and errors are those of `hpc_flows.concurrency.sync.concurrency`.
    """

    def __call__(self, function: Any) -> Any:
        """Hold the slots for each call of a coroutine function."""

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            async with self._once_more():
                return await function(*args, **kwargs)

        return call

    async def __aenter__(self) -> None:
        stop = _TaskStop()
        watch = Watch(stop if self._raises else None)
        wanted = Wanted(self._names, on_lost=watch.told, note=who(self._holder), **self._options)
        self._held: list[tuple[list[Lease], Watch, _TaskStop]] = getattr(self, "_held", [])
        self._held.append((await _slept(taking(wanted)), watch, stop))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        leases, watch, stop = self._held.pop()
        lost = watch.over()
        give_back(leases)
        await stop.withdraw(error)
        if lost and (error is None or isinstance(error, asyncio.CancelledError)):
            raise SlotLost(f"{lost}.") from None


class _TaskStop:
    """Cancels the asyncio task that made it."""

    def __init__(self) -> None:
        self._task: Any = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._asked = self._cancelled = False

    def __call__(self) -> None:
        self._asked = True
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._asked:
            self._cancelled = True
            self._task.cancel()

    async def withdraw(self, arrived: BaseException | None) -> None:
        """See that it cancels nothing any more; `arrived` is what ended the work."""
        self._asked = False
        if not self._cancelled:
            return
        if self._task.uncancel() == 0 and not isinstance(arrived, asyncio.CancelledError):
            try:  # it is still to come, and comes here
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                return


async def rate_limit(
    names: str | list[str],
    occupy: int = 1,
    timeout_seconds: float | None = None,
    strict: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
) -> None:
    """Wait until slots of rate limits can be taken; as `hpc_flows.concurrency.sync.rate_limit`."""
    wanted = Wanted(names, occupy, timeout=timeout_seconds, strict=strict, note=who())
    await _slept(spending(wanted))


async def _slept(steps: Generator[float, None, Any]) -> Any:
    while True:
        try:
            pause = next(steps)
        except StopIteration as end:
            return end.value
        try:
            await asyncio.sleep(pause)
        except BaseException:
            steps.close()
            raise
