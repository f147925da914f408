"""What every command settles before its own work: version, help, other clusters, who is asking."""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING

from hpc_flows.mock_cluster.dialects.slurm.options import Parsed, UsageError

if TYPE_CHECKING:
    from hpc_flows.mock_cluster.controller import Call
    from hpc_flows.mock_cluster.service import Service


def answered_at_once(service: Service, call: Call, given: Parsed) -> bool:
    """Answer `--version`, `--help` and `--usage`; return whether that was all.

    Raises:
        UsageError: another cluster is asked for.
    """
    if given.has("version"):
        call.out(f"slurm-wlm {service.site.version}\n")
    elif given.has("help") or given.has("usage"):
        call.out(f"Usage: {call.command} [OPTIONS...]\n")
    else:
        _refuse_clusters(call.command, given)
        return False
    call.finish()
    return True


def _refuse_clusters(command: str, given: Parsed) -> None:
    """Refuse `-M`: a mock site has one cluster, and no database of others."""
    name = given.get("clusters")
    if name is None:
        return
    first = f"{command}: error: No cluster '{name}' known by database.\n"
    second = (
        f"{command}: error: '{name}' can't be reached now, or it is an invalid entry for "
        "--cluster.  Use 'sacctmgr list clusters' to see available clusters.\n"
    )
    raise UsageError(first + second)


def user_name(uid: int) -> str:
    """Return a user's name, or the number where the machine knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
