"""`hpc-flows flow-run cancel|pause|resume|delete`: what changes a run.

Where the run's folder is in this home, its driver is asked through it; else the server passes the
wish on to the run's relay. Either way it is told whether the driver has heard of it.
"""

from __future__ import annotations

import getpass
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from hpc_flows.cli.command import Command
from hpc_flows.cli.run_journals import Journals
from hpc_flows.cli.run_source import open_source, source_options
from hpc_flows.cli.runs import RunName
from hpc_flows.cli.runs_cancel import cancel_run, driver_may_live
from hpc_flows.cli.terminal import duration
from hpc_flows.engine.requests import ask, is_there
from hpc_flows.exceptions import UnknownRun
from hpc_flows.journal.index import find_run, summarise
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpc_flows.cli.run_source import Row
    from hpc_flows.engine.requests import Action
    from hpc_flows.journal.index import RunSummary

#: Seconds between two looks whether the driver has heard.
_PERIOD = 0.25

_DONE = {"cancel": "is being cancelled", "pause": "is paused", "resume": "goes on"}


def _wish(help_of_timeout: str, timeout: float) -> Callable[[Callable[..., Any]], Any]:
    """Add the options that all wishes have."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.argument("run", type=RunName()),
            click.option("--reason", help="Why; kept in the journal."),
            click.option("--timeout", default=timeout, show_default=True, help=help_of_timeout),
            source_options,
        ):
            function = option(function)
        return function

    return add


@click.command(cls=Command, short_help="Cancel a flow run and its jobs.")
@_wish("Seconds to wait for the driver to end.", 60.0)
def cancel(run: str, reason: str | None, timeout: float, local: bool) -> int:  # noqa: FBT001 - click gives flags as they are
    """Cancel a flow run: its driver is asked to cancel its jobs and to end.

    `hpc-flows runs cancel` also cancels the jobs of a run whose driver is gone.
    """
    folder, _ = _found_here(run)
    if folder is not None:
        return cancel_run(folder, reason or "hpc-flows flow-run cancel", timeout)
    return _through_server(run, "cancel", reason, timeout, local=local)


@click.command(cls=Command, short_help="Let nothing more begin in a flow run.")
@_wish("Seconds to wait for the driver to say that it has heard.", 10.0)
def pause(run: str, reason: str | None, timeout: float, local: bool) -> int:  # noqa: FBT001 - click gives flags as they are
    """Pause a flow run: no task run, subflow or job of it begins until it is resumed.

    What has begun goes on to its end, jobs in the queue among it.
    """
    folder, subflow = _found_here(run)
    if folder is None:
        return _through_server(run, "pause", reason, timeout, local=local)
    about = summarise(folder)
    if _is_over(about, "paused"):
        return 1
    if about.state_type == "PAUSED":
        click.echo(f"{about.name} is paused already: {about.message}")
        return 0
    return _ask_driver(folder, "pause", reason, timeout, subflow)


@click.command(cls=Command, short_help="Let a paused flow run go on.")
@_wish("Seconds to wait for the driver to say that it has heard.", 10.0)
def resume(run: str, reason: str | None, timeout: float, local: bool) -> int:  # noqa: FBT001 - click gives flags as they are
    """Let a paused flow run go on, and all that is paused in it."""
    folder, subflow = _found_here(run)
    if folder is None:
        return _through_server(run, "resume", reason, timeout, local=local)
    about = summarise(folder)
    if _is_over(about, "resumed"):
        return 1
    if about.state_type != "PAUSED" and not is_there(folder, "pause", "paused"):
        click.echo(f"{about.name} is not paused; it is {about.state_name}.", err=True)
        return 1
    return _ask_driver(folder, "resume", reason, timeout, subflow)


@click.command(cls=Command, short_help="Delete a flow run that has ended.")
@click.argument("run", type=RunName())
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@source_options
def delete(run: str, yes: bool, local: bool) -> int:  # noqa: FBT001 - click gives flags as they are
    """Delete a flow run that has ended, with its task runs, logs and results.

    With a server it is deleted there, and its folder stays; --local deletes the folder.
    """
    source = open_source(local=local)
    row = source.flow_run(run)
    if source.api is not None:
        if not yes and sys.stdin.isatty():
            click.confirm(f"Delete {row['name']} ({row['flow']}) on {source.place}?", abort=True)
        source.api.delete_flow_run(row["id"])
        click.echo(f"Deleted {row['name']} on {source.place}.")
        return 0
    return _delete_folder(find_run(get_settings().home, row["run"]), row, yes=yes)


def _delete_folder(folder: str, row: Row, *, yes: bool) -> int:
    about = summarise(folder)
    if row["id"] != row["run"]:
        click.echo(f"{row['name']} is a subflow; delete its flow run {about.name}.", err=True)
        return 1
    if about.ended is None and driver_may_live(about):
        click.echo(f"{about.name} has not ended: {about.state_name}. Cancel it first.", err=True)
        return 1
    if not yes and sys.stdin.isatty():
        click.confirm(f"Delete {about.name} ({about.flow}) and its folder {folder}?", abort=True)
    # Out of the list in one step; what is left after an interruption is no half of a run.
    away = os.path.join(os.path.dirname(os.path.dirname(folder)), "deleted", about.id)
    os.makedirs(os.path.dirname(away), mode=0o700, exist_ok=True)
    os.rename(folder, away)
    shutil.rmtree(away)
    click.echo(f"Deleted {about.name}, and its folder {folder}.")
    return 0


# Here ---------------------------------------------------------------------------------------------


def _found_here(run: str) -> tuple[str | None, str | None]:
    """Return the folder of a run in this home, and the id of the subflow in it that is meant."""
    home = get_settings().home
    try:
        row = Journals(home).named(run)
    except UnknownRun:
        return None, None
    return find_run(home, row["run"]), row["id"] if row["id"] != row["run"] else None


def _is_over(about: RunSummary, what: str) -> bool:
    """Tell whether nobody is there who could do it, having said so."""
    if about.ended is not None:
        click.echo(f"{about.name} has ended: {about.state_name}. Nothing was {what}.", err=True)
        return True
    if not driver_may_live(about):
        click.echo(
            f"The driver of {about.name}, process {about.pid} on {about.host}, is gone: nothing "
            f"begins any more, and nothing can be {what}.",
            err=True,
        )
        return True
    return False


def _ask_driver(
    folder: str, action: Action, reason: str | None, timeout: float, subflow: str | None
) -> int:
    more = {"by": getpass.getuser()} | ({} if subflow is None else {"flow_run": subflow})
    path = ask(folder, action, reason or f"hpc-flows flow-run {action}", **more)
    deadline = time.monotonic() + timeout
    while is_there(folder, action) and time.monotonic() < deadline:
        time.sleep(_PERIOD)
    about = summarise(folder)
    if not is_there(folder, action):
        click.echo(f"{about.name} {_DONE[action]}.")
        return 0
    click.echo(
        f"The driver on {about.host} has not answered within {duration(timeout)}. It does so once "
        f"it sees {path}; remove that file to take the request back.",
        err=True,
    )
    return 1


# Through the server -------------------------------------------------------------------------------


def _through_server(
    run: str, action: Action, reason: str | None, timeout: float, *, local: bool
) -> int:
    source = open_source(local=local)
    row = source.flow_run(run)
    if source.api is None:
        raise UnknownRun(f"There is no flow run {run!r} in {source.home}.")
    command: Any = source.api.ask(row["id"], action, reason or f"hpc-flows flow-run {action}")
    deadline = time.monotonic() + timeout
    while command["status"] in ("queued", "sent") and time.monotonic() < deadline:
        time.sleep(_PERIOD)
        command = {**command, **source.api.command(command["id"])}
    return _tell(row["name"], action, command, timeout)


def _tell(name: str, action: Action, command: Row, timeout: float) -> int:
    """Say what became of a wish; return the exit status."""
    status, message = command["status"], command.get("message")
    if status == "delivered":
        click.echo(f"{name} {_DONE[action]}: its driver has been told.")
        return 0
    if status in ("refused", "failed"):
        click.echo(f"The wish to {action} {name} was {status}: {message or 'no reason'}", err=True)
        return 1
    heard = command.get("heard")
    last = "has never been heard" if heard is None else f"was last heard {duration(heard)} ago"
    click.echo(
        f"The server has taken the wish to {action} {name}, and could not pass it on within "
        f"{duration(timeout)}: the run's relay {last}. It is passed on once that speaks again.",
        err=True,
    )
    return 1
