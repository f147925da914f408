"""Leases: files that say who may do something, and that nobody holds for longer than they live."""

from __future__ import annotations

from hpc_flows.leases.files import pause_after
from hpc_flows.leases.holder import Holder
from hpc_flows.leases.lease import Lease, end, holder_of, is_stale, revoke

__all__ = ["Holder", "Lease", "end", "holder_of", "is_stale", "pause_after", "revoke"]
