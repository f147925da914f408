"""One thread that renews every lease of this process; there is none until there is a lease."""

from __future__ import annotations

import os
from _thread import allocate_lock, start_new_thread
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.leases.lease import Lease


class _Renewal:
    """The leases of this process, and the thread that keeps them."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._wake = allocate_lock()
        self._wake.acquire()
        self._leases: dict[int, Lease] = {}
        self._running = False
        self._due = 0.0

    def add(self, lease: Lease) -> None:
        """Renew a lease from now on.

        Raises:
            RuntimeError: the system allows no thread.
        """
        with self._lock:
            self._leases[id(lease)] = lease
            start = not self._running
            self._running = True
            if not start and lease.due < self._due and self._wake.locked():
                self._wake.release()
        if start:
            try:
                # The low-level function, because the interpreter's exit waits for no such thread.
                start_new_thread(self._run, ())
            except BaseException:
                with self._lock:
                    self._running = False  # so that the next lease tries again
                self.remove(lease)
                raise

    def remove(self, lease: Lease) -> bool:
        """Forget a lease; tell whether it was there, which only one caller hears."""
        return self._leases.pop(id(lease), None) is not None

    def leases(self) -> list[Lease]:
        """Return the leases that are renewed."""
        return list(self._leases.values())

    def _run(self) -> None:
        while True:
            with self._lock:
                leases = self.leases()
                if not leases:
                    self._running = False
                    return
                self._due = min(lease.due for lease in leases)
            # Whoever lets go of its last lease does not wake the thread: it looks once more in
            # its own time, so that many short leases share one thread.
            self._wake.acquire(True, max(0.0, self._due - monotonic()))
            for lease in self.leases():
                if lease.due <= monotonic():
                    lease.renew()


_renewal: list[_Renewal] = []


def renewal() -> _Renewal:
    """Return this process's own."""
    if not _renewal:
        import atexit  # noqa: PLC0415 - only where there is a lease

        _renewal.append(_Renewal())
        atexit.register(_release_all, os.getpid())
    return _renewal[0]


def _release_all(pid: int) -> None:
    """Let go of everything when Python ends, so that other hosts need not wait."""
    for lease in renewal().leases() if os.getpid() == pid else ():
        lease.release()


def _after_fork(*_: Any) -> None:
    """Forget the parent's leases: they are not this process's to renew, nor its thread's."""
    if _renewal:
        _renewal[0] = _Renewal()


os.register_at_fork(after_in_child=_after_fork)
