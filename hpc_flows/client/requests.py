"""Requests to a hpc_flows server: its API's paths, JSON, the token, errors, repetition."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlencode

from hpc_flows._version import __version__
from hpc_flows.client.address import Address, parse_address
from hpc_flows.client.connection import FAILURES, Connection, RawResponse
from hpc_flows.client.errors import (
    BUSY,
    UNAUTHORIZED,
    ForeignServer,
    ServerBusy,
    ServerRefusal,
    ServerUnreachable,
    without,
)
from hpc_flows.client.pacing import Backoff, seconds_asked
from hpc_flows.client.proof import check_proof, token_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_API = "/api/v1"
_ERRORS, _SERVER_ERRORS = 400, 500
_LONGEST_MESSAGE = 2000


class Identity(NamedTuple):
    """What a server says of itself.

    Attributes:
        instance: names its database.
        epoch: changes with each start of the server.
        version: of hpc_flows.
    """

    instance: str
    epoch: str
    version: str = ""


class Response(NamedTuple):
    """An answer that is no error.

    Attributes:
        status: HTTP's number.
        headers: by lower-case name.
        body: its bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return what it says.

        Raises:
            ServerUnreachable: it is no JSON: something else than our server has answered.
        """
        if not self.body:
            return None
        try:
            return json.loads(self.body)
        except ValueError:
            msg = "The answer is no JSON: something between here and the server has answered."
            raise ServerUnreachable(msg) from None


class Client:
    """Asks one server. Not for several threads at once: each has its own.

    Args:
        url: as in the setting `api_url`.
        token: as in `api_key`; None sends none.
        timeout: seconds until a request that makes no progress is given up.
        patience: seconds for which a request is repeated when there is no answer, or a request for
            patience; 0 asks once.
        via: returns the Unix socket at the near end of a tunnel; asked for each connection, as it
            may move.

    Raises:
        NoServer: the address, or the token, cannot be one.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        patience: float = 0.0,
        via: Callable[[], str] | None = None,
    ) -> None:
        self._address = parse_address(url)
        self._via = via
        self._token = token or None
        self._token_id = token_id(token) if token else ""
        self._timeout, self._patience = timeout, patience
        self._identity: Identity | None = None
        self._connection: Connection | None = None
        self._was_kept = False

    @property
    def address(self) -> Address:
        """Where the server is.

        Raises:
            TransportError: it is reached through a tunnel that is not up.
        """
        if self._via is None:
            return self._address
        return self._address._replace(socket=self._via())

    def identity(self, *, fresh: bool = False) -> Identity:
        """Return who the server is; asked once, unless it shall be fresh.

        Raises:
            ClientError: it cannot be reached, or does not know our token.
        """
        if fresh or self._identity is None:
            self._repeated(self._greet)
        found = self._identity
        if found is None:  # _greet sets it or raises
            raise ServerUnreachable(f"The server at {self.address} did not say who it is.")
        return found

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Return what `GET /api/v1<path>` answers.

        Raises:
            ClientError: it went wrong.
        """
        return self.request("GET", with_query(path, query)).json()

    def post(self, path: str, content: Any = None, *, patience: float | None = None) -> Any:
        """Send JSON and return what is answered.

        Raises:
            ClientError: it went wrong.
        """
        return self.request("POST", path, content, patience=patience).json()

    def request(
        self,
        method: str,
        path: str,
        content: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> Response:
        """Ask for `/api/v1<path>`.

        Args:
            method: HTTP's.
            path: with its query.
            content: bytes are sent as they are, anything else but None as JSON.
            headers: more headers.
            patience: as the client's; what must not be done twice takes 0.

        Raises:
            ServerUnreachable: no answer came.
            ForeignServer: what answers is another server.
            ServerBusy, ServerRefusal: the server said no.
        """
        body, sent = _encoded(content)
        sent.update(headers or {})

        def ask() -> Response:
            return self._once(method, path, body, sent)

        found: Response = self._repeated(ask, patience)
        return found

    def stream(self, path: str, last: str | None = None) -> Iterator[tuple[str, str, str]]:
        """Give the server-sent events of `/api/v1<path>` as (name, data, id), until they end.

        A comment gives ("", "", ""), so that a caller can see that the server lives.

        Raises:
            ClientError: the stream cannot be had, or was cut.
        """
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        connection = self._ready()
        try:
            response = connection.begin("GET", _API + path, None, self._headers(headers))
            if response.status >= _ERRORS:
                found = {name.lower(): value for name, value in response.getheaders()}
                self._checked(RawResponse(response.status, found, response.read(65536)))
            yield from _sse(response)
        except FAILURES as error:
            msg = f"The stream of the server at {connection} was cut: {error}."
            raise ServerUnreachable(msg) from error
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _repeated(self, ask: Callable[[], Any], patience: float | None = None) -> Any:
        backoff = Backoff(first=0.25, longest=10.0)
        end = time.monotonic() + (self._patience if patience is None else patience)
        while True:
            try:
                return ask()
            except (ServerUnreachable, ServerBusy) as error:
                pause = backoff.failed(getattr(error, "retry_after", None))
                if time.monotonic() + pause > end:
                    raise
            time.sleep(pause)

    def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Response:
        connection = self._ready()
        try:
            raw = connection.request(method, _API + path, body, self._headers(headers))
        except ServerUnreachable as error:
            if not self._was_kept or isinstance(error.__cause__, TimeoutError):
                raise
            # The other side has closed the connection while nothing was asked. Whoever answers
            # now proves itself anew.
            raw = self._ready().request(method, _API + path, body, self._headers(headers))
        return self._checked(raw)

    def _ready(self) -> Connection:
        """Return a connection over which the token may be sent."""
        connection = self._current()
        connection.connect()
        self._was_kept = not connection.fresh
        # A plain port or socket may have another owner than a moment ago: it proves itself again.
        proven = connection.address.is_encrypted or not connection.fresh
        if self._token is not None and (self._identity is None or not proven):
            self._greet()
        return self._current()

    def _current(self) -> Connection:
        address = self.address
        if self._connection is None or self._connection.address != address:
            self.close()
            self._connection = Connection(address, self._timeout)
        return self._connection

    def _greet(self) -> None:
        nonce = os.urandom(16).hex()
        connection = self._current()
        body, headers = _encoded({"token_id": self._token_id or "0" * 12, "nonce": nonce})
        raw = connection.request("POST", f"{_API}/hello", body, headers | _AGENT)
        answer = self._checked(raw).json()
        if not isinstance(answer, dict) or not answer.get("instance"):
            raise ForeignServer(f"What answers at {connection} is no hpc_flows server.")
        if self._token is not None:
            check_proof(self._token, nonce, answer, str(connection))
        self._identity = Identity(
            str(answer["instance"]), str(answer.get("epoch", "")), str(answer.get("version", ""))
        )

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        own = dict(_AGENT)
        if self._token is not None:
            own["Authorization"] = f"Bearer {self._token}"
        return own | dict(headers)

    def _checked(self, raw: RawResponse) -> Response:
        if raw.status < _ERRORS:
            return Response(*raw)
        code, message = (without(text, [self._token]) for text in _told(raw))
        where = f"The server at {self._connection or 'that address'}"
        text = f"{where} answered {raw.status}: {message}"
        if raw.status in BUSY or raw.status >= _SERVER_ERRORS:
            asked = seconds_asked(raw.headers.get("retry-after"))
            raise ServerBusy(text, raw.status, code, asked)
        if raw.status == UNAUTHORIZED and self._token is None:
            text += " No API key is set: HPC_FLOWS_API_KEY, or `hpc-flows config set api_key=…`."
        raise ServerRefusal(text, raw.status, code)


_AGENT = {"User-Agent": f"hpc-flows/{__version__}"}


def with_query(path: str, query: Mapping[str, Any] | None) -> str:
    """Return a path with its query; None is left out, and lists are repeated."""
    if not query:
        return path
    pairs = {name: _word(value) for name, value in query.items() if value is not None}
    text = urlencode(pairs, doseq=True)
    return f"{path}?{text}" if text else path


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return list(value) if isinstance(value, (list, tuple, set)) else value


def _encoded(content: Any) -> tuple[bytes | None, dict[str, str]]:
    if content is None:
        return None, {}
    if isinstance(content, bytes):
        return content, {}
    return json.dumps(content).encode(), {"Content-Type": "application/json"}


def _told(raw: RawResponse) -> tuple[str, str]:
    """Return the server's code and message of an error."""
    try:
        found = json.loads(raw.body)
    except ValueError:
        text = raw.body[:_LONGEST_MESSAGE].decode("utf-8", "replace").strip()
        return "", text.partition("\n")[0] or "nothing more."
    if not isinstance(found, dict):
        return "", str(found)[:_LONGEST_MESSAGE]
    message = found.get("message") or found.get("detail") or found.get("error") or "nothing more."
    return str(found.get("error", "")), str(message)[:_LONGEST_MESSAGE]


def _sse(lines: Any) -> Iterator[tuple[str, str, str]]:
    name, last = "message", ""
    data: list[str] = []
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line and data:
            yield name, "\n".join(data), last
            name, data = "message", []
        elif line.startswith(":"):
            yield "", "", ""
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last = value
