"""A value and what is said about it: units, names, where it is from."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Described:
    """A value with attributes, which HDF5 keeps beside it for every other program to see.

    `Described(field, units="K", long_name="temperature at 2 m")` is written as the dataset of
    `field` with the attributes `units` and `long_name`, and comes back as a `Described`.

    Args:
        value: an array, a table, a dict of arrays, a number, ...
        attributes: texts, numbers, and small arrays or lists of them.
    """

    __slots__ = ("attributes", "value")

    def __init__(self, value: Any, /, **attributes: Any) -> None:
        self.value = value
        self.attributes = attributes

    def __array__(self, *args: Any, **options: Any) -> Any:
        """Let numpy take the value: `np.mean(described)`."""
        # A function of the module would make numpy a part of this one.
        method = getattr(self.value, "__array__", None)
        if method is None:
            raise TypeError(f"Described holds a {type(self.value).__name__}, which is no array.")
        return method(*args, **options)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Described) or self.attributes != other.attributes:
            return False
        same = self.value == other.value
        return bool(same.all() if hasattr(same, "all") else same)

    #: Its value can change.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        attributes = "".join(f", {name}={value!r}" for name, value in self.attributes.items())
        return f"Described({self.value!r}{attributes})"
