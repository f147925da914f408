"""What a file of ours looks like: names, descriptions, and the errors of those who use them.

Version 1 of the form. Every value is an object of HDF5 that any tool can read: arrays are
datasets, containers are groups, scalars of a container are attributes of its group. What HDF5
cannot say of them (that a group was a list, a key no text) stands in the attribute `hpc_flows`
as JSON. An object without that attribute is what it looks like.

* The root group is the container itself, or holds anything else as its member `value`.
* `{"kind": "dict", "members": [[name, tag, key], ...]}`: the members in their order; `tag` says of
  an attribute what its type cannot, `key` what the name in the file does not. Both can be left out.
* `{"kind": "dataclass", "class": ..., "members": ..., "more": [name, ...]}`: `more` are attributes
  that are no fields.
* `{"dtype": ..., "order": "F"}` beside an array whose type HDF5 does not have.
"""

from __future__ import annotations

from contextlib import contextmanager
from json import dumps, loads
from typing import TYPE_CHECKING, Any, NoReturn

from hpc_flows.exceptions import ResultError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py

#: The attribute with the description of an object.
DESCRIPTION = "hpc_flows"
#: The attribute of the root group with the version of the form.
VERSION_MARK = "hpc_flows_hdf5"
VERSION = 1

#: Attributes that other programs keep for themselves.
_FOREIGN = ("CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "DIMENSION_LABELS", "_Nc4", "_NC")


#: How deep containers may lie in each other. Python's own limit must not be reached: an error
#: of recursion within h5py leaves its lock taken, and all other threads then wait for ever.
DEEPEST = 64


class Path:
    """The containers that are being written or read, from the outermost to the innermost.

    `with path.into(mark, where):` goes one deeper.
    """

    def __init__(self) -> None:
        self._marks: list[Any] = []

    @contextmanager
    def into(self, mark: Any, where: str) -> Iterator[None]:
        """Go into the container of that mark for the length of a `with` block.

        Raises:
            ResultError: the path leads through it already, or is too long.
        """
        if mark in self._marks:
            raise ResultError(f"{where} contains itself, which HDF5 results cannot.")
        if len(self._marks) >= DEEPEST:
            raise ResultError(f"{where} is nested too deeply: {DEEPEST} levels are the most.")
        self._marks.append(mark)
        try:
            yield
        finally:
            self._marks.pop()


def describe(node: h5py.HLObject, description: dict[str, Any]) -> None:
    """Write down what HDF5 cannot say of an object."""
    node.attrs[DESCRIPTION] = dumps(description, separators=(",", ":"))


def description_of(node: h5py.HLObject) -> dict[str, Any]:
    """Return what was written down of an object; nothing for those of other programs.

    Raises:
        ResultError: it cannot be read.
    """
    text = node.attrs.get(DESCRIPTION)
    if text is None:
        return {}
    try:
        found = loads(text)
    except (TypeError, ValueError) as error:
        raise ResultError(f"{node.name} has a damaged attribute {DESCRIPTION!r}.") from error
    return found if isinstance(found, dict) else {}


def is_said_about(name: str) -> bool:
    """Tell whether an attribute says something that a user put there."""
    return not name.startswith((DESCRIPTION, *_FOREIGN))


def name_in_file(key: str, taken: set[str]) -> str:
    """Return a name for `key` that HDF5 allows and that no other member has."""
    name = "".join(_escaped(letter) for letter in key)
    if name in ("", ".") or name.startswith(DESCRIPTION):
        name = f"%{name}"
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}~{number}"
    taken.add(free)
    return free


def _escaped(letter: str) -> str:
    if letter in "/\0" or "\ud800" <= letter <= "\udfff":
        return f"%{ord(letter):02X}"
    return letter


def refuse(where: str, value: object, why: str = "") -> NoReturn:
    """Say that HDF5 has no form for a value.

    Raises:
        ResultError: always.
    """
    raise ResultError(
        f"HDF5 has no form for {where}, of type {type(value).__qualname__!r}{why}. Make it of "
        f"arrays, tables, numbers, texts and containers of them, or use "
        f"HDF5Serializer(pickle_rest=True), which keeps such values as pickles inside of the file."
    )
