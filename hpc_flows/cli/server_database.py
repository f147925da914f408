"""`hpc-flows server database`: its tables, and copies of it."""

from __future__ import annotations

import os

import click

from hpc_flows.cli.command import LazyGroup
from hpc_flows.cli.server import database_option, database_url, loaded


@click.group(cls=LazyGroup)
def database() -> None:
    """See to the server's database."""


@database.command()
@database_option
def upgrade(database: str | None) -> None:
    """Bring the tables to this version of hpc_flows; make a backup before.

    The server must not run meanwhile.
    """
    owning = loaded("owning")
    with owning.opened(database_url(database)) as opened, owning.held(opened):
        version = opened.migrate()
    click.echo(f"The tables have version {version}.")


@database.command()
@click.argument("file", type=click.Path(dir_okay=False))
@database_option
def backup(file: str, database: str | None) -> None:
    """Copy the database into FILE, while the server may go on.

    Relays notice when an old copy comes back, and send what it lacks.
    """
    owning = loaded("owning")
    target = os.path.abspath(file)
    with owning.opened(database_url(database)) as opened:
        loaded("backup").backup(opened, target)
    click.echo(f"{target} is a copy of the database as it is now.")
