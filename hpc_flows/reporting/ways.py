"""The way to a server that can only be reached through an SSH tunnel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.client.requests import Client
from hpc_flows.transports.ssh_destination import SshOptions, parse_report, target_of
from hpc_flows.transports.tunnel import open_tunnel

if TYPE_CHECKING:
    from hpc_flows.settings import Settings
    from hpc_flows.transports.tunnel import Tunnel

#: Seconds that the server may take to prove itself through the tunnel.
_PROBE_TIMEOUT = 10.0
#: Seconds for which a tunnel that is being dialled is waited for.
_MOMENT = 3.0


class Way:
    """A tunnel, and a client's way through it.

    Args:
        settings: `report` (`ssh://…`), `api_url`, `api_key` and `ssh_client` are used.

    Attributes:
        url: the server's address as seen from the far end of the tunnel: TARGET, over HTTP, or
            `api_url` where there is no TARGET.
        token: for it.
    """

    def __init__(self, settings: Settings) -> None:
        destination, target = parse_report(settings.report)
        if target is None:
            self.url = settings.api_url or ""
            target = target_of(self.url)
        else:
            self.url = f"unix://{target.path}" if target.path else f"http://{target}"
        self.token = settings.api_key
        self._tunnel: Tunnel = open_tunnel(
            destination,
            target,
            client=settings.ssh_client,
            probe=self.probe,
            options=SshOptions(config=settings.ssh_config),
        )

    def path(self) -> str:
        """Return the Unix socket to connect to now.

        Raises:
            TransportError: the tunnel is not up.
        """
        return self._tunnel.path()

    def probe(self, path: str) -> None:
        """Have the server prove itself through a socket, before the tunnel is called up.

        Raises:
            ClientError: it does not answer, or is another one.
        """
        with Client(self.url, self.token, timeout=_PROBE_TIMEOUT, via=lambda: path) as client:
            client.identity(fresh=True)

    def wait(self) -> None:
        """Give a tunnel that is being dialled a moment to be up."""
        self._tunnel.wait_until_up(_MOMENT)

    def suspect(self) -> None:
        """Say that a request failed."""
        self._tunnel.suspect()

    def line(self) -> str:
        """Return how the tunnel stands."""
        return self._tunnel.status().line()

    def close(self) -> None:
        """Close the tunnel."""
        self._tunnel.close()
