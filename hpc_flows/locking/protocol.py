"""What a lock manager can do."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class LockManager(Protocol):
    """Takes locks on keys, each for a holder, which is any text."""

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

    async def aacquire_lock(
        self,
        key: str,
        holder: str,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Do as `acquire_lock`, from async code."""

    def release_lock(self, key: str, holder: str) -> None:
        """Give a lock back.

        Raises:
            ValueError: that holder does not have it.
        """

    def is_locked(self, key: str) -> bool:
        """Tell whether somebody holds the lock on a key."""

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Tell whether that is who holds the lock on a key."""

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds the lock on a key, or for `timeout` seconds; tell which."""

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - Prefect's signature
        """Do as `wait_for_lock`, from async code."""


def not_held(key: str, holder: str) -> ValueError:
    """Return the error of giving back a lock that one does not have."""
    return ValueError(f"No lock held by {holder} for transaction with key {key}")
