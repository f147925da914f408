"""What a request is refused with: a status, a short code for programs, a sentence for people."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Send


class Problem(HTTPException):
    """A request that is refused.

    It is one of the framework's own exceptions, because others do not get through its parsing of
    bodies.

    Attributes:
        status: the HTTP status.
        code: one word for programs, such as `forbidden`.
        message: what is wrong and what to do, for people.
        headers: more headers of the answer, such as Retry-After.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.status = status
        self.code = code
        self.message = message

    def body(self) -> bytes:
        """Return the answer's body: `{"error": code, "message": ...}`."""
        return encode({"error": self.code, "message": self.message})


def missing(what: str = "There is nothing of that id that you may see.") -> Problem:
    """Return the refusal for what is not there, or must look as if it were not there."""
    return Problem(404, "not-found", what)


def too_many(seconds: float, what: str) -> Problem:
    """Return the refusal for who asks too often; `seconds` until it is worth asking again."""
    wait = max(1, math.ceil(seconds))
    message = f"{what} Ask again in {wait} s."
    return Problem(429, "too-many-requests", message, {"Retry-After": str(wait)})


def too_large(most: int, what: str = "The body") -> Problem:
    """Return the refusal for a body of more than `most` bytes."""
    return Problem(413, "too-large", f"{what} is larger than {most} bytes; send it in parts.")


def encode(value: Any) -> bytes:
    """Return a value as JSON; numbers that JSON lacks become null."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    # A text of a journal may hold half of a surrogate pair, which UTF-8 lacks.
    return text.encode("utf-8", "backslashreplace")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


async def refuse(send: Send, problem: Problem) -> None:
    """Answer a request with a refusal, from below the routes."""
    body = problem.body()
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        *(problem.headers or {}).items(),
    ]
    raw = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
