"""Lists of nodes as Slurm writes them: `udc-an[28-30,35],login1`."""

from __future__ import annotations


def expand(text: str) -> list[str]:
    """Return the nodes that a text such as `n[01-03,7],m1` names, in its order."""
    found: list[str] = []
    for part in _split(text):
        found.extend(_expand_one(part))
    return found


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside of brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign == "[") - (sign == "]")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return [part for part in parts if part]


def _expand_one(text: str) -> list[str]:
    """Expand the first bracket, and what follows it by the same rule."""
    head, bracket, rest = text.partition("[")
    inner, _, tail = rest.partition("]")
    if not bracket:
        return [text]
    ends = _expand_one(tail)
    return [f"{head}{number}{end}" for number in _numbers(inner) for end in ends]


def _numbers(text: str) -> list[str]:
    found: list[str] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not dash:
            found.append(first)
            continue
        width = len(first)  # `08-11` keeps its zeros
        found.extend(str(number).zfill(width) for number in range(int(first), int(last) + 1))
    return found
