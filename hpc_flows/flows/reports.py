"""The door to reporting: opened when a root run begins and somebody wants to have reports."""

from __future__ import annotations

from hpc_flows.settings.reported import is_reported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpc_flows.context import RootRun
    from hpc_flows.reporting.driver import Reporting


def begin_reports(root: RootRun) -> Reporting | None:
    """Start reporting a run, if this process shall and something is configured; it never fails."""
    if not is_reported(root.settings):
        return None
    from hpc_flows.reporting.driver import begin  # noqa: PLC0415 - costs nothing when not wanted

    return begin(root)
