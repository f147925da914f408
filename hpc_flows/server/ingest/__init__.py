"""Ingest: raw lines of journals become rows, each event once and in whatever order they come."""

from __future__ import annotations

from hpc_flows.server.ingest.ingest import Ingest, NoSuchRun, Registered, RunGone
from hpc_flows.server.ingest.taking import Taken

__all__ = ["Ingest", "NoSuchRun", "Registered", "RunGone", "Taken"]
