"""Attributes of an object beside those that its class says it has."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any


def attributes_beside(value: Any, names: Container[str]) -> dict[str, Any]:
    """Return the attributes of an object but for `names`, and for what it computes on demand."""
    own = getattr(value, "__dict__", None) or {}
    return {
        name: item
        for name, item in own.items()
        if name not in names
        and type(getattr(type(value), name, None)).__name__ != "cached_property"
    }
