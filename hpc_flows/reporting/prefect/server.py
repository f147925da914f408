"""Requests to a Prefect 3 server: who we are, which version it is, and what its answers mean."""

from __future__ import annotations

import json
from base64 import b64encode
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hpc_flows._version import __version__
from hpc_flows.client.address import parse_address
from hpc_flows.client.connection import Connection
from hpc_flows.client.errors import NoServer, ServerUnreachable, without
from hpc_flows.client.pacing import seconds_asked
from hpc_flows.exceptions import HpcFlowsError
from hpc_flows.reporting.prefect.pacing import Breaker
from hpc_flows.reporting.sink import SinkRefusal, SinkTrouble

if TYPE_CHECKING:
    from hpc_flows.client.connection import RawResponse

_ERRORS, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 400, 401, 403, 404
_TOO_MANY, _SERVER_ERRORS, _UNAVAILABLE = 429, 500, 503

#: Seconds after which a request is repeated that met a locked database: a server with SQLite
#: answers 503 whenever two of its own parts write at once, and has then done nothing.
_PAUSES = (0.1, 0.3, 0.9, 2.0)

#: Seconds without a request after which a new connection is made: servers close those that are
#: not used, uvicorn after five.
_KEPT = 3.0

#: What makes something new each time that it is asked.
_NOT_TWICE = frozenset({"/logs/", "/artifacts/"})

#: The first version that takes task runs by events.
_OLDEST = 3
_LONGEST_WORDS = 500
#: Characters of a password that is looked for by itself: a shorter one is in any text.
_SHORTEST_PASSWORD = 6


class Rejected(HpcFlowsError):
    """A server will not take something as it is.

    Attributes:
        status: HTTP's number.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NotThere(Rejected):
    """What was asked for is not there, or not any more."""


class PrefectServer:
    """A Prefect server, asked from one thread.

    Args:
        url: of its API, as in PREFECT_API_URL.
        key: as in PREFECT_API_KEY.
        auth: `user:password`, as in PREFECT_API_AUTH_STRING; it goes before the key.
        timeout: seconds until a request that makes no progress is given up.

    Raises:
        SinkRefusal: the address is none.
    """

    def __init__(
        self, url: str, *, key: str | None = None, auth: str | None = None, timeout: float = 30.0
    ) -> None:
        try:
            self._connection = Connection(parse_address(url), timeout)
        except NoServer as error:
            raise SinkRefusal(f"prefect_api_url: {error}") from None
        self._headers = {
            "User-Agent": f"hpc-flows/{__version__}",
            "Accept": "application/json",
            "Content-Type": "application/json",
            **_authorization(key, auth),
        }
        self._secrets = (key or "", *_parts_of(auth or ""))
        self._csrf: dict[str, str] = {}
        self._breaker = Breaker()
        self._asked = float("-inf")

    def __str__(self) -> str:
        return str(self._connection)

    def open(self) -> str:
        """Check that the server can be fed; return its version.

        Raises:
            SinkTrouble: it cannot be asked now.
            SinkRefusal: it does not know us, is too old, or is something else.
        """
        version = self._version()
        first = version.partition(".")[0]
        if not first.isdigit():
            raise SinkRefusal(
                f"What answers at {self} is no Prefect API (its version would be {version!r:.60}). "
                "The address must be that of the API: it ends in /api."
            )
        if int(first) < _OLDEST:
            raise SinkRefusal(
                f"The server at {self} is Prefect {version}; only Prefect 3 can be reported to. "
                "Unset prefect_api_url (`hpc-flows config unset prefect_api_url`), or name a "
                "server of version 3."
            )
        self._fetch_csrf()
        return version

    def get(self, path: str) -> Any:
        """Return what a path says.

        Raises:
            SinkTrouble, SinkRefusal, Rejected: it says nothing.
        """
        return self._ask("GET", path, None)[1]

    def post(self, path: str, content: Any) -> tuple[int, Any]:
        """Send something; return the status and what was answered.

        Raises:
            SinkTrouble, SinkRefusal, Rejected: it was not taken.
        """
        return self._ask("POST", path, content)

    def patch(self, path: str, content: Any) -> None:
        """Change something.

        Raises:
            SinkTrouble, SinkRefusal, Rejected: it was not taken.
        """
        self._ask("PATCH", path, content)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _version(self) -> str:
        try:
            return str(self.get("/admin/version"))
        except NotThere:
            raise SinkRefusal(
                f"What answers at {self} has no /admin/version, as Prefect 3 has. The address must "
                "be that of the API: it ends in /api."
            ) from None

    def _fetch_csrf(self) -> None:
        """Get a token against forged requests, where the server asks for one."""
        client = str(uuid4())
        try:
            answer = self.get(f"/csrf-token?client={client}")
        except Rejected:  # switched off (422), or a server that has no such thing (404)
            self._csrf = {}
            return
        token = str(answer.get("token") or "") if isinstance(answer, dict) else ""
        self._csrf = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client} if token else {}

    def _ask(self, method: str, path: str, content: Any) -> tuple[int, Any]:
        self._breaker.check()
        raw = self._patiently(method, path, content)
        if raw.status == _FORBIDDEN and method != "GET" and b"CSRF" in raw.body:
            self._fetch_csrf()
            raw = self._once(method, path, content)
        if raw.status < _ERRORS:
            self._breaker.succeeded()
            return raw.status, self._read(raw)
        raise self._error(raw, f"{method} {path}")

    def _patiently(self, method: str, path: str, content: Any) -> RawResponse:
        for pause in _PAUSES:
            raw = self._once(method, path, content)
            if raw.status != _UNAVAILABLE or "retry-after" in raw.headers:
                return raw
            sleep(pause)
        return self._once(method, path, content)

    def _once(self, method: str, path: str, content: Any) -> RawResponse:
        body = None if content is None else json.dumps(content, allow_nan=False).encode()
        headers = self._headers | (self._csrf if method != "GET" else {})
        if monotonic() - self._asked > _KEPT:
            self._connection.close()
        was_kept = not self._connection.fresh
        try:
            return self._connection.request(method, path, body, headers)
        except ServerUnreachable as error:
            # The server may have closed a connection that was kept. What was sent may have been
            # taken all the same, so only what has an id or a key of its own is sent again.
            if not was_kept or path in _NOT_TWICE:
                raise SinkTrouble(f"Prefect: {error}") from error
        finally:
            self._asked = monotonic()
        try:
            return self._connection.request(method, path, body, headers)
        except ServerUnreachable as error:
            raise SinkTrouble(f"Prefect: {error}") from error

    def _read(self, raw: RawResponse) -> Any:
        try:
            return json.loads(raw.body) if raw.body else None
        except ValueError:
            raise SinkRefusal(
                f"What answers at {self} is no Prefect API: it does not speak JSON. The address "
                "must be that of the API: it ends in /api."
            ) from None

    def _shown(self) -> list[str]:
        """Return what we show to be let in, as it is and as it is sent."""
        sent = self._headers.get("Authorization", "").partition(" ")[2]
        return [sent, *self._secrets, *self._csrf.values()]

    def _error(self, raw: RawResponse, asked: str) -> HpcFlowsError:
        words = raw.body.decode("utf-8", "replace")
        words = without(words, self._shown())[:_LONGEST_WORDS].strip()
        text = f"The Prefect server at {self} answered {raw.status} to {asked}: {words}"
        if raw.status == _TOO_MANY:
            asked_for = seconds_asked(raw.headers.get("retry-after"))
            return SinkTrouble(text, retry_after=asked_for, answered=True)
        if raw.status in (_UNAUTHORIZED, _FORBIDDEN):
            return SinkRefusal(
                f"{text}. Set prefect_api_auth_string (`user:password`) or prefect_api_key as the "
                "server wants it."
            )
        if raw.status == _NOT_FOUND:
            return NotThere(text, raw.status)
        self._breaker.failed()
        if raw.status >= _SERVER_ERRORS:
            asked_for = seconds_asked(raw.headers.get("retry-after"))
            return SinkTrouble(text, retry_after=asked_for, answered=True)
        return Rejected(text, raw.status)


def _parts_of(auth: str) -> tuple[str, str]:
    """Return a login, and the password in it if it is long enough to stand for itself."""
    password = auth.partition(":")[2]
    return auth, password if len(password) >= _SHORTEST_PASSWORD else ""


def _authorization(key: str | None, auth: str | None) -> dict[str, str]:
    if auth:
        return {"Authorization": f"Basic {b64encode(auth.encode()).decode()}"}
    return {"Authorization": f"Bearer {key}"} if key else {}
