"""Locks that hold between processes and machines which see one folder, network file systems too.

A lock is a lease (`hpc_flows.leases`): its holder renews it while it lives, and loses it at once
when its process dies on this machine, and after `ttl` seconds when its machine does.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from hpc_flows.leases import Lease, end, holder_of, is_stale, pause_after
from hpc_flows.leases.holder import DEFAULT_TTL
from hpc_flows.locking.names import safe_name
from hpc_flows.locking.protocol import LockManager, not_held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Leases of this process by path: any manager of their folder may give them back.
_held: dict[str, Lease] = {}
_guard = threading.RLock()


def _after_fork() -> None:
    """Forget who is inside of the guard: a thread of the parent, which never leaves it here."""
    global _guard  # noqa: PLW0603 - a lock cannot be made anew in place
    _guard = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


class FileSystemLockManager(LockManager):
    """Takes locks by files in a folder.

    Attributes:
        lock_files_directory: the folder, as a `Path`.
        ttl: seconds for which a lock outlives the machine of its holder.
    """

    def __init__(
        self, lock_files_directory: str | os.PathLike[str], *, ttl: float = DEFAULT_TTL
    ) -> None:
        self.lock_files_directory = Path(os.path.abspath(Path(lock_files_directory).expanduser()))
        self.ttl = ttl

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileSystemLockManager):
            return False
        return self.lock_files_directory == other.lock_files_directory

    def __hash__(self) -> int:
        return hash(self.lock_files_directory)

    def __repr__(self) -> str:
        return f"FileSystemLockManager({str(self.lock_files_directory)!r})"

    def _path(self, key: str) -> str:
        # A folder for each lock, so that nobody has to look through all of them.
        return os.path.join(self.lock_files_directory, f"{safe_name(key)}.lock", "lease")

    def try_lock(self, key: str, holder: str, hold_timeout: float | None = None) -> bool:
        """Take the lock on a key if nobody else has it; return whether it was to be had."""
        path = self._path(key)
        with _guard:
            if self.is_lock_holder(key, holder):
                return True
            lease = Lease.try_acquire(path, note=holder, ttl=self.ttl, on_lost=_lost)
            if lease is None:
                return False
            _held[path] = lease
        if hold_timeout is not None:
            timer = threading.Timer(hold_timeout, _let_go, (lease,))
            timer.daemon = True
            timer.start()
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

        Raises:
            LeaseError: the folder cannot be written or read.
        """
        pauses = _Pauses(acquire_timeout)
        while not self.try_lock(key, holder, hold_timeout):
            if pauses.are_over():
                return False
            time.sleep(pauses.next())
        return True

    async def aacquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Do as `acquire_lock`, from async code."""
        import asyncio  # noqa: PLC0415 - it is running

        pauses = _Pauses(acquire_timeout)
        while not self.try_lock(key, holder, hold_timeout):
            if pauses.are_over():
                return False
            await asyncio.sleep(pauses.next())
        return True

    def release_lock(self, key: str, holder: str) -> None:
        """Give a lock back, in the process that took it or in another.

        Raises:
            ValueError: that holder does not have it.
        """
        path = self._path(key)
        with _guard:
            found = holder_of(path)
            if found is None or found.note != _said(holder):
                raise not_held(key, holder)
            lease = _held.pop(path, None)
        if lease is None or lease.token != found.token:
            end(path, found.token)
        else:
            lease.release(forget=True)

    def is_locked(self, key: str) -> bool:
        """Tell whether somebody holds the lock on a key."""
        path = self._path(key)
        return holder_of(path) is not None and not is_stale(path)

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Tell whether that is who holds the lock on a key."""
        path = self._path(key)
        found = holder_of(path)
        return found is not None and found.note == _said(holder) and not is_stale(path)

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds the lock on a key, or for `timeout` seconds; tell which."""
        pauses = _Pauses(timeout)
        while self.is_locked(key):
            if pauses.are_over():
                return False
            time.sleep(pauses.next())
        return True

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - Prefect's signature
        """Do as `wait_for_lock`, from async code."""
        import asyncio  # noqa: PLC0415 - it is running

        pauses = _Pauses(timeout)
        while self.is_locked(key):
            if pauses.are_over():
                return False
            await asyncio.sleep(pauses.next())
        return True

    def describe_holder(self, key: str) -> str:
        """Return who holds the lock on a key, for people."""
        return str(holder_of(self._path(key)) or "nobody")


class _Pauses:
    """The pauses between two looks at a lock: short at first, and never beyond a time limit."""

    def __init__(self, timeout: float | None) -> None:
        self._began = time.monotonic()
        self._timeout = timeout

    def are_over(self) -> bool:
        waited = time.monotonic() - self._began
        return self._timeout is not None and waited >= self._timeout

    def next(self) -> float:
        waited = time.monotonic() - self._began
        pause = pause_after(waited)
        return pause if self._timeout is None else max(0.001, min(pause, self._timeout - waited))


def _said(holder: str) -> str:
    """Return a holder's name as its lease has it."""
    return " ".join(holder.split())[:500]


def _lost(lease: Any) -> None:
    path = lease.path
    with _guard:
        if _held.get(path) is lease:
            del _held[path]


def _let_go(lease: Lease) -> None:
    _lost(lease)
    lease.release(forget=True)
