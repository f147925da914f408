"""What many routes take from the address: words, limits, and how a wish is refused."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import Query
from pydantic import StringConstraints

from hpc_flows.server.problems import Problem, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

#: Most rows of a list.
MOST = 500
Word = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
Limit = Annotated[int, Query(ge=1, le=MOST)]
Offset = Annotated[int, Query(ge=0, le=10**9)]


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Turn a word that a query does not know into a refusal.

    Raises:
        Problem: in its place.
    """
    try:
        yield
    except ValueError as error:
        raise Problem(422, "invalid", str(error)) from None


def found(row: T | None) -> T:
    """Return what a query found.

    Raises:
        Problem: it is not there, or not to be seen; which of both is not told.
    """
    if row is None:
        raise missing()
    return row
