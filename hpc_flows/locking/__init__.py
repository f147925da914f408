"""Locks on keys: of one process (`memory`), or of all that see one folder (`filesystem`)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.locking.filesystem import FileSystemLockManager
    from hpc_flows.locking.memory import MemoryLockManager
    from hpc_flows.locking.protocol import LockManager

__all__ = ["FileSystemLockManager", "LockManager", "MemoryLockManager"]

_HOMES = {
    "FileSystemLockManager": "filesystem",
    "LockManager": "protocol",
    "MemoryLockManager": "memory",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(__import__(f"{__name__}.{_HOMES[name]}", fromlist=[name]), name)
