"""Opening the database: SQLite in a file on local disk, or PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import URL, Connection, create_engine, event, insert, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import NoSuchModuleError as NoDriver

from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.server.db.migrations import newest_version, upgrade, version_of
from hpc_flows.server.db.people import facts
from hpc_flows.settings.addresses import without_password

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds that a writer waits for another process that writes.
PATIENCE = 30.0

#: Key of PostgreSQL's advisory locks: who migrates, and which server claims the database.
_MIGRATES, _SERVES = 0x68706366_0001, 0x68706366_0002

#: Kibibytes of SQLite's page cache of each connection. Ids are random, so that the pages of their
#: index are touched all over.
_CACHE = 65536


#: The oldest SQLite that knows `NULLS LAST` and `UPDATE ... FROM`; it is of 2020.
_OLDEST_SQLITE = (3, 33, 0)


class DatabaseError(HpcFlowsError):
    """The database cannot be opened, is of another version, or refuses what is asked."""


class Database:
    """The server's database.

    Attributes:
        url: where it is, as SQLAlchemy writes it.
        engine: SQLAlchemy's.
        is_sqlite: whether it is a file of SQLite; else it is PostgreSQL.
        path: of the file, or None.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.path = url.database if self.is_sqlite else None
        self.engine = _sqlite(url) if self.is_sqlite else _postgresql(url)
        # An answer is made of several statements: a run that is deleted meanwhile must not be in
        # one and missing in the next. SQLite's transactions see one state anyway.
        snapshot = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._readers = self.engine.execution_options(**snapshot)
        self._writing = Lock()
        self._claim: Connection | None = None

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return "sqlite" if self.is_sqlite else "postgresql"

    @property
    def url_shown(self) -> str:
        """The address without its password."""
        return _told(self.url)

    @property
    def instance(self) -> str:
        """The random name that the database got when it was made.

        Raises:
            DatabaseError: it has none, because it was not migrated.
        """
        with self.reading() as connection:
            found = connection.scalar(select(facts.c.value).where(facts.c.name == "instance"))
        if found is None:
            raise DatabaseError(_not_ours(self.url))
        return str(found)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database and changes nothing."""
        with self._readers.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection in a transaction, which is committed at the end unless it fails.

        SQLite lets one write at a time: threads of this process wait here, in their order, and
        other processes for up to `PATIENCE` seconds.
        """
        if not self.is_sqlite:
            with self.engine.begin() as connection:
                yield connection
            return
        with self._writing, self.engine.connect() as plain:
            connection = plain.execution_options(writes=True)
            with connection.begin():
                yield connection

    def migrate(self) -> str:
        """Bring the tables to this version of hpc_flows; return the version that they have now.

        Raises:
            DatabaseError: a newer version of hpc_flows has made them, or the database refuses.
        """
        try:
            with self.engine.connect() as connection:
                if not self.is_sqlite:
                    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATES})
                    connection.commit()
                try:
                    _upgrade(connection, self.url)
                finally:
                    _let_go(connection, None if self.is_sqlite else _MIGRATES)
            self._name_it()
        except DBAPIError as error:
            raise DatabaseError(_refuses(self.url, error)) from error
        return newest_version()

    def is_current(self) -> bool:
        """Tell whether the tables are those of this version of hpc_flows."""
        with self.reading() as connection:
            return version_of(connection) == newest_version()

    def claim(self) -> bool:
        """Take the database for one server until `close`; tell whether no other one has it.

        Only PostgreSQL has something to ask; of a file the one who opens it has to make sure.
        """
        if self.is_sqlite or self._claim is not None:
            return True
        connection = self.engine.connect()
        asked = text("SELECT pg_try_advisory_lock(:key)")
        if not connection.scalar(asked, {"key": _SERVES}):
            connection.close()
            return False
        connection.commit()
        self._claim = connection
        return True

    def ping(self) -> None:
        """Ask the database for nothing.

        Raises:
            DatabaseError: it does not answer.
        """
        try:
            with self.reading() as connection:
                connection.execute(text("SELECT 1"))
        except DBAPIError as error:
            raise DatabaseError(_refuses(self.url, error)) from error

    def close(self) -> None:
        """Give back all connections, and the claim."""
        claim, self._claim = self._claim, None
        if claim is not None:
            # A PostgreSQL that was restarted meanwhile has let go of it already.
            with suppress(DBAPIError):
                _let_go(claim, _SERVES)
            claim.close()
        self.engine.dispose()

    def _name_it(self) -> None:
        row = {"name": "instance", "value": uuid4().hex}
        try:
            with self.writing() as connection:
                known = select(facts.c.value).where(facts.c.name == "instance")
                if connection.scalar(known) is None:
                    connection.execute(insert(facts), row)
        except IntegrityError:  # another server has just named it
            return


def open_database(url: str) -> Database:
    """Open a database, without making or changing its tables: that is `Database.migrate`.

    Args:
        url: `sqlite:////absolute/path`, or `postgresql://user@host/name` with everything that
            libpq takes.

    Raises:
        DatabaseError: it is no such address, or there is no connection.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise DatabaseError(_no_url(url)) from None
    if parsed.get_backend_name() == "sqlite":
        _prepare_file(parsed)
    elif parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    else:
        raise DatabaseError(_no_url(url))
    try:
        database = Database(parsed)
        with database.engine.connect():
            return database
    except (ImportError, NoDriver) as error:
        msg = (
            f"PostgreSQL needs psycopg, which cannot be loaded ({error}): "
            f"`pip install 'hpc-flows[postgresql]'`."
        )
        raise DatabaseError(msg) from error
    except DBAPIError as error:
        raise DatabaseError(_refuses(parsed, error)) from error


def _upgrade(connection: Connection, url: URL) -> None:
    try:
        upgrade(connection)
    except LookupError as error:
        msg = (
            f"The database {_told(url)} has tables of version {error.args[0]}, which this "
            f"hpc_flows does not know: a newer one has made them. Install that one, or name "
            f"another database in the setting server_database."
        )
        raise DatabaseError(msg) from None


def _let_go(connection: Connection, key: int | None) -> None:
    connection.rollback()
    if key is not None:
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})
        connection.commit()


def _prepare_file(url: URL) -> None:
    path = url.database
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        msg = (
            f"This Python has SQLite {sqlite3.sqlite_version}, and the server needs 3.33 or newer. "
            f"Use a Python that brings its own (of conda or uv), or PostgreSQL."
        )
        raise DatabaseError(msg)
    if not path or path == ":memory:" or not os.path.isabs(path):
        msg = (
            f"{url.render_as_string()!r} names no file: give an absolute path with four slashes, "
            f"such as sqlite:////home/me/.hpc_flows/server/server.db."
        )
        raise DatabaseError(msg)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # Made here, so that nobody else may read it, whatever the umask; SQLite gives the files
        # beside it the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        msg = (
            f"The database {path} cannot be made: {error.strerror}. Name another place in the "
            f"setting server_database."
        )
        raise DatabaseError(msg) from error


def _sqlite(url: URL) -> Any:
    engine = create_engine(
        url,
        connect_args={"timeout": PATIENCE, "isolation_level": None},
        pool_size=8,
        max_overflow=56,
        pool_timeout=PATIENCE,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # WAL lets readers go on while one writes. Without a sync at each commit the last ones may
        # be lost when the machine loses power, never the file: relays notice and send them again.
        for line in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=NORMAL",
            "PRAGMA foreign_keys=ON",
            f"PRAGMA cache_size=-{_CACHE}",
            "PRAGMA temp_store=MEMORY",
            "PRAGMA journal_size_limit=67108864",
        ):
            connection.execute(line)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Who will write says so at once: a reader that becomes a writer may be refused for good.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: URL) -> Any:
    return create_engine(
        url,
        pool_size=8,
        max_overflow=24,
        pool_timeout=PATIENCE,
        hide_parameters=True,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 15, "application_name": "hpc-flows server"},
    )


def _told(url: URL) -> str:
    # SQLAlchemy hides the password before the host, and not the one that libpq takes in the query.
    return without_password(url.render_as_string(hide_password=True))


def _no_url(url: str) -> str:
    shown = url.partition("://")[0]
    return (
        f"{shown!r} is no kind of database that hpc_flows knows: use sqlite:////absolute/path or "
        f"postgresql://user@host:5432/name in the setting server_database."
    )


def _refuses(url: URL, error: DBAPIError) -> str:
    return (
        f"The database {_told(url)} refuses: {str(error.orig).strip()}. See whether the address "
        f"in the setting server_database is right and the database is up."
    )


def _not_ours(url: URL) -> str:
    return (
        f"The database {_told(url)} has no tables of hpc_flows: "
        f"`hpc-flows server database upgrade` makes them."
    )


def now() -> float:
    """Return the time of rows that are written now, in seconds since 1970."""
    return time.time()
