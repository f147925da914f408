"""Results: what runs return, kept for as long as the run (`kept`) or for other runs (`store`).

The names are loaded when they are first used: a job needs `hpc_flows.results.kept` only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.results.kept import RemoteTraceback, RunResults, StoredResult
    from hpc_flows.results.record import ResultRecord, ResultRecordMetadata
    from hpc_flows.results.store import ResultStore

__all__ = [
    "RemoteTraceback",
    "ResultRecord",
    "ResultRecordMetadata",
    "ResultStore",
    "RunResults",
    "StoredResult",
]

_HOMES = {
    "RemoteTraceback": "results.kept",
    "ResultRecord": "results.record",
    "ResultRecordMetadata": "results.record",
    "ResultStore": "results.store",
    "RunResults": "results.kept",
    "StoredResult": "results.kept",
    # Prefect's users look for them here; what is around the caller is the context's affair.
    "get_result_store": "context.views",
    "should_persist_result": "context.views",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    home = f"{__name__.partition('.')[0]}.{_HOMES[name]}"
    return getattr(__import__(home, fromlist=[name]), name)
