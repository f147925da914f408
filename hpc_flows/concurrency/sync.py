"""`concurrency` and `rate_limit` for functions."""

from __future__ import annotations

import time

from hpc_flows.concurrency.holding import ThreadStop, Watch
from hpc_flows.concurrency.taking import Wanted, give_back, spending, taking
from hpc_flows.concurrency.telling import who
from hpc_flows.exceptions import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    SlotLost,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType
    from typing import Any, ParamSpec, Self, TypeVar

    from hpc_flows.leases import Lease

    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = [
    "AcquireConcurrencySlotTimeoutError",
    "ConcurrencySlotAcquisitionError",
    "concurrency",
    "rate_limit",
]


class concurrency:  # noqa: N801 - Prefect's name, and reads as a statement
    """Hold slots of concurrency limits for the length of a `with` block, or of a function.

    `@concurrency("comsol")` above a function holds them for each of its calls.

    It holds over all processes of this user on this machine and over all jobs of the cluster,
    without a server: see docs/how-to/limit-concurrency.md.

    Args:
        names: of the limits; an empty list takes nothing.
        occupy: slots to take of each.
        timeout_seconds: how long to wait for them; None waits without end.
        max_retries: how often to look again when they are not free; None does so without end.
        lease_duration: seconds without a sign of life after which others may take the slots. On
            the same machine the end of the process is noticed at once.
        strict: whether a limit that does not exist is an error; else it is logged and skipped.
        holder: a mapping or object with `type` and `id`, shown to those who wait; the run unless
            given.
        raise_on_lease_renewal_failure: whether the work is ended by SlotLost when the slots were
            lost, at the next step of Python code; None does so if `strict`.

    Raises:
        AcquireConcurrencySlotTimeoutError: the slots were not free in time; a TimeoutError.
        ConcurrencySlotAcquisitionError: they can never be had.
        SlotLost: they were lost while the block ran.
    """

    def __init__(
        self,
        names: str | list[str],
        occupy: int = 1,
        timeout_seconds: float | None = None,
        max_retries: int | None = None,
        lease_duration: float = 300,
        strict: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
        holder: Any = None,
        raise_on_lease_renewal_failure: bool | None = None,  # noqa: FBT001 - as above
    ) -> None:
        self._options: dict[str, Any] = {
            "occupy": occupy,
            "timeout": timeout_seconds,
            "max_retries": max_retries,
            "ttl": lease_duration,
            "strict": strict,
        }
        self._names = names
        raises = raise_on_lease_renewal_failure
        self._raises = strict if raises is None else raises
        self._holder = holder
        self._entered: list[tuple[list[Lease], Watch, ThreadStop]] = []

    def __enter__(self) -> None:
        stop = ThreadStop()
        watch = Watch(stop if self._raises else None)
        wanted = Wanted(self._names, on_lost=watch.told, note=who(self._holder), **self._options)
        self._entered.append((slept(taking(wanted)), watch, stop))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        leases, watch, stop = self._entered.pop()
        lost = watch.over()
        stop.withdraw(error)
        give_back(leases)
        if lost and (error is None or isinstance(error, SlotLost)):
            raise SlotLost(f"{lost}.") from None

    def _once_more(self) -> Self:
        """Return another of the same arguments: calls of a function may overlap."""
        other = type(self)(self._names, holder=self._holder)
        other._options, other._raises = self._options, self._raises  # noqa: SLF001 - its own kind
        return other

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Hold the slots for each call of a function."""
        import functools  # noqa: PLC0415 - the job side may need only the block

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with self._once_more():
                return function(*args, **kwargs)

        return call


def rate_limit(
    names: str | list[str],
    occupy: int = 1,
    timeout_seconds: float | None = None,
    strict: bool = False,  # noqa: FBT001, FBT002 - Prefect's signature
) -> None:
    """Wait until slots of rate limits can be taken; they come back with time.

    Args:
        names: of the limits, which must have a `slot_decay_per_second`.
        occupy: slots to take of each.
        timeout_seconds: how long to wait for them; None waits without end.
        strict: whether a limit that does not exist is an error; else it is logged and skipped.

    Raises:
        AcquireConcurrencySlotTimeoutError: the slots were not free in time; a TimeoutError.
        ConcurrencySlotAcquisitionError: they can never be had.
    """
    slept(spending(Wanted(names, occupy, timeout=timeout_seconds, strict=strict, note=who())))


def slept(steps: Generator[float, None, Any]) -> Any:
    """Run steps to their end, sleeping as long as they say, and return what they return."""
    while True:
        try:
            pause = next(steps)
        except StopIteration as end:
            return end.value
        try:
            time.sleep(pause)
        except BaseException:
            steps.close()
            raise
