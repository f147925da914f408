"""`hpc-flows server`: the server that keeps and shows what runs report."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import LazyGroup, json_option
from hpc_flows.cli.terminal import count, moment, print_fields, print_json
from hpc_flows.client import ClientError, open_client
from hpc_flows.exceptions import ServerError
from hpc_flows.settings import get_settings
from hpc_flows.settings.addresses import server_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpc_flows.server.announcing import Announcement
    from hpc_flows.server.plan import Plan, Started

_PORT = 4200
#: A host's name or address, as it stands in the Host header; no port, no path.
_HOST = re.compile(
    r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[?[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]?"
)


@click.group(
    cls=LazyGroup,
    on_use={
        "database": ("hpc_flows.cli.server_database:database", "See to the server's database."),
        "user": ("hpc_flows.cli.server_people:user", "Make, list and close users' accounts."),
        "project": ("hpc_flows.cli.server_people:project", "Let people see each other's runs."),
    },
)
def server() -> None:
    """Start and stop a server, on which all runs are seen in one place.

    Runs need no server; one that is started later is told of them by `hpc-flows server import`.
    """


def loaded(module: str) -> Any:
    """Import and return a module of the server, whose packages are an extra of the installation.

    Raises:
        ServerError: they are not installed.
    """
    import importlib  # noqa: PLC0415 - on use

    try:
        return importlib.import_module(f"hpc_flows.server.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hpc_flows"):
            raise
        raise _not_installed(error.name) from error


def _check_installed() -> None:
    """See that the server's packages are there, without loading them.

    Raises:
        ServerError: they are not.
    """
    from importlib.util import find_spec  # noqa: PLC0415 - on use

    for name in ("alembic", "fastapi", "sqlalchemy", "uvicorn"):
        if find_spec(name) is None:
            raise _not_installed(name)


def _not_installed(name: str | None) -> ServerError:
    return ServerError(
        f"The server needs packages that are not installed ({name}). Install them: "
        f"pip install 'hpc-flows[server]'"
    )


def database_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--database` to a command."""
    option = click.option(
        "--database",
        metavar="URL",
        help="sqlite:////path/to/file or postgresql://user@host/name; by default as the setting "
        "server_database says.",
    )
    return option(function)


def database_url(wanted: str | None) -> str:
    """Return the address of the database that a command means.

    Raises:
        SettingsError: it is none.
    """
    settings = get_settings()
    if wanted is not None:
        from hpc_flows.settings import find_setting  # noqa: PLC0415 - only to check it

        wanted = find_setting("server_database").parse(wanted, "--database")
    url: str = loaded("plan").database_url(settings, wanted)
    return url


def _host_names(_: click.Context, _option: click.Parameter, names: tuple[str, ...]) -> Any:
    """Refuse what no browser calls a host by: it would allow nothing, and nobody would know why."""
    for name in names:
        if not _HOST.fullmatch(name):
            message = f"{name!r} is no name of a host: give it alone, such as runs.site.edu."
            raise click.BadParameter(message)
    return names


def _web_address(_: click.Context, _option: click.Parameter, url: str | None) -> str | None:
    """Refuse what no browser can be sent to."""
    if url is None:
        return None
    try:
        is_address = server_url(url).startswith("http")
    except ValueError:
        is_address = False
    if not is_address:
        message = f"{url!r} is no address: begin with https:// or http:// and name the host."
        raise click.BadParameter(message)
    return url


@server.command()
@click.option("--host", help="Address to listen on, such as 127.0.0.1 or 0.0.0.0 (all).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes any that is free.")
@click.option("--socket", metavar="PATH", help="Listen on a Unix socket instead.")
@database_option
@click.option("--background", is_flag=True, help="Start it as a process of its own and return.")
@click.option("--tls-cert", metavar="FILE", help="Certificate chain (PEM), for https.")
@click.option("--tls-key", metavar="FILE", help="Key of the certificate (PEM).")
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    callback=_host_names,
    metavar="NAME",
    help="One more name by which browsers may call it; may be given several times.",
)
@click.option(
    "--public-url",
    callback=_web_address,
    metavar="URL",
    help="Where browsers see it, behind a proxy.",
)
@click.option("--prefix", default="", metavar="PATH", help="Path that the proxy puts before ours.")
def start(background: bool, database: str | None, **options: Any) -> None:  # noqa: FBT001 - click gives flags as they are
    r"""Start the server.

    Without --host, --port and --socket it listens on 127.0.0.1:4200; where others may be logged
    in (you came over SSH, there is a batch command, or another person's process runs), on a Unix
    socket that only you can reach.

    \b
      hpc-flows server start --background
      hpc-flows server start --host 0.0.0.0 --tls-cert site.pem --tls-key site.key
    """
    _check_installed()
    plan = _plan(database, options)
    if background:
        _print_started(loaded("detached").start_in_background(plan))
        return
    launch = loaded("launch")
    launch.log_to_stderr()
    launch.serve(plan, _print_started)
    click.echo("The server has ended.")


def _plan(database: str | None, options: dict[str, Any]) -> Plan:
    settings = get_settings()
    for name in ("tls_cert", "tls_key"):
        if options[name] is not None:
            options[name] = os.path.abspath(options[name])
    options["allow_hosts"] = tuple(options["allow_hosts"])
    options["prefix"] = _prefix(options["prefix"])
    plan: Plan = loaded("plan").Plan(
        home=settings.home,
        database=database_url(database),
        retention_days=settings.server_retention_days,
        **options,
    )
    return plan


def _prefix(text: str) -> str:
    clean = text.strip("/")
    return f"/{clean}" if clean else ""


def _print_started(started: Started) -> None:
    where = f"on {started.socket}" if started.socket else f"at {started.url}"
    click.echo(f"The server is up {where} (process {started.pid}): {started.why}.")
    click.echo(f"  database  {started.database}")
    click.echo(f"  token     {started.token_file}")
    if started.socket:
        _print_forward(started.socket)
    click.echo("  log in, once, within two minutes (`hpc-flows server login` makes another link):")
    click.echo(f"    {started.link}")


def _print_forward(socket: str, port: int = _PORT) -> None:
    click.echo("  for the browser, on the machine where it runs:")
    click.echo(f"    ssh -N -L {port}:{socket} {os.uname().nodename}")


@server.command()
@json_option
def status(as_json: bool) -> int:  # noqa: FBT001 - click gives flags as they are
    """Say whether the server runs, and where; the exit status is 1 when it does not."""
    said = loaded("announcing").read(get_settings().home)
    answer = _asked() if said is not None and said.is_alive else None
    if as_json:
        print_json({"server": None if said is None else said._asdict(), "answers": answer})
    elif said is None:
        click.echo("No server was started in this home. Start one: hpc-flows server start")
    else:
        _print_status(said, answer)
    return 0 if isinstance(answer, dict) else 1


def _asked() -> dict[str, Any] | str:
    """Return what the server says of itself, or why it says nothing."""
    try:
        with open_client(get_settings(), patience=0.0, timeout=5.0) as client:
            found: dict[str, Any] = client.get("/me")
    except ClientError as error:
        return str(error)
    return found


def _print_status(said: Announcement, answer: dict[str, Any] | str | None) -> None:
    place = {"address": said.url, "process": f"{said.pid} on {said.host}"}
    place |= {"started": moment(said.started), "database": said.database}
    if isinstance(answer, dict):
        print_fields({"state": f"up (version {answer['version']})", **place})
    elif answer is not None:
        print_fields({"state": "its process lives and does not answer", **place, "why": answer})
    elif said.is_here:
        print_fields({"state": "has ended without saying so", **place})
    else:
        print_fields({"state": f"cannot be told from here; look on {said.host}", **place})


@server.command()
@click.option("--force", is_flag=True, help="Kill it; relays send again what it had not kept.")
def stop(force: bool) -> None:  # noqa: FBT001 - click gives flags as they are
    """Stop the server; runs go on and are reported once it is back."""
    said = loaded("detached").stop(get_settings().home, force=force)
    if said is None:
        click.echo("No server runs in this home.")
    else:
        click.echo(f"The server at {said.url} (process {said.pid}) has ended.")


@server.command()
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["read", "control", "admin"]),
    help="What the browser may do; by default all that you may.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=_PORT,
    show_default=True,
    help="The port that you forward to a server on a Unix socket.",
)
def login(scopes: Sequence[str], port: int) -> None:
    """Print a link that logs a browser in, once, within two minutes."""
    wanted = {"scopes": list(scopes)} if scopes else {}
    with open_client(get_settings()) as client:
        url = str(client.post("/login-codes", wanted)["url"])
        socket = client.address.socket
    if socket:
        _print_forward(socket, port)
        url = url.replace(f"//127.0.0.1:{_PORT}/", f"//127.0.0.1:{port}/", 1)
    click.echo(url)


@server.command("import")
@click.argument("home", required=False, type=click.Path(exists=True, file_okay=False))
@click.option("--run", "runs", multiple=True, metavar="ID", help="Only this run; may be repeated.")
@database_option
def import_(home: str | None, runs: Sequence[str], database: str | None) -> int:
    """Take runs into the database from their journals, such as those made before it.

    HOME is the home folder whose runs are taken; yours by default. A server may run meanwhile,
    and what it knows already is not doubled. How far each journal was read is remembered in the
    database: another import reads what has come since.
    """
    owning, imports = loaded("owning"), loaded("imports")
    with owning.opened(database_url(database)) as opened:
        owning.made_ready(opened)
        made = imports.import_home(
            opened,
            os.path.abspath(home or get_settings().home),
            owning.own_user(opened),
            wanted=list(runs) or None,
            say=click.echo,
        )
    click.echo(f"{count(len(made.runs), 'run')} with {count(made.events, 'event')} taken.")
    if made.repeated:
        click.echo(f"{count(made.repeated, 'event')} of those read were there already.")
    if made.unchanged:
        click.echo(f"{count(made.unchanged, 'run')} had nothing new since the last import.")
    for run, why in made.left.items():
        click.echo(f"{run} was left out: {why}", err=True)
    if made.refused:
        click.echo(f"{count(made.refused, 'line')} could not be read.", err=True)
    return 1 if made.refused or made.left else 0
