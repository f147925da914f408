"""The door to reporting: opened when a root run begins and somebody wants to have reports."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpc_flows.context import RootRun
    from hpc_flows.reporting.driver import Reporting

_NAMED = ("api_url", "prefect_api_url", "report_file")


def begin_reports(root: RootRun) -> Reporting | None:
    """Start reporting a run, if this process shall and something is configured; it never fails."""
    settings = root.settings
    report = settings.report
    if report in ("off", "relay"):
        return None
    named = report.startswith("ssh://") or any(getattr(settings, name) for name in _NAMED)
    # A server that was started in this home takes reports without being named.
    if not named and not os.path.exists(os.path.join(settings.home, "server", "endpoint.json")):
        return None
    from hpc_flows.reporting.driver import begin  # noqa: PLC0415 - costs nothing when not wanted

    return begin(root)
