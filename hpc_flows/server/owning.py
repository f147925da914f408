"""The database of the server that is started here: where it is, who has it, whose it is first."""

from __future__ import annotations

import contextlib
import getpass
import os
from typing import TYPE_CHECKING

from hpc_flows.exceptions import ServerError
from hpc_flows.leases import Lease, holder_of, is_stale
from hpc_flows.leases.holder import machine
from hpc_flows.server import announcing
from hpc_flows.server.access import grants, people
from hpc_flows.server.access.tokens import SCOPES
from hpc_flows.server.db import open_database
from hpc_flows.server.db.migrations import version_of
from hpc_flows.server.problems import Problem
from hpc_flows.settings.addresses import without_password

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpc_flows.server.db import Database

_FIRST = "first start"


def own_name() -> str:
    r"""Return the name of who runs this, as the system knows it.

    It is `user-<number>` where the system knows none, or one that no user here can have, such as
    `DOMAIN\name`.
    """
    try:
        return people.check_name(getpass.getuser())
    except (OSError, KeyError, ImportError, Problem):
        return f"user-{os.getuid()}"


@contextlib.contextmanager
def held(database: Database) -> Iterator[None]:
    """Have the database for one server alone.

    Raises:
        ServerError: another server has it.
    """
    shown = without_password(database.url.render_as_string())
    if database.path is None:
        if not database.claim():
            raise ServerError(f"Another server uses the database {shown}. Stop that one first.")
        yield
        return
    path = f"{database.path}.serving"
    lease = Lease.try_acquire(path, note="hpc-flows server")
    if lease is None:
        raise ServerError(
            f"Another server uses the database {shown}: {holder_of(path)}. "
            f"`hpc-flows server status` tells of it, `hpc-flows server stop` stops it, and "
            f"--database takes another file."
        )
    with lease:
        yield


def made_ready(database: Database) -> None:
    """Make the tables of a new database.

    Raises:
        ServerError: it has tables of an older version, which shall not be changed unasked.
    """
    with database.reading() as connection:
        version = version_of(connection)
    if version is None:
        database.migrate()
    elif not database.is_current():
        raise ServerError(
            f"The database has tables of an older version ({version}). Make a copy and upgrade "
            f"it: `hpc-flows server database backup FILE`, `hpc-flows server database upgrade`."
        )


@contextlib.contextmanager
def opened(url: str) -> Iterator[Database]:
    """Open a database and close it at the end.

    Raises:
        ServerError: it is a file that a server on another machine has open.
    """
    _check_machine(url)
    database = open_database(url)
    try:
        yield database
    finally:
        database.close()


def _check_machine(url: str) -> None:
    """See that a file of SQLite's is open on no other machine.

    Its processes share memory. On two machines, which a home folder on NFS invites to, each would
    read and write pages that the other has changed.

    Raises:
        ServerError: a server has it there.
    """
    path = f"{url.removeprefix('sqlite:///')}.serving"
    holder = holder_of(path) if url.startswith("sqlite:///") else None
    if holder is None or not holder.machine or _boot(holder.machine) == _boot(machine()):
        return
    if not is_stale(path):
        raise ServerError(
            f"Another server uses the database {without_password(url)}: {holder}. While it runs, "
            f"the file may be opened on that machine only: do this on {holder.host}."
        )


def _boot(machine: str) -> str:
    """Return the machine without the namespace of processes: containers share its memory."""
    return machine.partition(" ")[0]


def own_user(database: Database) -> int:
    """Return the id of who runs this as a user of the database, made as an admin if missing.

    Raises:
        ServerError: this user's account was closed.
    """
    name = own_name()
    with database.writing() as connection:
        found = people.find_user(connection, name)
        if found is not None:
            return found
        try:
            return people.make_user(connection, name, is_admin=True)
        except Problem:
            raise ServerError(
                f"Your account {name!r} was closed in {database.url_shown}. Let somebody do this "
                f"whose account is open, or do it under that one's name: LOGNAME=NAME hpc-flows ..."
            ) from None


def own_token(database: Database, home: str) -> str:
    """Return the token in the home's token file, made anew where it opens nothing here."""
    text = announcing.read_token(home)
    user = own_user(database)
    with database.writing() as connection:
        if text is not None and grants.find(connection, text) is not None:
            return text
        made = grants.make(connection, grants.Wish(user, _FIRST, SCOPES))
        announcing.write_token(home, made.text)
    return made.text


def first_link(database: Database, base_url: str) -> str:
    """Return a link that logs a browser in once, as who runs this."""
    user = own_user(database)
    scopes = [scope for scope in SCOPES if scope != "report"]
    with database.writing() as connection:
        code = grants.make_code(connection, user, scopes)
    return f"{base_url}/#/login?code={code}"
