"""Whether a process shall report the runs that it begins: light, because every root run asks."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpc_flows.settings import Settings

_NAMED = ("api_url", "prefect_api_url", "report_file")


def is_reported(settings: Settings) -> bool:
    """Tell whether this process reports its runs, as far as can be told without asking a server."""
    report = settings.report
    if report in ("off", "relay"):
        return False
    named = report.startswith("ssh://") or any(getattr(settings, name) for name in _NAMED)
    # A server that was started in this home takes reports without being named.
    return named or os.path.exists(os.path.join(settings.home, "server", "endpoint.json"))
