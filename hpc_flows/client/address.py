"""Addresses of servers: `http(s)://host:port/prefix`, or `unix:///path/to.sock`."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import urlsplit

from hpc_flows.client.errors import NoServer

_PORTS = {"http": 80, "https": 443}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Address(NamedTuple):
    """Where a server listens.

    Attributes:
        scheme: `http`, `https` or `unix`.
        host, port: of the first two.
        prefix: what stands before `/api/v1` in paths; empty, or `/something`.
        socket: the path of a Unix socket; with `http` and `https`, of the near end of a tunnel
            through which the host is reached.
    """

    scheme: str
    host: str = "localhost"
    port: int = 0
    prefix: str = ""
    socket: str = ""

    @property
    def is_encrypted(self) -> bool:
        """Whether what is sent can be read by nobody else, who also is whom we think it is."""
        return self.scheme == "https"

    @property
    def is_near(self) -> bool:
        """Whether it is on this machine, so that no proxy stands between."""
        return bool(self.socket) or self.host in _LOOPBACK

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.socket}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.prefix}"


def parse_address(url: str) -> Address:
    """Return the address that a setting `api_url` names; a trailing `/api/v1` is taken off.

    Raises:
        NoServer: it names none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _unreadable(url, str(error)) from None
    if parts.username or parts.password:
        raise _unreadable(url, "a password has no place in it; set HPC_FLOWS_API_KEY", hide=True)
    if parts.scheme == "unix":
        if parts.netloc or not os.path.isabs(parts.path):
            raise _unreadable(url, "a socket's path must be whole: unix:///path/to.sock")
        return Address("unix", socket=parts.path)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise _unreadable(url, "it must be like https://host:4200 or unix:///path/to.sock")
    if parts.query or parts.fragment:
        raise _unreadable(url, "leave out what follows '?' or '#'")
    prefix = parts.path.rstrip("/").removesuffix("/api/v1").rstrip("/")
    number = _PORTS[parts.scheme] if port is None else port
    return Address(parts.scheme, parts.hostname, number, prefix)


def _unreadable(url: str, why: str, *, hide: bool = False) -> NoServer:
    shown = "which is set" if hide else repr(url)
    return NoServer(f"The address of the server, {shown}, cannot be used: {why}.")
