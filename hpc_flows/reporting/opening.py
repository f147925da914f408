"""From settings to sinks: which there are, and who feeds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hpc_flows.exceptions import HpcFlowsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpc_flows.reporting.sink import Sink
    from hpc_flows.settings import Settings

#: Values of the setting `report`, beside `ssh://…`.
AUTO, OFF, BY_RELAY = "auto", "off", "relay"


class Configured(NamedTuple):
    """A sink that the settings name.

    Attributes:
        name: for people.
        open: makes it; what goes wrong is told by raising HpcFlowsError.
    """

    name: str
    open: Callable[[], Sink]


def configured(settings: Settings) -> list[Configured]:
    """Return the sinks that the settings name."""
    return [Configured(name, make) for name, make in _found(settings)]


def driver_reports(settings: Settings) -> bool:
    """Tell whether a flow's own process is to report."""
    return settings.report not in (OFF, BY_RELAY)


def _found(settings: Settings) -> Iterator[tuple[str, Callable[[], Sink]]]:
    through = settings.report.startswith("ssh://")
    if settings.api_url or through:
        yield (settings.api_url or settings.report), lambda: _server(settings)
    elif _runs_here(settings):
        yield "the server on this machine", lambda: _local(settings)
    if settings.prefect_api_url:
        yield settings.prefect_api_url, lambda: _prefect(settings)
    if settings.report_file:
        yield settings.report_file, lambda: _file(settings.report_file or "")


def _runs_here(settings: Settings) -> bool:
    from hpc_flows.client.finding import local_server  # noqa: PLC0415 - loads http.client

    return local_server(settings.home) is not None


def _server(settings: Settings) -> Sink:
    from hpc_flows.client.requests import Client  # noqa: PLC0415 - 30 ms with http.client
    from hpc_flows.reporting.server_sink import ServerSink  # noqa: PLC0415 - as above

    if not settings.report.startswith("ssh://"):
        url = settings.api_url or ""
        return ServerSink(Client(url, settings.api_key), url)
    from hpc_flows.reporting.ways import Way  # noqa: PLC0415 - few have tunnels

    way = Way(settings)
    return ServerSink(Client(way.url, way.token, via=way.path), settings.report, way)


def _local(settings: Settings) -> Sink:
    from hpc_flows.client.finding import local_server  # noqa: PLC0415 - as above
    from hpc_flows.client.requests import Client  # noqa: PLC0415 - as above
    from hpc_flows.reporting.server_sink import ServerSink  # noqa: PLC0415 - as above

    found = local_server(settings.home)
    if found is None:
        raise HpcFlowsError("The server on this machine has ended.")
    return ServerSink(Client(found.url, found.token), found.url)


def _prefect(settings: Settings) -> Sink:
    from hpc_flows.reporting.prefect import open_prefect_sink  # noqa: PLC0415 - few have one

    sink = open_prefect_sink(settings)
    if sink is None:  # the setting was looked at before
        raise HpcFlowsError("No Prefect server is configured: prefect_api_url is not set.")
    return sink


def _file(path: str) -> Sink:
    from hpc_flows.reporting.file_sink import FileSink  # noqa: PLC0415 - few have one

    return FileSink(path)
