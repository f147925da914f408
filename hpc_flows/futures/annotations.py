"""What can be said of an argument: how a `map` spreads it, and whether futures in it count."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class BaseAnnotation:
    """Says of an argument how a task is to take it; the value itself is in `value`."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def unwrap(self) -> Any:
        """Return the value."""
        return self.value

    def rewrap(self, value: Any) -> Any:
        """Say the same of another value."""
        return type(self)(value)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


class unmapped(BaseAnnotation):  # noqa: N801 - Prefect's name
    """Give the same value to every call of a `map`, even if it could be iterated over."""

    __slots__ = ()


class allow_failure(BaseAnnotation):  # noqa: N801 - Prefect's name
    """Start a task even though the future that it is given failed; it gets the exception."""

    __slots__ = ()


class quote(BaseAnnotation):  # noqa: N801 - Prefect's name
    """Pass a value on as it is, without looking for futures in it."""

    __slots__ = ()

    def unquote(self) -> Any:
        """Return the value."""
        return self.value


class opaque(BaseAnnotation):  # noqa: N801 - Prefect's name
    """Wait for a future and pass its value on; look for futures in nothing else."""

    __slots__ = ()
