"""The server's database: its tables, how it is opened, and who may see which of its rows."""

from __future__ import annotations

from hpc_flows.server.db.opening import Database, DatabaseError, open_database
from hpc_flows.server.db.sight import Sight, visible

__all__ = ["Database", "DatabaseError", "Sight", "open_database", "visible"]
