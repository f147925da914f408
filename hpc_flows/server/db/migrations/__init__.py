"""Migrations: the steps from each released version of the tables to the newest."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FOLDER = os.path.dirname(os.path.abspath(__file__))


def newest_version() -> str:
    """Return the name of the newest version of the tables."""
    return str(ScriptDirectory(_FOLDER).get_current_head())


def version_of(connection: Connection) -> str | None:
    """Return the version of the tables of a database; None if it has none."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection, version: str = "head") -> None:
    """Take all steps from the version that a database has to another one.

    Raises:
        LookupError: the database's version is none of ours.
    """
    found = version_of(connection)
    known = {script.revision for script in ScriptDirectory(_FOLDER).walk_revisions()}
    if found is not None and found not in known:
        raise LookupError(found)
    connection.rollback()
    config = Config()
    config.set_main_option("script_location", _FOLDER.replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, version)
