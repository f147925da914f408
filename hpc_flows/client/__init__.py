"""The client of a hpc_flows server, made of the standard library only.

`open_client(settings)` gives the `Client` of the server that the settings name, and `Api(client)`
asks it what runs there are.
"""

from __future__ import annotations

from hpc_flows.client.api import Api
from hpc_flows.client.errors import (
    ClientError,
    ForeignServer,
    NoServer,
    ServerBusy,
    ServerRefusal,
    ServerUnreachable,
)
from hpc_flows.client.finding import open_client
from hpc_flows.client.requests import Client, Response

__all__ = [
    "Api",
    "Client",
    "ClientError",
    "ForeignServer",
    "NoServer",
    "Response",
    "ServerBusy",
    "ServerRefusal",
    "ServerUnreachable",
    "open_client",
]
