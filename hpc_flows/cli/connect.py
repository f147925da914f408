"""`hpc-flows connect`: log in to a login node once, for commands, tunnels and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import Command, json_option
from hpc_flows.cli.connect_tunnel import keep_up, server_probe, ssh_options
from hpc_flows.cli.terminal import moment, print_json, print_rows
from hpc_flows.exceptions import SettingsError
from hpc_flows.resources import format_walltime, parse_walltime
from hpc_flows.settings import get_settings
from hpc_flows.settings.endpoint import find_endpoint
from hpc_flows.transports.openssh_login import find_login, log_in, log_out, standing_logins
from hpc_flows.transports.ssh_destination import Destination, parse_destination, target_of
from hpc_flows.transports.tunnel import open_reverse_tunnel

if TYPE_CHECKING:
    from hpc_flows.transports.openssh_login import Login


@click.command(cls=Command)
@click.argument("host", required=False)
@click.option(
    "--keep",
    default="8h",
    show_default=True,
    metavar="TIME",
    help="How long the login stays when nothing uses it.",
)
@click.option("--status", "do_show", is_flag=True, help="List the logins that stay.")
@click.option("--close", "do_close", is_flag=True, help="End the login to HOST, or all of them.")
@click.option("--page", is_flag=True, help="Show the page of the server that runs on HOST.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of this machine for --page; 0 takes any that is free.",
)
@click.option("--offer", is_flag=True, help="Lead relays on HOST to the server on this side.")
@click.option("--home", metavar="PATH", help="HPC_FLOWS_HOME on HOST, for --page and --offer.")
@json_option
def connect(host: str | None, as_json: bool, **options: Any) -> None:  # noqa: FBT001 - click gives flags as they are
    """Log in to a login node once, for commands and tunnels.

    ssh asks what the site wants to know (a password, a second factor); hpc-flows sees no answer.
    Tunnels (`report = "ssh://HOST/..."`) and commands then go through this login without asking.

    HOST is [user@]host[:port], or a Host of your ssh configuration.
    """
    wishes = [name for name in ("do_show", "do_close", "page", "offer") if options[name]]
    if len(wishes) > 1:
        raise click.UsageError("Choose one of --status, --close, --page and --offer.")
    if options["do_show"]:
        _show(host, as_json=as_json)
    elif options["do_close"]:
        _close(host)
    elif host is None:
        raise click.UsageError("Name the HOST to log in to, or ask with --status.")
    else:
        _connect(parse_destination(host), options, as_json=as_json)


def _connect(destination: Destination, options: dict[str, Any], *, as_json: bool) -> None:
    if get_settings().ssh_client == "openssh":
        login, is_new = log_in(destination, ssh_options(), parse_walltime(options["keep"]))
        _tell(login, is_new=is_new, as_json=as_json)
    elif not options["page"]:
        msg = (
            "paramiko keeps no login for other processes. Set `ssh_client = openssh` "
            "(hpc-flows config set ssh_client=openssh), or use a key that is let in."
        )
        raise SettingsError(msg)
    if options["page"]:
        # The page takes the HTTP client, which plain logins do without.
        from hpc_flows.cli.connect_page import show_page  # noqa: PLC0415

        show_page(destination, options["port"], options["home"])
    elif options["offer"]:
        _offer(destination, options["home"])


def _tell(login: Login, *, is_new: bool, as_json: bool) -> None:
    if as_json:
        print_json(login._asdict())
        return
    kept = f"It stays until it has not been used for {format_walltime(login.keep)}"
    begin = "Logged in to" if is_new else "There is a login already to"
    click.echo(f"{begin} {login.destination}. {kept}; `hpc-flows connect --close` ends it.")


def _show(host: str | None, *, as_json: bool) -> None:
    logins = standing_logins()
    if host is not None:
        one = find_login(parse_destination(host), ssh_options())
        logins = [login for login in logins if one and login.control == one.control]
    if as_json:
        print_json([login._asdict() for login in logins])
    elif not logins:
        click.echo("There is no login that stays. `hpc-flows connect HOST` makes one.")
    else:
        rows = [
            (login.destination, moment(login.opened), format_walltime(login.keep), login.pid)
            for login in logins
        ]
        print_rows(("host", "since", "ends when unused for", "process"), rows)


def _close(host: str | None) -> None:
    if host is None:
        logins = standing_logins()
    else:
        one = find_login(parse_destination(host), ssh_options())
        logins = [] if one is None else [one]
    for login in logins:
        log_out(login)
        click.echo(f"Closed the login to {login.destination}.")
    if not logins:
        click.echo(
            "There is no login that stays." if host is None else f"No login to {host} stays."
        )


def _offer(destination: Destination, home: str | None) -> None:
    settings = get_settings()
    endpoint = find_endpoint(settings)
    if endpoint is None:
        msg = (
            "There is no server to offer: none is set (`api_url`), and none was started on this "
            "machine. Start one with `hpc-flows server start`."
        )
        raise SettingsError(msg)
    tunnel = open_reverse_tunnel(
        destination,
        target_of(endpoint.url),
        probe=server_probe(endpoint.url, endpoint.token),
        home=home,
        options=ssh_options(),
    )
    keep_up(tunnel)
