"""What every request must pass before a route sees it, and what every answer carries.

A page of a stranger's site, open in the same browser, can make it send requests here (forged
requests), and can give its own host name our address (DNS rebinding). Neither passes: see threat
T3 in the tests.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from hpc_flows.server import bodies
from hpc_flows.server.problems import Problem, refuse, too_large

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

JOURNAL = "application/vnd.hpc-flows.journal"
_TYPES = frozenset({"application/json", JOURNAL, "text/plain"})
#: Types that only their own routes take: a plain text can be sent by any form of any site.
_TEXT_ONLY_FOR = "/attachments/"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_API = "/api/"
_OWN_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
#: On every answer. What the API gives is never to be taken for a page (nosniff), no other site
#: learns where a reader came from, and no page may frame ours.
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)


class Hosts(NamedTuple):
    """By which names the server may be called.

    Attributes:
        names: host names, without port, in lower case.
        any_address: whether any IP address will do: a page cannot rebind an address, but behind
            a fixed address nobody needs to call us by another.
    """

    names: frozenset[str]
    any_address: bool = False

    @classmethod
    def of(cls, names: Iterable[str], *, any_address: bool = False) -> Hosts:
        """Return this machine's own names and those given."""
        given = frozenset(name.strip().lower().strip("[]") for name in names)
        return cls(_OWN_MACHINE | given, any_address)

    def allows(self, host: str) -> bool:
        """Tell whether a Host header's value may be answered."""
        name = host_name(host)
        if name is None:
            return False
        return name in self.names or (self.any_address and _is_address(name))


def host_name(host: str) -> str | None:
    """Return the name in `name:port`, in lower case; None if it cannot be one."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    clean = parts.hostname is not None and parts.netloc == host and "@" not in host
    return parts.hostname if clean else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """ASGI middleware: the Host list, the Origin check, types and sizes of bodies, headers."""

    def __init__(self, app: ASGIApp, hosts: Hosts, public_url: str | None = None) -> None:
        """Put a guard before an application.

        Args:
            app: what it guards.
            hosts: by which names it may be called.
            public_url: where browsers see it, when a proxy before it has another name.
        """
        self._app = app
        self._hosts = hosts
        self._public = _origin(public_url) if public_url else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _texts(scope)
        sender = _with_headers(send)
        try:
            self._check(scope, headers)
            taker = _limited(receive, _most(scope["path"]), headers.get("content-length"))
        except Problem as problem:
            await refuse(sender, problem)
            return
        await self._app(scope, taker, sender)

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        if not self._hosts.allows(host):
            message = (
                f"This server is not called {host[:200]!r}. If that is its name, start it with "
                f"--allow-host NAME."
            )
            raise Problem(421, "unknown-host", message)
        if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
            # No name has it, and PostgreSQL takes none in its texts.
            raise Problem(400, "invalid", "The address has a NUL character in it.")
        if scope["method"] not in _SAFE:
            self._check_origin(headers, host)
            _check_type(scope["path"], headers.get("content-type"))
        elif _API in scope["path"]:
            _check_site(headers)

    def _check_origin(self, headers: dict[str, str], host: str) -> None:
        _check_site(headers)
        origin = headers.get("origin")
        if origin is None:
            return
        parts = urlsplit(origin)
        same = parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()
        if not same and (self._public is None or origin.lower() != self._public):
            message = f"Changes are taken from the own page only, not from {origin[:200]!r}."
            raise Problem(403, "foreign-origin", message)


class BehindPrefix:
    """ASGI middleware: takes off the path that a proxy puts before ours, if it left it there."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        """Put it before an application; the prefix begins with a slash and ends without."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as if there were no prefix."""
        path = scope.get("path", "")
        if path == self._prefix:  # relative addresses of the page need the slash at its end
            headers = [(b"location", f"{self._prefix}/".encode())]
            await send({"type": "http.response.start", "status": 308, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        if path.startswith(f"{self._prefix}/"):
            scope = {**scope, "path": path[len(self._prefix) :]}
        await self._app(scope, receive, send)


def _check_site(headers: dict[str, str]) -> None:
    """Refuse what a browser says another site, or another port of this host, has caused."""
    site = headers.get("sec-fetch-site", "none")
    if site not in {"same-origin", "none"}:
        message = f"The request was caused by another page ({site[:40]})."
        raise Problem(403, "foreign-origin", message)


def _check_type(path: str, content_type: str | None) -> None:
    if content_type is None:
        return
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in _TYPES or (kind == "text/plain" and _TEXT_ONLY_FOR not in path):
        message = f"Content-Type {kind[:100]!r} is not taken here; send application/json."
        raise Problem(415, "unknown-type", message)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _texts(scope: Scope) -> dict[str, str]:
    """Return the headers; one that comes twice, which no client sends, has both values."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _most(path: str) -> int:
    return bodies.PACKED if path.endswith("/events") else bodies.PLAIN


def _limited(receive: Receive, most: int, length: str | None) -> Receive:
    """Return a `receive` that ends in a refusal after `most` bytes.

    Raises:
        Problem: the request says at once that it is larger.
    """
    if length is not None and length.isdecimal() and int(length) > most:
        raise too_large(most)
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise too_large(most)
        return message

    return limited


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in message["headers"]}
            more = [pair for pair in HEADERS if pair[0] not in own]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sender
