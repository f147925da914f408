"""Prefect's names that are not here, and why: who imports one is told."""

from __future__ import annotations

import sys
from opcode import opmap

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
    """Return what the `__getattr__` of a module shall raise, which has no such name.

    It is an AttributeError, with the reason where Prefect has that name, and else with the nearest
    one. For `from ... import`, which shows no AttributeError's message, a reason comes as an
    ImportError.
    """
    reason = _REASONS.get(module, {}).get(name)
    if reason is None:
        msg = f"module {module!r} has no attribute {name!r}.{close_match(name, known)}"
        return AttributeError(msg)
    msg = f"{module} has no {name!r}: {reason}."
    # Between this function and the line that asked for the name stands only the module's own.
    asked = sys._getframe(2)  # noqa: SLF001 - the only way to the caller
    if asked.f_code.co_code[asked.f_lasti] == opmap["IMPORT_FROM"]:
        return ImportError(msg, name=module)
    return AttributeError(msg)
