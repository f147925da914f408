"""`hpc-flows token`: what opens the server, for relays, programs and people."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, json_option
from hpc_flows.cli.terminal import moment, print_json, print_rows
from hpc_flows.client import open_client
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCOPES = ("report", "read", "control", "admin")
_DAY = 86400.0


@click.group(cls=LazyGroup)
def token() -> None:
    """Make, list and revoke access tokens.

    The server keeps only their hashes: what is shown when one is made is never shown again.
    """


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(_SCOPES),
    required=True,
    help="report: send runs; read; control: cancel and remove; admin. May be repeated.",
)
@click.option("--run", metavar="ID", help="Only to report this one run.")
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    default=90.0,
    show_default=True,
    help="How long it is valid.",
)
@click.option("--never-expires", is_flag=True, help="Valid until it is revoked.")
@click.option("--user", help="Whose it is, for admins; yours by default.")
@json_option
def create(
    name: str,
    scopes: Sequence[str],
    run: str | None,
    days: float,
    never_expires: bool,  # noqa: FBT001 - click gives flags as they are
    user: str | None,
    as_json: bool,  # noqa: FBT001 - as above
) -> None:
    r"""Make a token called NAME and print it.

    \b
      hpc-flows token create laptop --scope read --scope control
      hpc-flows token create login-node --scope report | hpc-flows config set api_key=-
    """
    wanted = {
        "name": name,
        "scopes": list(scopes),
        "run": run,
        "user": user,
        "expires": None if never_expires else time.time() + days * _DAY,
    }
    with open_client(get_settings()) as client:
        made = client.post("/tokens", wanted, patience=0.0)
    if as_json:
        print_json(made)
    else:
        click.echo(made["token"])


@token.command("ls")
@click.option("--all", "everything", is_flag=True, help="Also those that are past or revoked.")
@json_option
def ls(everything: bool, as_json: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """List tokens and the sessions of browsers; an admin sees those of all."""
    with open_client(get_settings()) as client:
        items = client.get("/tokens")["items"]
    shown = [each for each in items if everything or _state(each) == "valid"]
    if as_json:
        print_json(shown)
        return
    print_rows(
        ("id", "name", "kind", "user", "scopes", "run", "expires", "last used", "state"),
        [_row(each) for each in shown],
    )


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    expires = "never" if each["expires"] is None else moment(each["expires"])
    return (
        each["id"],
        each["name"],
        each["kind"],
        each["user"],
        ", ".join(each["scopes"]),
        each["run"] or "",
        expires,
        moment(each["last_used"]),
        _state(each),
    )


def _state(each: dict[str, Any]) -> str:
    if each["revoked"] is not None:
        return "revoked"
    past = each["expires"] is not None and each["expires"] <= time.time()
    return "past" if past else "valid"


@token.command()
@click.argument("id_", metavar="ID")
def revoke(id_: str) -> None:
    """End a token or session at once; ID as `hpc-flows token ls` shows it."""
    with open_client(get_settings()) as client:
        client.request("DELETE", f"/tokens/{id_}")
    click.echo(f"Token {id_} opens nothing any more.")
