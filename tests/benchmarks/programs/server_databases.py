"""Databases for the programs that measure our server: of their own, and gone afterwards."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path


def database_url(kind: str, folder: Path, stack: ExitStack) -> str:
    """Return the address of an empty database of a kind, which ends with the stack."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'server.db'}"
    from services.postgresql import PostgreSQL, find_programs

    programs = find_programs()
    if programs is None:
        sys.exit("PostgreSQL's server is not installed")
    server = PostgreSQL(programs)
    stack.callback(server.remove)
    return server.start().create()
