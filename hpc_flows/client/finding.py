"""A client of the server that the settings mean: the named one, or that of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.client.errors import NoServer
from hpc_flows.client.requests import Client
from hpc_flows.settings.endpoint import find_endpoint

if TYPE_CHECKING:
    from hpc_flows.settings import Settings


def open_client(settings: Settings, *, patience: float = 10.0, timeout: float = 30.0) -> Client:
    """Return a client of the server that the settings mean.

    Args:
        settings: `api_url` and `api_key`, or the home whose server runs on this machine.
        patience: as that of `Client`.
        timeout: as that of `Client`.

    Raises:
        NoServer: there is none.
        SettingsError: the files of the server on this machine are wrong, or open to others.
    """
    found = find_endpoint(settings)
    if found is None:
        msg = (
            "No server is configured, and none runs on this machine. Start one with `hpc-flows "
            "server start --background`, or name one: `hpc-flows config set api_url=https://…`."
        )
        raise NoServer(msg)
    return Client(found.url, found.token, patience=patience, timeout=timeout)
