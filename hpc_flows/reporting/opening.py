"""From settings to sinks: which there are, and who feeds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.settings.endpoint import find_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpc_flows.reporting.sink import Sink
    from hpc_flows.settings import Settings


class Configured(NamedTuple):
    """A sink that the settings name.

    Attributes:
        name: for people.
        open: makes it; what goes wrong is told by raising HpcFlowsError.
    """

    name: str
    open: Callable[[], Sink]


def configured(settings: Settings, *, led: bool = False) -> list[Configured]:
    """Return the sinks that the settings name.

    Args:
        settings: those in force.
        led: whether to take a server that has laid a tunnel to this host, where none is named.

    Raises:
        SettingsError: the files of the server on this machine are wrong, or open to others.
    """
    return [
        Configured(name, make) for name, make in _found(settings, led=led and _is_led(settings))
    ]


def _found(settings: Settings, *, led: bool) -> Iterator[tuple[str, Callable[[], Sink]]]:
    if settings.report.startswith("ssh://"):
        yield settings.report, lambda: _tunnelled(settings)
    else:
        endpoint = find_endpoint(settings)
        if endpoint is not None:
            yield endpoint.url, lambda: _server(settings, endpoint.url)
        elif led:
            yield "the server that leads here", lambda: _led_here(settings)
    if settings.prefect_api_url:
        yield settings.prefect_api_url, lambda: _prefect(settings)
    if settings.report_file:
        yield settings.report_file, lambda: _file(settings.report_file or "")


def _server(settings: Settings, name: str) -> Sink:
    from hpc_flows.client.finding import open_client  # noqa: PLC0415 - 30 ms with http.client
    from hpc_flows.reporting.server_sink import ServerSink  # noqa: PLC0415 - as above

    return ServerSink(lambda: open_client(settings, patience=0.0), name)


def _is_led(settings: Settings) -> bool:
    from hpc_flows.transports.tunnel_published import published  # noqa: PLC0415 - for relays only

    return bool(published(settings.home))


def _led_here(settings: Settings) -> Sink:
    from hpc_flows.client.errors import NoServer  # noqa: PLC0415 - as above
    from hpc_flows.client.requests import Client  # noqa: PLC0415 - as above
    from hpc_flows.reporting.server_sink import ServerSink  # noqa: PLC0415 - as above
    from hpc_flows.transports.tunnel_published import published  # noqa: PLC0415 - as above

    def find() -> Client:
        found = published(settings.home)
        if not found:
            raise NoServer("The server that had laid a tunnel to this host has taken it back.")
        return Client(found[-1].url, settings.api_key)

    return ServerSink(find, "the server that leads here")


def _tunnelled(settings: Settings) -> Sink:
    from hpc_flows.client.requests import Client  # noqa: PLC0415 - as above
    from hpc_flows.reporting.server_sink import ServerSink  # noqa: PLC0415 - as above
    from hpc_flows.reporting.ways import Way  # noqa: PLC0415 - few have tunnels

    way = Way(settings)
    return ServerSink(lambda: Client(way.url, way.token, via=way.path), settings.report, way)


def _prefect(settings: Settings) -> Sink:
    from hpc_flows.reporting.prefect import open_prefect_sink  # noqa: PLC0415 - few have one

    sink = open_prefect_sink(settings)
    if sink is None:  # the setting was looked at before
        raise HpcFlowsError("No Prefect server is configured: prefect_api_url is not set.")
    return sink


def _file(path: str) -> Sink:
    from hpc_flows.reporting.file_sink import FileSink  # noqa: PLC0415 - few have one

    return FileSink(path)
