"""Slurm's compressed lists: hosts such as `c[1-2,4],gpu7` and elements such as `0-9,12`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PART = re.compile(r"[^,\[]*(?:\[[^\]]*\])?[^,\[]*")
_NUMBERED = re.compile(r"^(.*?)(\d+)$")


def split_list(text: str) -> list[str]:
    """Split at the commas that stand outside of brackets."""
    return [part for part in _PART.findall(text) if part]


def expand_hosts(text: str) -> list[str]:
    """Return the single names of a host list, in its order.

    Raises:
        ValueError: a range in it is not a range.
    """
    names: list[str] = []
    for part in split_list(text):
        head, bracket, rest = part.partition("[")
        if not bracket:
            names.append(part)
            continue
        inner, _, tail = rest.partition("]")
        names.extend(head + number + tail for number in _range_texts(inner))
    return names


def _range_texts(inner: str) -> list[str]:
    """Return the numbers of `1-2,04` as texts, leading zeros kept."""
    texts: list[str] = []
    for item in inner.split(","):
        low, dash, high = item.partition("-")
        if not dash:
            texts.append(low)
            continue
        width = len(low) if low.startswith("0") else 0
        texts.extend(str(number).zfill(width) for number in range(int(low), int(high) + 1))
    return texts


def compress_hosts(names: Iterable[str]) -> str:
    """Return names as Slurm prints them, such as `c[1-3],login`."""
    groups: dict[tuple[str, int], list[int]] = {}
    for name in names:
        match = _NUMBERED.match(name)
        if match is None:
            groups.setdefault((name, -1), [])
            continue
        digits = match[2]
        width = len(digits) if digits.startswith("0") else 0
        groups.setdefault((match[1], width), []).append(int(digits))
    return ",".join(_group_text(prefix, width, ns) for (prefix, width), ns in groups.items())


def _group_text(prefix: str, width: int, numbers: list[int]) -> str:
    if width < 0:
        return prefix
    if len(numbers) == 1:
        return prefix + str(numbers[0]).zfill(width)
    return f"{prefix}[{_ranges(sorted(numbers), width)}]"


def _runs(numbers: list[int]) -> list[list[int]]:
    """Group sorted numbers into lists of neighbours."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _ranges(numbers: list[int], width: int = 0) -> str:
    return ",".join(
        str(run[0]).zfill(width)
        if len(run) == 1
        else f"{str(run[0]).zfill(width)}-{str(run[-1]).zfill(width)}"
        for run in _runs(numbers)
    )


def compress_elements(elements: list[int]) -> str:
    """Return sorted array elements as Slurm prints them: `0-9`, `1,3,5-7`."""
    return _ranges(elements)


def parse_elements(text: str) -> list[int]:
    """Return the sorted numbers of `0-9,12,20-40:5`.

    Raises:
        ValueError: it is not such a list.
    """
    numbers: set[int] = set()
    for item in text.split(","):
        span, colon, step = item.partition(":")
        low, dash, high = span.partition("-")
        if not dash:
            if colon:
                message = f"{item!r} has a step but no range"
                raise ValueError(message)
            numbers.add(_natural(low))
            continue
        stride = _natural(step) if colon else 1
        first, last = _natural(low), _natural(high)
        if stride < 1 or last < first:
            message = f"{item!r} runs backwards"
            raise ValueError(message)
        numbers.update(range(first, last + 1, stride))
    return sorted(numbers)


def _natural(text: str) -> int:
    if not text.isdecimal():
        message = f"{text!r} is no number"
        raise ValueError(message)
    return int(text)
