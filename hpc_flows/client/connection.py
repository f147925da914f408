"""One connection to a server: TCP, TLS or a Unix socket, through a proxy where there is one."""

from __future__ import annotations

import os
import socket
import ssl
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from hpc_flows.client.errors import ServerUnreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpc_flows.client.address import Address

#: Longest path of a Unix socket, as the kernel has it (108 with its end).
_LONGEST_SOCKET = 107
_DEFAULT_PROXY_PORT = 8080
#: Most bytes of an answer that are read: lists are paged, so nothing that is right is longer.
MOST_ANSWER = 64 * 1024 * 1024

FAILURES = (OSError, HTTPException)


class RawResponse(NamedTuple):
    """An answer as it came.

    Attributes:
        status: HTTP's number.
        headers: by lower-case name.
        body: its bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class _SocketConnection(HTTPConnection):
    """HTTP, or HTTPS, through a Unix socket."""

    def __init__(self, address: Address, timeout: float) -> None:
        super().__init__(address.host, address.port or None, timeout=timeout)
        self._path = address.socket
        self._name = address.host if address.is_encrypted else ""

    def connect(self) -> None:
        if len(os.fsencode(self._path)) > _LONGEST_SOCKET:
            raise OSError(f"the socket's path is longer than {_LONGEST_SOCKET} bytes: {self._path}")
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            found.settimeout(self.timeout)
            found.connect(self._path)
            if self._name:
                found = ssl.create_default_context().wrap_socket(found, server_hostname=self._name)
        except BaseException:
            found.close()
            raise
        self.sock = found


class Connection:
    """Requests to one server, over one connection that is kept as long as the server keeps it.

    Not for several threads at once.

    Args:
        address: where it listens.
        timeout: seconds until a request that makes no progress is given up.

    Attributes:
        fresh: whether nothing has been asked over the connection yet.
    """

    def __init__(self, address: Address, timeout: float = 30.0) -> None:
        self.address = address
        self.timeout = timeout
        self._proxied = False
        self._open: HTTPConnection | None = None
        self.fresh = True

    def __str__(self) -> str:
        return str(self.address)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> RawResponse:
        """Ask once and return what was answered, whatever its status.

        Args:
            method: HTTP's.
            path: beginning with `/`; the address's prefix is put before it.
            body: what to send.
            headers: more headers.

        Raises:
            ServerUnreachable: there was no whole answer.
        """
        try:
            response = self.begin(method, path, body, headers)
            content = response.read(MOST_ANSWER)
        except FAILURES as error:
            self.close()
            raise self._unreachable(error) from error
        if response.will_close:
            self.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        return RawResponse(response.status, found, content)

    def begin(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """Ask, and return the answer with its body unread, for answers that have no end.

        Raises:
            OSError, HTTPException: there was no answer.
        """
        connection = self.connect()
        self.fresh = False
        whole = self.address.prefix + path
        if self._proxied:
            whole = f"http://{self.address.host}:{self.address.port}{whole}"
        connection.request(method, whole, body, dict(headers or {}))
        return connection.getresponse()

    def connect(self) -> HTTPConnection:
        """Return the connection, made if there is none."""
        if self._open is None:
            self._open = self._made()
            self.fresh = True
        return self._open

    def _made(self) -> HTTPConnection:
        address = self.address
        if address.socket:
            return _SocketConnection(address, self.timeout)
        kind = HTTPSConnection if address.is_encrypted else HTTPConnection
        proxy = _proxy_of(address)
        self._proxied = proxy is not None and not address.is_encrypted
        if proxy is None:
            return kind(address.host, address.port, timeout=self.timeout)
        made = kind(*proxy, timeout=self.timeout)
        if address.is_encrypted:
            made.set_tunnel(address.host, address.port)
        return made

    def _unreachable(self, error: BaseException) -> ServerUnreachable:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ServerUnreachable(
            f"The server at {self.address} does not answer: {why}. Is it running, and can it be "
            f"reached from {os.uname().nodename}?"
        )

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        if self._open is not None:
            self._open.close()
            self._open = None


def _proxy_of(address: Address) -> tuple[str, int] | None:
    """Return host and port of the proxy that the environment names for an address."""
    if address.is_near or proxy_bypass(address.host):
        return None
    found = getproxies_environment()
    text = found.get(address.scheme) or found.get("all")
    if not text:
        return None
    parts = urlsplit(text if "://" in text else f"http://{text}")
    return (parts.hostname or "", parts.port or _DEFAULT_PROXY_PORT) if parts.hostname else None
