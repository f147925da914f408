"""`hpc-flows connect HOST --page`: the page of a server on a login node, in the browser here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hpc_flows.cli.connect_tunnel import keep_up, server_probe, ssh_options
from hpc_flows.client.requests import Client
from hpc_flows.exceptions import ServerError, TransportError
from hpc_flows.settings import get_settings
from hpc_flows.transports.openssh import OpenSshTransport
from hpc_flows.transports.ssh_destination import target_of
from hpc_flows.transports.ssh_door import Door
from hpc_flows.transports.tunnel import open_tunnel

if TYPE_CHECKING:
    from hpc_flows.transports.base import Transport
    from hpc_flows.transports.ssh_destination import Destination
    from hpc_flows.transports.tunnel import Tunnel

#: Prints the name of the node, then the two files that a server leaves in its home.
_ASK = """\
h=${1:-${HPC_FLOWS_HOME:-$HOME/.hpc_flows}}
uname -n
echo "$h"
cat "$h/server/endpoint.json" | tr '\\n' ' ' && echo && cat "$h/server/token"
"""
_LINES = 4


class _Server(NamedTuple):
    """A server on the other side: its address as seen from there, and what opens it."""

    url: str
    token: str


def show_page(destination: Destination, port: int, home: str | None) -> None:
    """Lead a port of this machine to the server on a login node, until Ctrl-C.

    Args:
        destination: the login node.
        port: of this machine; 0 takes a free one.
        home: the home folder of hpc_flows there.

    Raises:
        ServerError: there is no server, or it runs on another login node.
        TransportError: the node cannot be asked.
    """
    server = _find(destination, home)
    with (
        open_tunnel(
            destination,
            target_of(server.url),
            probe=server_probe(server.url, server.token),
            client=get_settings().ssh_client,
            options=ssh_options(),
        ) as tunnel,
        Door(tunnel, port) as door,
    ):
        keep_up(tunnel, lambda: _print_link(server, tunnel, door.port))


def _print_link(server: _Server, tunnel: Tunnel, port: int) -> None:
    with Client(server.url, server.token, via=tunnel.path) as client:
        code = client.post("/login-codes", {})["code"]
    click.echo(f"http://127.0.0.1:{port}/#/login?code={code}")
    click.echo(
        "The link logs a browser in, once, within two minutes. Ctrl-C closes the tunnel.", err=True
    )


def _find(destination: Destination, home: str | None) -> _Server:
    with _transport(destination) as transport:
        done = transport.run(["/bin/sh", "-c", _ASK, "sh", home or ""])
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) < _LINES:
        there = lines[1] if len(lines) > 1 else "its home"
        msg = (
            f"No server runs on {destination}: there is none in {there}. Start one there with "
            "`hpc-flows server start --background`, or name its home with --home."
        )
        raise ServerError(msg)
    node, _, about, token = lines[-_LINES:]
    return _Server(_address(destination, node, about), token.strip())


def _address(destination: Destination, node: str, about: str) -> str:
    try:
        found: dict[str, Any] = json.loads(about)
        url, host = str(found["url"]), str(found["host"])
    except (ValueError, KeyError, TypeError) as error:
        msg = f"What the server on {destination} has left to be found by cannot be read: {error}."
        raise ServerError(msg) from error
    if host != node:
        msg = f"The server runs on {host}, and this is {node}. Connect to {host} by its name."
        raise ServerError(msg)
    return url


def _transport(destination: Destination) -> Transport:
    if get_settings().ssh_client == "openssh":
        return OpenSshTransport(destination, ssh_options())
    try:
        # Loaded only when chosen: it is not always installed.
        from hpc_flows.transports.paramiko.transport import ParamikoTransport  # noqa: PLC0415
    except ImportError as error:
        raise TransportError("paramiko is not installed: pip install 'hpc-flows[ssh]'.") from error
    return ParamikoTransport(destination, ssh_options(), _ask)


def _ask(question: str, is_secret: bool) -> str:  # noqa: FBT001 - paramiko's questions say it so
    return str(click.prompt(question.rstrip(": "), hide_input=is_secret, err=True))
