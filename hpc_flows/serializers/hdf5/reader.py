"""Groups and datasets as values of Python."""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from hpc_flows.exceptions import ResultError
from hpc_flows.serializers.described import Described
from hpc_flows.serializers.hdf5 import scalars
from hpc_flows.serializers.hdf5.arrays import read_array
from hpc_flows.serializers.hdf5.form import (
    VERSION,
    VERSION_MARK,
    Path,
    description_of,
    is_said_about,
)
from hpc_flows.serializers.importing import loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DICTS: dict[str, Any] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}
_SEQUENCES: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


class Reader:
    """Reads what a Writer wrote, and what other programs wrote.

    Args:
        pickles: whether pickles inside of the file are loaded, which runs code of whoever wrote it.
    """

    def __init__(self, *, pickles: bool = False) -> None:
        self.pickles = pickles
        self._path = Path()

    def read_root(self, root: h5py.Group) -> Any:
        """Return the value of a file.

        Raises:
            ResultError: it is damaged, of a later version, or holds what cannot be had here.
        """
        version = root.attrs.get(VERSION_MARK, VERSION)
        if version > VERSION:
            raise ResultError(
                f"The file is of version {version} of the form, this hpc_flows knows {VERSION}: "
                f"upgrade it, or read the file with h5py."
            )
        description = description_of(root)
        if description.get("kind") == "value":
            return self.member(root, description["members"][0])
        return self.read(root)

    def read(self, node: Any) -> Any:
        """Return the value of a group or dataset.

        Raises:
            ResultError: it cannot be had here.
        """
        description = description_of(node)
        if isinstance(node, h5py.Group):
            with self._path.into(node, str(node.name)):
                value = self._group(node, description)
        else:
            value = self._dataset(node, description)
        return _with_attributes(node, description, value)

    def member(self, group: h5py.Group, entry: list[Any]) -> Any:
        """Return the value of a member of a group, as it is listed in its description."""
        name = entry[0]
        if name in group.attrs:
            return scalars.decode(group.attrs[name], entry[1] if len(entry) > 1 else None)
        return self.read(group[name])

    def members(self, group: h5py.Group, description: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
        """Return the keys and values of a group, in their order."""
        for entry in description["members"]:
            key = scalars.decode_key(entry[2]) if len(entry) > 2 else entry[0]  # noqa: PLR2004 - see form
            yield key, self.member(group, entry)

    def _group(self, group: h5py.Group, description: dict[str, Any]) -> Any:
        kind = description.get("kind")
        if kind is None:
            return self._foreign(group)
        if kind in _DICTS:
            return _DICTS[kind](dict(self.members(group, description)))
        if kind in _SEQUENCES:
            return _SEQUENCES[kind]([item for _, item in self.members(group, description)])
        if kind in ("dataclass", "namedtuple"):
            return _rebuilt(group, description, dict(self.members(group, description)))
        if kind == "masked":
            return self._masked(group, description)
        if kind.startswith("pandas."):
            from hpc_flows.serializers.hdf5 import frames  # noqa: PLC0415 - pandas takes 300 ms

            return frames.read(self, group, description)
        raise ResultError(f"{group.name} is of the unknown kind {kind!r}: upgrade hpc_flows.")

    def _foreign(self, group: h5py.Group) -> dict[str, Any]:
        # Not by items(): h5py's view holds its lock, which all threads need, until it is used up
        # or forgotten, and an exception in here is remembered with the run's state.
        said = {key: scalars.decode(group.attrs[key], None) for key in list(group.attrs)}
        kept = {key: value for key, value in said.items() if is_said_about(key)}
        return {**kept, **{key: self.read(group[key]) for key in group}}

    def _dataset(self, dataset: h5py.Dataset, description: dict[str, Any]) -> Any:
        kind = description.get("kind")
        if kind == "pickle":
            return self._pickled(dataset, description)
        if kind == "scalar":
            return scalars.decode(_scalar(dataset), description.get("tag"))
        if kind in _BYTES:
            return _BYTES[kind](read_array(dataset, description).tobytes())
        if kind is not None and kind.startswith("pandas."):
            from hpc_flows.serializers.hdf5 import frames  # noqa: PLC0415 - pandas takes 300 ms

            return frames.read(self, dataset, description)
        array = read_array(dataset, description)
        return array if kind is None else _KINDS[kind](array)

    def _masked(self, group: h5py.Group, description: dict[str, Any]) -> Any:
        mask = self.read(group["mask"]) if "mask" in group else np.ma.nomask
        fill = self.read(group["fill_value"])
        data = self.read(group["data"])
        return np.ma.MaskedArray(data, mask, fill_value=fill, hard_mask=description["hard"])

    def _pickled(self, dataset: h5py.Dataset, description: dict[str, Any]) -> Any:
        if not self.pickles:
            raise ResultError(
                f"{dataset.name} is a pickle of a {description.get('type')}. Loading pickles runs "
                f"code of whoever wrote the file: if you trust them, load it with "
                f"HDF5Serializer(pickle_rest=True). The rest can be read through a result handle."
            )
        from hpc_flows.serializers.pickle import loads, not_unpicklable  # noqa: PLC0415 - asked for

        try:
            return loads(dataset[()].tobytes())
        except Exception as error:
            raise ResultError(f"{dataset.name}: {not_unpicklable(error)}") from error


_BYTES: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "str": lambda data: data.decode("utf-8", "surrogatepass"),
}

_KINDS: dict[str, Callable[[Any], Any]] = {
    "numpy": lambda array: array[()] if array.dtype.kind != "O" else array.item(),
    "list": lambda array: array.tolist(),
    "tuple": lambda array: tuple(array.tolist()),
    "recarray": lambda array: array.view(np.recarray),
    "matrix": np.asmatrix,
}


def _scalar(dataset: h5py.Dataset) -> Any:
    if h5py.check_string_dtype(dataset.dtype) is not None and dataset.dtype.kind == "O":
        return dataset.asstr()[()]
    return dataset[()]


def _with_attributes(node: Any, description: dict[str, Any], value: Any) -> Any:
    said = attributes_of(node, description)
    if "attributes" in description or (not description and said and isinstance(node, h5py.Dataset)):
        return Described(value, **said)
    return value


def attributes_of(node: Any, description: dict[str, Any]) -> dict[str, Any]:
    """Return what was said about a group or dataset: units and the like."""
    if "attributes" in description:
        tags = description["attributes"]
        return {name: _attribute(node.attrs[name], tag) for name, tag in tags.items()}
    if "members" in description:
        return {}
    names = [name for name in node.attrs if is_said_about(name)]
    return {name: scalars.decode(node.attrs[name], None) for name in names}


def _attribute(found: Any, tag: str | None) -> Any:
    if tag == "array":
        return np.asarray(found)
    if tag in ("list", "tuple"):
        return _SEQUENCES[tag](np.asarray(found).tolist())
    return scalars.decode(found, tag)


def _rebuilt(group: h5py.Group, description: dict[str, Any], members: dict[str, Any]) -> Any:
    class_ = _class(group, description)
    more = {name for name in description.get("more", ()) if not name.startswith("__")}
    if description["kind"] == "namedtuple":
        value = class_(**{name: item for name, item in members.items() if name not in more})
        for name in more & members.keys():
            setattr(value, name, members[name])
        return value
    known = {field.name for field in dataclasses.fields(class_)} | more
    if not members.keys() <= known:
        raise ResultError(
            f"{group.name} holds fields that {description['class']} no longer has: "
            f"{', '.join(sorted(members.keys() - known))}. {_BY_HANDLE}"
        )
    value = object.__new__(class_)
    for name, item in members.items():
        object.__setattr__(value, name, item)
    return value


def _class(group: h5py.Group, description: dict[str, Any]) -> Any:
    name = description["class"]
    try:
        class_ = loaded(name)
    except (ImportError, AttributeError) as error:
        raise ResultError(
            f"{group.name} is a {name}, which cannot be had here: {error}. {_BY_HANDLE}"
        ) from error
    named = isinstance(class_, type) and issubclass(class_, tuple) and hasattr(class_, "_fields")
    fits = named if description["kind"] == "namedtuple" else dataclasses.is_dataclass(class_)
    if not fits:
        raise ResultError(f"{group.name}: {name} is no {description['kind']}. {_BY_HANDLE}")
    return class_


_BY_HANDLE = "Its fields can be read one by one through a result handle, or with h5py."
