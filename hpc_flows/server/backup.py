"""Copies of the database, made while the server is at work."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing

from sqlalchemy import URL

from hpc_flows.server.db import Database, DatabaseError

#: Seconds that pg_dump may take.
_PATIENCE = 6 * 3600


def backup(database: Database, path: str) -> int:
    """Copy the database, as it is now, into a new file; return its size in bytes.

    SQLite is copied by its own means while it is written to. For PostgreSQL `pg_dump` is called,
    which writes its custom format: `pg_restore` reads it.

    Raises:
        DatabaseError: the file is there already or cannot be written, or pg_dump is missing or
            fails.
    """
    path = os.path.abspath(path)
    draft = f"{path}.part"
    _make(path)
    try:
        _make(draft)
    except DatabaseError:
        os.unlink(path)  # an empty file would pass for a copy, and be in the way of the next one
        raise
    try:
        if database.is_sqlite:
            _copy(str(database.path), draft)
        else:
            _dump(database, draft)
        os.replace(draft, path)
    except BaseException:
        for name in (path, draft):
            if os.path.exists(name):
                os.unlink(name)
        raise
    return os.path.getsize(path)


def _make(path: str) -> None:
    """Make an empty file that nobody else may read, and that two backups cannot share."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        msg = f"{path} is there already: name a file that is not, or remove it first."
        raise DatabaseError(msg) from None
    except OSError as error:
        raise DatabaseError(f"{path} cannot be written: {error.strerror}.") from error


def _copy(source: str, target: str) -> None:
    try:
        with (
            closing(sqlite3.connect(f"file:{_quoted(source)}?mode=ro", uri=True)) as living,
            closing(sqlite3.connect(target)) as copy,
        ):
            # In one step: between several, others write, and each time it would begin anew. With
            # a write-ahead log nobody has to wait for it.
            living.backup(copy)
            # One file and no others beside it, so that it can be moved.
            copy.execute("PRAGMA journal_mode=DELETE")
            if copy.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise DatabaseError(f"The copy of {source} is damaged; look after the disk.")
        with open(target, "rb") as file:
            os.fsync(file.fileno())
    except (sqlite3.Error, OSError) as error:
        raise DatabaseError(f"{source} cannot be copied to {target}: {error}.") from error


def _quoted(path: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 - only here

    return quote(path)


def _dump(database: Database, target: str) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        msg = (
            f"{database.url_shown} is copied with pg_dump, which is not installed here. Install "
            f"PostgreSQL's client programs, or call pg_dump where they are."
        )
        raise DatabaseError(msg)
    address, password = _address(database.url)
    environment = dict(os.environ)
    if password:  # not in the arguments, which everybody on the machine sees
        environment["PGPASSWORD"] = password
    command = [program, "--format=custom", f"--file={target}", "--no-password", "--", address]
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, timeout=_PATIENCE
        )
    except (OSError, subprocess.SubprocessError) as error:
        told = str(getattr(error, "stderr", None) or error).strip()[-500:]
        raise DatabaseError(f"pg_dump cannot copy {database.url_shown}: {told}") from error


def _address(url: URL) -> tuple[str, str]:
    """Return the address of a PostgreSQL without its password, wherever that stands, and that."""
    plain = URL.create(
        "postgresql", url.username, None, url.host, url.port, url.database, url.query
    )
    # As libpq does: what stands in the query wins.
    asked = url.query.get("password", url.password)
    password = asked[-1] if isinstance(asked, tuple) else asked
    return plain.difference_update_query(["password"]).render_as_string(), str(password or "")
