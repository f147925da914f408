"""Waiting for several futures, and what is made of futures wherever they lie."""

from __future__ import annotations

import time
from _thread import allocate_lock

from hpc_flows.futures import (
    TaskFuture,
    check_timeout,
    find_futures,
    pass_gate,
    replace_futures,
    value_of,
    wait_until,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any


class DoneAndNotDoneFutures(tuple[set[TaskFuture], set[TaskFuture]]):
    """What `wait` returns: the futures that have ended and those that have not."""

    __slots__ = ()

    @property
    def done(self) -> set[TaskFuture]:
        """The futures whose task runs have ended."""
        return self[0]

    @property
    def not_done(self) -> set[TaskFuture]:
        """The futures whose task runs have not ended."""
        return self[1]


def wait(futures: Iterable[TaskFuture], timeout: float | None = None) -> DoneAndNotDoneFutures:
    """Wait until all futures have ended, or for `timeout` seconds, and sort them.

    Raises:
        ValueError: `timeout` is negative.
    """
    check_timeout(timeout)
    futures = list(futures)
    wait_until(futures, len(futures), timeout)
    done = {future for future in futures if future.done()}
    return DoneAndNotDoneFutures((done, set(futures) - done))


def as_completed(
    futures: Iterable[TaskFuture], timeout: float | None = None
) -> Iterator[TaskFuture]:
    """Yield futures as they end.

    Raises:
        TimeoutError: some have not ended within `timeout` seconds.
    """
    check_timeout(timeout)
    left = dict.fromkeys(futures)
    deadline = None if timeout is None else time.monotonic() + timeout
    total, arrivals = len(left), _Arrivals()
    yield from _take(left, [future for future in left if future.done()])
    for future in left:
        future.add_done_callback(arrivals)
    try:
        while left:
            pause = None if deadline is None else max(0.0, deadline - time.monotonic())
            ended = arrivals.take(next(iter(left)), pause)
            if not ended:
                msg = f"{len(left)} (of {total}) futures unfinished"
                raise TimeoutError(msg)
            yield from _take(left, ended)
    finally:
        for future in left:
            future.remove_done_callback(arrivals)


def _take(left: dict[TaskFuture, None], ended: list[TaskFuture]) -> Iterator[TaskFuture]:
    for future in ended:
        del left[future]
        yield future


class _Arrivals:
    """Holds futures that have ended until they are taken."""

    __slots__ = ("ended", "gate", "lock")

    def __init__(self) -> None:
        self.ended: list[TaskFuture] = []
        self.lock = allocate_lock()
        self.gate = allocate_lock()
        self.gate.acquire()

    def __call__(self, future: TaskFuture) -> None:
        with self.lock:
            self.ended.append(future)
            if self.gate.locked():
                self.gate.release()

    def take(self, one: TaskFuture, timeout: float | None) -> list[TaskFuture]:
        """Return what has ended, waiting for it, and for `timeout` seconds at most.

        `one` of the futures tells how to give way meanwhile.
        """
        if not self.ended:
            resume = one.on_wait(()) if one.on_wait is not None else None
            try:
                pass_gate(self.gate, timeout)
            finally:
                if resume is not None:
                    resume()
        with self.lock:
            ended, self.ended = self.ended, []
            if not self.gate.locked():
                self.gate.acquire()
        return ended


def resolve_futures_to_states(expr: Any) -> Any:
    """Wait for the futures in containers and dataclasses; return these with states instead."""
    _wait_for_all(expr)
    return replace_futures(expr, lambda future: future.state)


def resolve_futures_to_results(expr: Any) -> Any:
    """Wait for the futures in containers and dataclasses; return these with values instead.

    Raises:
        BaseException: what ended a task run that did not complete.
    """
    _wait_for_all(expr)
    return replace_futures(expr, lambda future: value_of(future.state))


def _wait_for_all(expr: Any) -> None:
    futures = find_futures(expr)
    wait_until(futures, len(futures), None)
