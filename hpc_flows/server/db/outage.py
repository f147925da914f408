"""Whether an error of the database says that it cannot be used now, or that a request is wrong.

Relays wait while it lasts. Were they told that something is wrong with what they have sent, they
would look for the line that is to blame, and put good ones aside.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

#: What SQLite calls a file that is locked, out of memory, read-only, a failing disk, a full one, a
#: file that cannot be opened, and a lock that others hold for too long.
_SQLITE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
#: PostgreSQL's class of errors for statements that are larger than it can take.
_TOO_LARGE = "54"


def is_outage(error: BaseException) -> bool:
    """Tell whether the same request may well succeed later."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    original = error.orig
    if isinstance(original, sqlite3.Error):
        # The upper bits say more exactly what it was. Errors of Python's own have no code.
        return (getattr(original, "sqlite_errorcode", 0) or 0) & 0xFF in _SQLITE
    # Of psycopg's, these are the connection, the server's state and its resources.
    state = getattr(original, "sqlstate", None) or ""
    return isinstance(error, OperationalError) and not state.startswith(_TOO_LARGE)
