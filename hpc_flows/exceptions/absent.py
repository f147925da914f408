"""Prefect's names that are not here, and why: who imports one is told."""

from __future__ import annotations

from hpc_flows.exceptions import close_match

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_DEPLOYMENTS = (
    "this version of hpc_flows makes no deployments. Call the flow, or run it with "
    "`hpc-flows run FILE:FLOW`"
)
_REASONS = {
    "hpc_flows": dict.fromkeys(("serve", "aserve", "deploy"), _DEPLOYMENTS),
    "hpc_flows.futures": dict.fromkeys(
        ("PrefectDistributedFuture", "PrefectFlowRunFuture"),
        "this version of hpc_flows makes no deployments and needs no task workers. The futures of "
        "delay() are PrefectFuture, too",
    ),
    "hpc_flows.task_runners": {
        "PrefectTaskRunner": "delay() needs no task worker. Tasks with `resources` run on the "
        "cluster; ClusterTaskRunner sends all of a flow's there"
    },
    "hpc_flows.filesystems": {
        "SMB": "RemoteFileSystem('smb://host/share') is the same thing, with smbprotocol installed"
    },
}


def no_such_name(module: str, name: str, known: Iterable[str]) -> Exception:
    """Return what to raise for a name that a module has not.

    It is an ImportError with the reason where Prefect has that name: an AttributeError's message
    would not be shown by `from ... import`. Else it is an AttributeError with the nearest name.
    """
    reason = _REASONS.get(module, {}).get(name)
    if reason is not None:
        return ImportError(f"{module} has no {name!r}: {reason}.", name=module)
    return AttributeError(f"module {module!r} has no attribute {name!r}.{close_match(name, known)}")
