"""Where commands learn of flow runs: from a server, or from the journals of this home.

Both give the same rows, in the shapes of the server's API: times are seconds since 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import click

from hpc_flows.cli.trouble import complain
from hpc_flows.exceptions import ServerError
from hpc_flows.settings import get_settings
from hpc_flows.settings.endpoint import find_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpc_flows.client import Api

    Row = dict[str, Any]


class Source(Protocol):
    """What the commands ask; a run that is not there is an UnknownRun.

    Attributes:
        place: where the rows come from, in words.
        home: the home folder whose runs these are, or None.
        api: asks the server whose runs these are, or None.
    """

    place: str
    home: str | None
    api: Api | None

    def flow_runs(self, *, state: str | None, flow: str | None, limit: int) -> list[Row]:
        """Return runs that are no subflow's, the newest first; 0 sets no limit."""

    def flow_run(self, wanted: str) -> Row:
        """Return the flow run of a name, an id or the beginning of one, or `latest`."""

    def named(self, wanted: str) -> Row:
        """Return of a flow run `id` and `run`, the id of the run that it is part of."""

    def task_runs(
        self, flow_run: Row, *, task: str | None, state: str | None, limit: int
    ) -> tuple[list[Row], int]:
        """Return the first task runs of a flow run, and how many there are."""

    def task_run(self, wanted: str, flow_run: str | None) -> Row:
        """Return the task run of an id, or of a name in the flow run that is named."""

    def logs(self, row: Row, *, level: int, task_run: bool) -> Iterator[Row]:
        """Give the log records of a flow run and its task runs, or of a task run, in order."""

    def follow(self, row: Row, *, level: int, task_run: bool) -> Iterator[Row | None]:
        """Give log records as they come until the run has ended; None while there is none."""


def source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--local` to a command that asks a source."""
    return click.option(
        "--local", is_flag=True, help="Read the journals of this home; do not ask the server."
    )(function)


def open_source(*, local: bool) -> Source:
    """Return the server that is configured, or runs on this machine; else this home's journals.

    A server that cannot be reached is told of, and the journals are read in its place.

    Raises:
        ServerError: the server answers, and refuses.
    """
    from hpc_flows.cli.run_journals import Journals  # noqa: PLC0415 - only what is asked

    settings = get_settings()
    endpoint = None if local else find_endpoint(settings)
    if endpoint is None:
        return Journals(settings.home)
    from hpc_flows.cli.run_server import Server  # noqa: PLC0415 - as above
    from hpc_flows.client import Api, Client, ServerBusy, ServerUnreachable  # noqa: PLC0415

    try:
        client = Client(endpoint.url, endpoint.token, timeout=10.0)
        command = click.get_current_context(silent=True)
        if command is not None:  # what is shown may be asked for until the command ends
            command.call_on_close(client.close)
        api = Api(client)
        api.me()
    except (ServerUnreachable, ServerBusy) as error:
        complain(
            f"The server {endpoint.url} cannot be asked: {error} What follows is from the journals "
            f"in {settings.home}."
        )
        return Journals(settings.home)
    except ServerError as error:
        error.add_note("To read the journals of this home instead: --local")
        raise
    return Server(api, endpoint.url, Journals(settings.home))
