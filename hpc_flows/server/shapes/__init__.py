"""What goes over the wire, as OpenAPI describes it.

What comes in is checked against these shapes. What goes out is not, for the sake of speed: tests
send it through them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

_NO_NUL = r"^[^\x00]*$"
#: A line of text, such as a name or a reason.
Line = Annotated[str, StringConstraints(max_length=500, pattern=_NO_NUL)]
Text = Annotated[str, StringConstraints(max_length=10_000, pattern=_NO_NUL)]
#: An id of a run, task run, relay, ...
Id = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_NO_NUL)]
#: Seconds since 1970.
Time = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class Shape(BaseModel):
    """The base of all: names that nobody knows are refused, so that no typo goes unnoticed."""

    model_config = ConfigDict(extra="forbid")


class Open(BaseModel):
    """The base of what newer versions may add to."""

    model_config = ConfigDict(extra="allow")


class Refusal(Shape):
    """Why a request was refused."""

    error: str
    message: str


class Status(Shape):
    """That something is well."""

    status: str


#: What every route may answer besides what it is for.
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": words}
    for status, words in (
        (400, "The request cannot be read."),
        (401, "No token, or none that is valid."),
        (403, "The token has not the scope, or a foreign page asked."),
        (404, "There is nothing of that name or id that you may see."),
        (409, "What is there now does not allow it."),
        (410, "The run was removed from the server."),
        (413, "The body is too large."),
        (415, "The body is of a type that is not taken here."),
        (421, "The server is not called by that name (Host)."),
        (422, "A value is wrong."),
        (429, "Too many requests; Retry-After says when to come back."),
        (503, "Not now; Retry-After says when to come back."),
    )
}
