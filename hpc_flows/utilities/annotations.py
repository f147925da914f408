"""What can be said of an argument of a task: `task.map(x, y=unmapped(z))` and the like."""

from __future__ import annotations

from hpc_flows.futures import BaseAnnotation, allow_failure, opaque, quote, unmapped

__all__ = [
    "BaseAnnotation",
    "NotSet",
    "Quote",
    "allow_failure",
    "freeze",
    "opaque",
    "quote",
    "unmapped",
]


class freeze(BaseAnnotation):  # noqa: N801 - Prefect's name
    """A parameter of a deployment that nobody is to change."""

    __slots__ = ()

    def unfreeze(self) -> object:
        """Return the value."""
        return self.value


class NotSet:
    """Stands for an option that was not given, where None means something."""


Quote = quote
