"""Parts of lists: in which order, from where, how many, and out of how many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, case, cast, func, select

from hpc_flows.exceptions import close_match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sized

    from sqlalchemy import ColumnElement, Connection, Select

#: Most items of an answer.
LIMIT = 500

#: A list is counted up to here; a longer one has a total that nobody needs and everybody waits for.
COUNTED = 10_000

FINAL = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
BAD = ("FAILED", "CRASHED")
UNENDED = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")


def checked_range(limit: int, offset: int) -> None:
    """Refuse parts that are no parts.

    Raises:
        ValueError: the limit or the offset is out of range.
    """
    if not 0 < limit <= LIMIT:
        raise ValueError(f"limit is from 1 to {LIMIT}, and {limit} is not.")
    if not 0 <= offset < 2**31:
        raise ValueError(f"offset is 0 or more, and {offset} is not.")


def ordered(
    query: Select[Any], sort: str, columns: Mapping[str, ColumnElement[Any]], key: Any
) -> Select[Any]:
    """Return a query in the order that somebody asks for; what has no value comes last.

    Args:
        query: what to sort.
        sort: one of the names, with "-" before it for descending.
        columns: what each name sorts by.
        key: sorts what is equal.

    Raises:
        ValueError: there is no such order.
    """
    name = sort.removeprefix("-")
    column = columns.get(name)
    if column is None:
        known = ", ".join(columns)
        raise ValueError(f"{sort!r:.100} is no order:{close_match(name, columns)} sort is {known}.")
    down = sort.startswith("-")
    by = column.desc() if down else column.asc()
    # `created` has an index, which NULLS LAST would hide from it, and is never missing.
    by = by if name == "created" else by.nulls_last()
    return query.order_by(by, key.desc() if down else key.asc())


def total_of(connection: Connection, query: Select[Any]) -> int | None:
    """Return how many rows a query has, or None if they are more than are worth counting."""
    some = query.order_by(None).limit(COUNTED + 1).subquery()
    count = connection.scalar(select(func.count()).select_from(some)) or 0
    return None if count > COUNTED else count


def fits(keys: Sized, limit: int, offset: int) -> int | None:
    """Return how many there are if the part itself tells: the first one with nothing after it."""
    return len(keys) if offset == 0 and len(keys) <= limit else None


def page(items: list[Any], total: int | None, limit: int, offset: int) -> dict[str, Any]:
    """Return a part of a list as the API shows it; `items` has one more if more follow."""
    more = len(items) > limit
    return {
        "items": items[:limit],
        "total": total,
        "next": offset + limit if more else None,
    }


def step_of(connection: Connection, place: ColumnElement[Any], most: int) -> ColumnElement[int]:
    """Return the whole part of a number, 0 for what is less and `most` for what is more."""
    # SQLite cuts what is cast, and has no floor() everywhere; PostgreSQL rounds what is cast.
    whole = place if connection.dialect.name == "sqlite" else func.floor(place)
    # Times are as wrong as clocks are, and PostgreSQL refuses to cast what fits no integer.
    return case((place >= most, most), (place < 0, 0), else_=cast(whole, Integer))


def pattern(text: str) -> str:
    """Return the pattern of LIKE, with `/` as escape, for texts that hold another."""
    for sign in "/%_":
        text = text.replace(sign, "/" + sign)
    return f"%{text.lower()}%"
