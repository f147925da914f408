"""Locks that hold between the threads of one process."""

from __future__ import annotations

import os
import threading
import time

from hpc_flows.locking.protocol import LockManager, not_held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Self

_locks: dict[str, tuple[str, float | None]] = {}


class MemoryLockManager(LockManager):
    """Takes locks in this process's memory. There is one of it."""

    _the_one: ClassVar[Any] = None
    _changed: ClassVar[threading.Condition] = threading.Condition()

    def __new__(cls) -> Self:
        """Return the one manager of this process."""
        if cls._the_one is None:
            cls._the_one = super().__new__(cls)
        one: Self = cls._the_one
        return one

    def __init__(self) -> None:
        """Take what there is of locks."""
        self._locks = _locks

    def __repr__(self) -> str:
        return "MemoryLockManager()"

    def __reduce__(self) -> tuple[type[MemoryLockManager], tuple[()]]:
        """Pickle as the manager of the process that loads it, which knows other locks."""
        if self._locks:
            import logging  # noqa: PLC0415 - this is rare

            logging.getLogger("hpc_flows.locking").warning(
                "A MemoryLockManager that holds %d lock(s) is sent to another process. Lock "
                "information will not be available after deserialization; locks between "
                "processes need a FileSystemLockManager.",
                len(self._locks),
            )
        return MemoryLockManager, ()

    def _holder(self, key: str) -> str | None:
        """Return who holds the lock on a key, with the condition held."""
        holder, until = self._locks.get(key, (None, None))
        if until is not None and until <= time.monotonic():
            del self._locks[key]
            self._changed.notify_all()
            return None
        return holder

    def _wait(self, key: str, is_over: Callable[[], bool], timeout: float | None) -> bool:
        """Wait, with the condition held, until `is_over`, or for `timeout` seconds; tell which."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not is_over():
            ends = [
                end for end in (deadline, self._locks.get(key, ("", None))[1]) if end is not None
            ]
            pause = None if not ends else max(0.0, min(ends) - time.monotonic())
            self._changed.wait(pause)
            if deadline is not None and time.monotonic() >= deadline:
                return is_over()
        return True

    def acquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Take the lock on a key; tell whether it was to be had. Its holder may take it again.

        Args:
            key: which.
            holder: for whom.
            acquire_timeout: seconds to wait while somebody else has it; None waits for ever.
            hold_timeout: seconds after which it is free again whatever happens, or None.
        """
        with self._changed:
            if self._holder(key) == holder:
                return True
            if not self._wait(key, lambda: self._holder(key) is None, acquire_timeout):
                return False
            until = None if hold_timeout is None else time.monotonic() + hold_timeout
            self._locks[key] = (holder, until)
            return True

    def try_lock(self, key: str, holder: str) -> bool:
        """Take the lock on a key if nobody else has it; return whether it was to be had."""
        return self.acquire_lock(key, holder, 0.0)

    async def aacquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Do as `acquire_lock`, from async code."""
        import asyncio  # noqa: PLC0415 - it is running

        args = (key, holder, acquire_timeout, hold_timeout)
        return await asyncio.to_thread(self.acquire_lock, *args)

    def release_lock(self, key: str, holder: str) -> None:
        """Give a lock back.

        Raises:
            ValueError: that holder does not have it.
        """
        with self._changed:
            if self._holder(key) != holder:
                raise not_held(key, holder)
            del self._locks[key]
            self._changed.notify_all()

    def is_locked(self, key: str) -> bool:
        """Tell whether somebody holds the lock on a key."""
        with self._changed:
            return self._holder(key) is not None

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Tell whether that is who holds the lock on a key."""
        with self._changed:
            return self._holder(key) == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds the lock on a key, or for `timeout` seconds; tell which."""
        with self._changed:
            return self._wait(key, lambda: self._holder(key) is None, timeout)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - Prefect's signature
        """Do as `wait_for_lock`, from async code."""
        import asyncio  # noqa: PLC0415 - it is running

        return await asyncio.to_thread(self.wait_for_lock, key, timeout)


def _after_fork() -> None:
    """Forget who is inside of the condition: a thread of the parent, which never leaves it here."""
    MemoryLockManager._changed = threading.Condition()  # noqa: SLF001 - same module


os.register_at_fork(after_in_child=_after_fork)
