"""Results: what runs return, kept for as long as the run (`kept`) or for other runs (`store`).

The names are loaded when they are first used: a job needs `hpc_flows.results.kept` only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.results.kept import RemoteTraceback, RunResults, StoredResult

__all__ = ["RemoteTraceback", "RunResults", "StoredResult"]

_HOMES = {"RemoteTraceback": "kept", "RunResults": "kept", "StoredResult": "kept"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(__import__(f"{__name__}.{_HOMES[name]}", fromlist=[name]), name)
