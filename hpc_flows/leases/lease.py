"""What a process does with a lease: take it, keep it, hand it on, let it go, or lose it."""

from __future__ import annotations

import os
from time import monotonic, sleep

from hpc_flows.exceptions import LeaseError, LeaseTimeout
from hpc_flows.leases.files import (
    PART,
    adopted,
    file_of,
    given_back,
    guarded,
    is_gone,
    last,
    pause_after,
    remove,
    stamp_of,
    taken,
)
from hpc_flows.leases.holder import DEFAULT_TTL, Holder
from hpc_flows.leases.renewal import renewal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

# The system call that matters; tests put a failing one in its place.
_touch = os.utime


class Lease:
    """A lease that this process holds, or held.

    Made by `acquire`, `try_acquire` or `adopt`, and renewed by a thread until `release`, or until
    it is lost. `with lease:` releases it at the end.

    Attributes:
        path: as it was asked for.
        number: the fencing number; every holder of a lease has a higher one than those before.
        holder: this process, as others read it.
        due: when the next renewal is due, by the monotonic clock.
    """

    __slots__ = (
        "_ended",
        "_file",
        "_on_lost",
        "_pid",
        "_renewed",
        "due",
        "holder",
        "number",
        "path",
    )

    def __init__(
        self, path: str, number: int, holder: Holder, on_lost: Callable[[Lease], object] | None
    ) -> None:
        self.path = path
        self.number = number
        self.holder = holder
        self._file = file_of(path, number)
        self._on_lost = on_lost
        self._pid = os.getpid()
        self._ended = False
        self._renewed = monotonic()
        self.due = self._renewed + holder.ttl / PART
        try:
            renewal().add(self)
        except BaseException as error:
            self._ended = True
            given_back(self._file, forget=False)
            if isinstance(error, RuntimeError):
                raise LeaseError(_not_renewed(path, error)) from error
            raise

    @classmethod
    def try_acquire(
        cls,
        path: str,
        *,
        note: str = "",
        ttl: float = DEFAULT_TTL,
        on_lost: Callable[[Lease], object] | None = None,
    ) -> Self | None:
        """Take a lease if it is free or its holder is gone; return None otherwise.

        Args:
            path: where the lease lies; folders are made. Leases that are released with
                `forget=True` should have a folder of their own each.
            note: what the holder says of itself to those that wait.
            ttl: seconds without renewal after which others may take it.
            on_lost: called once, perhaps in another thread, when somebody else has it.

        Raises:
            LeaseError: the folder cannot be written or read, or the disk is full.
        """
        holder = Holder.here(ttl, note)
        number = taken(path, holder)
        return None if number is None else cls(path, number, holder, on_lost)

    @classmethod
    def acquire(
        cls,
        path: str,
        *,
        note: str = "",
        ttl: float = DEFAULT_TTL,
        timeout: float | None = None,
        on_lost: Callable[[Lease], object] | None = None,
    ) -> Self:
        """Take a lease, waiting until it is free; arguments as in `try_acquire`.

        Raises:
            LeaseTimeout: it was not to be had within `timeout` seconds.
            LeaseError: as in `try_acquire`.
        """
        began = monotonic()
        while True:
            lease = cls.try_acquire(path, note=note, ttl=ttl, on_lost=on_lost)
            if lease is not None:
                return lease
            waited = monotonic() - began
            pause = pause_after(waited)
            if timeout is not None:
                if waited >= timeout:
                    holder = holder_of(path)
                    who = f"held by {holder}" if holder else "just given back"
                    msg = f"The lease {path} was not to be had within {timeout:g} s: it is {who}."
                    raise LeaseTimeout(msg)
                pause = min(pause, timeout - waited)
            sleep(pause)

    @classmethod
    def adopt(
        cls,
        path: str,
        token: str,
        *,
        note: str = "",
        ttl: float = DEFAULT_TTL,
        on_lost: Callable[[Lease], object] | None = None,
    ) -> Self | None:
        """Take over from a living holder that has passed on its token; None if that has lost it.

        So a driver hands a lease to its job. The holder before must have called `bequeath`.
        """
        holder = Holder.here(ttl, note, token)
        number = guarded(path, lambda: adopted(path, holder))
        return None if number is None else cls(path, number, holder, on_lost)

    @property
    def token(self) -> str:
        """What `adopt` and `end` need."""
        return self.holder.token

    def is_held(self) -> bool:
        """Tell whether this process still has the lease.

        Asks the file system only when a renewal is overdue, as after the process was stopped.
        """
        if self._ended or self._pid != os.getpid():
            return False
        return monotonic() - self._renewed <= self.holder.ttl or self.renew()

    def renew(self) -> bool:
        """Say that the holder lives; return whether it still has the lease.

        The thread does it. When the file system does not answer, the lease is lost after `ttl`.
        """
        if self._ended or self._pid != os.getpid():
            return False
        now = monotonic()
        self.due = now + self.holder.ttl / PART
        try:
            _touch(self._file)
            followed = os.path.exists(file_of(self.path, self.number + 1))
        except FileNotFoundError:
            followed = True
        except OSError:
            followed = now - self._renewed > self.holder.ttl
            if not followed:
                # Soon again: what failed may be a moment's trouble of the file server.
                self.due = now + self.holder.ttl / PART / 4
                return True
        if followed:
            self._lose()
            return False
        self._renewed = now
        return True

    def _lose(self) -> None:
        if not renewal().remove(self) or self._ended:
            return
        self._ended = True
        try:
            remove(self._file)  # who took it over may have been killed before it did that
            if self._on_lost is not None:
                self._on_lost(self)
        except Exception:  # noqa: BLE001 - the thread has other leases to keep
            import sys  # noqa: PLC0415 - only for what went wrong

            sys.excepthook(*sys.exc_info())

    def bequeath(self) -> str:
        """Allow that somebody else adopts the lease, which is then no loss; return its token."""
        self._on_lost = None
        return self.holder.token

    def release(self, *, forget: bool = False) -> bool:
        """Let go of the lease; tell whether it was this process's until now.

        Does nothing the second time, in a forked child, and when the lease was lost.

        Args:
            forget: leave no file and no empty folder behind. The fencing numbers begin anew.
        """
        if self._pid != os.getpid():
            return False
        mine = renewal().remove(self) and not self._ended
        self._ended = True
        return mine and given_back(self._file, forget=forget)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Lease {self.path} number {self.number}>"


def _not_renewed(path: str, error: RuntimeError) -> str:
    return (
        f"The lease {path} was given back, because it could not be renewed: {error}. You run as "
        f"many processes and threads as this machine allows you (`ulimit -u`): run fewer."
    )


def holder_of(path: str) -> Holder | None:
    """Return who holds a lease, gone or not, or None when it is free.

    Raises:
        LeaseError: the folder, or the file, cannot be read.
    """
    return guarded(path, lambda: last(path)[1])


def is_stale(path: str) -> bool:
    """Tell whether a lease is held by somebody who is gone; False also when it is free.

    Raises:
        LeaseError: the folder, or the file, cannot be read.
    """

    def look() -> bool:
        file, holder = last(path)
        stamp = None if holder is None else stamp_of(file)
        return holder is not None and stamp is not None and is_gone(file, holder, stamp)

    return guarded(path, look)


def end(path: str, token: str) -> bool:
    """Give a lease back for its holder, if it is the one with that token; tell whether it was."""

    def give() -> bool:
        file, holder = last(path)
        return holder is not None and holder.token == token and given_back(file, forget=False)

    return guarded(path, give)


def revoke(path: str) -> bool:
    """Take a lease from whoever holds it, who notices at the next renewal; tell whether it was."""

    def give() -> bool:
        file, holder = last(path)
        return holder is not None and given_back(file, forget=False)

    return guarded(path, give)
