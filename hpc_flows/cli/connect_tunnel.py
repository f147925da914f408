"""Tunnels that a command keeps up in the foreground."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from hpc_flows.settings import get_settings
from hpc_flows.transports.ssh_destination import SshOptions
from hpc_flows.transports.tunnel import CLOSED, UP, Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between looks at a tunnel that is kept up in the foreground.
_GLANCE = 0.3
_PROBE_TIMEOUT = 10.0


def ssh_options() -> SshOptions:
    """Return how the settings want ssh connections to be made."""
    return SshOptions(config=get_settings().ssh_config)


def server_probe(url: str, token: str | None) -> Callable[[str], object]:
    """Return a probe by which a server proves itself over a Unix socket.

    Args:
        url: its address as seen from where the tunnel ends.
        token: for it; without one it is only asked whether it lives.
    """
    from hpc_flows.client.requests import Client  # noqa: PLC0415 - only for tunnels

    def probe(path: str) -> object:
        with Client(url, token, timeout=_PROBE_TIMEOUT, via=lambda: path) as client:
            return client.identity(fresh=True) if token else client.get("/health")

    return probe


def keep_up(tunnel: Tunnel, when_up: Callable[[], object] | None = None) -> None:
    """Show how a tunnel stands until the person presses Ctrl-C, then close it.

    Args:
        tunnel: the tunnel.
        when_up: called when it is up for the first time.
    """
    shown = ""
    try:
        while (status := tunnel.status()).state != CLOSED:
            if status.state == UP and when_up is not None:
                when_up()
                when_up = None
            said = status._replace(since=0.0, next_try=None)
            if str(said) != shown:
                shown = str(said)
                click.echo(status.line(), err=True)
            time.sleep(_GLANCE)
    except KeyboardInterrupt:
        click.echo("Closing the tunnel.", err=True)
    finally:
        tunnel.close()
