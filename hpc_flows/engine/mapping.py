"""How the arguments of a `map` become the arguments of its calls."""

from __future__ import annotations

from hpc_flows.exceptions import MappingLengthMismatch, MappingMissingIterable
from hpc_flows.futures import TaskFuture, allow_failure, quote, unmapped, value_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Column = Callable[[int], Any]
    Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_WHOLE = (str, bytes, bytearray)


def spread(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Arguments]:
    """Return the `(args, kwargs)` of every call of a `map`.

    A future among the arguments is waited for, and its value iterated over.

    Raises:
        MappingLengthMismatch: the iterables have different lengths.
        MappingMissingIterable: there is no iterable.
    """
    lengths: dict[str, int] = {}
    columns = [_column(f"argument {place + 1}", arg, lengths) for place, arg in enumerate(args)]
    named = {name: _column(name, arg, lengths) for name, arg in kwargs.items()}
    count = _count(lengths)
    return [
        (tuple([column(i) for column in columns]), {k: column(i) for k, column in named.items()})
        for i in range(count)
    ]


def _count(lengths: dict[str, int]) -> int:
    if not lengths:
        msg = (
            "map() needs something to iterate over: every argument is a single value, a text or "
            "unmapped. Give an iterable, or call submit() instead."
        )
        raise MappingMissingIterable(msg)
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        msg = f"map() needs iterables of one length: {found}. Wrap in unmapped() what is the same."
        raise MappingLengthMismatch(msg)
    return next(iter(lengths.values()))


def _column(name: str, value: Any, lengths: dict[str, int]) -> Column:
    """Return the function that gives an argument's value in call number i."""
    wrap: Callable[[Any], Any] = allow_failure if isinstance(value, allow_failure) else _same
    inner = value.value if isinstance(value, allow_failure) else value
    if isinstance(inner, unmapped):
        return _always(wrap(inner.value))
    if isinstance(inner, quote):
        return _always(inner)
    if isinstance(inner, TaskFuture):
        inner.wait()
        if wrap is not _same and not inner.state.is_completed():
            return _always(value)  # its failure is one thing, for each call
        inner = value_of(inner.state)
    if isinstance(inner, _WHOLE) or not _is_iterable(inner):
        return _always(wrap(inner))
    items = inner if isinstance(inner, (list, tuple)) else list(inner)
    lengths[name] = len(items)
    return items.__getitem__ if wrap is _same else lambda i: wrap(items[i])


def _same(value: Any) -> Any:
    return value


def _always(value: Any) -> Column:
    return lambda _: value


def _is_iterable(value: Any) -> bool:
    if hasattr(value, "read"):  # an open file is one thing
        return False
    try:
        iter(value)
    except TypeError:  # also what has __iter__ and cannot, such as an array without dimensions
        return False
    return True
