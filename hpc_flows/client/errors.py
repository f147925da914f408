"""What may go wrong between a client and a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_flows.exceptions import ServerError
from hpc_flows.settings.kinds import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable

#: HTTP's words for what the client treats in a way of its own.
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, GONE, TOO_LARGE = 401, 403, 404, 409, 410, 413
BUSY = frozenset({429, 503})


class ClientError(ServerError):
    """Something went wrong between this process and a server."""


class NoServer(ClientError):
    """No server is configured, or its address cannot be read."""


class ServerUnreachable(ClientError):
    """No answer came: nothing is known about whether the request was carried out."""


class ForeignServer(ClientError):
    """What answers is not the server that our token is from; the token was not sent."""


class ServerRefusal(ClientError):
    """The server answered with an error.

    Attributes:
        status: HTTP's number of it.
        code: the server's word for it, such as `not-found`; empty where it gave none.
    """

    def __init__(self, message: str, status: int, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ServerBusy(ServerRefusal):
    """The server asks for patience (429, 503), or had trouble of its own (other 5xx).

    Attributes:
        retry_after: seconds that it asked for, or None.
    """

    def __init__(
        self, message: str, status: int, code: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message, status, code)
        self.retry_after = retry_after


def without(text: str, secrets: Iterable[str | None]) -> str:
    """Return what a server said, without what we have shown it to be let in.

    One that repeats a request, as proxies and servers in debug mode do, would else put our keys
    into messages, and these go into logs.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    return text
