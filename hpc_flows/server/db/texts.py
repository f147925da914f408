"""Values as both databases take them: texts without what PostgreSQL refuses, numbers that fit."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from hpc_flows.journal.event import encode

#: Characters of what an index holds, and of other texts.
INDEXED, LONG = 400, 1_000_000

#: Characters of an id.
LONGEST_ID = 200

_chunks = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def clean(value: object, most: int = LONG) -> str | None:
    """Return a text that both databases and their indices take; None stays None.

    NUL characters, which PostgreSQL refuses, become their picture (U+2400); halves of surrogate
    pairs, which UTF-8 has no bytes for, become question marks; what is longer than `most` is cut.
    """
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value)
    if len(text) > most:
        text = text[:most]
    if "\0" in text:
        text = text.replace("\0", "\u2400")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def short(value: object) -> str:
    """Return a text for a column with an index; nothing becomes an empty text."""
    return clean(value, INDEXED) or ""


def checked_id(value: object) -> str:
    """Return an id.

    Raises:
        ValueError: it is no text, or one that cannot be an id.
    """
    if isinstance(value, str) and 0 < len(value) <= LONGEST_ID and value.isprintable():
        return value
    raise ValueError(value)


def whole(value: object) -> int | None:
    """Return a whole number that fits into 63 bits, or None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) < 2**63 else None


def seconds(value: object) -> float | None:
    """Return a finite number, or None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def dumps(value: Any) -> str:
    """Return a value as compact ASCII JSON; numbers that JSON lacks become texts."""
    try:
        return _chunks(value)
    except (TypeError, ValueError, RecursionError):
        return encode({"": value})[4:-1]


def loads(text: str | None, default: Any = None) -> Any:
    """Return what a column of JSON says."""
    return default if text is None else json.loads(text)
