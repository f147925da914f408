"""Values of Python as groups and datasets."""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from hpc_flows.exceptions import ResultError
from hpc_flows.serializers.attributes import attributes_beside
from hpc_flows.serializers.described import Described
from hpc_flows.serializers.hdf5 import scalars
from hpc_flows.serializers.hdf5.arrays import is_text, write_array
from hpc_flows.serializers.hdf5.form import (
    VERSION,
    VERSION_MARK,
    Path,
    describe,
    description_of,
    name_in_file,
    refuse,
)
from hpc_flows.serializers.importing import is_importable, qualified

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpc_flows.serializers.hdf5.arrays import Layout

#: Scalars of one group that become attributes; each more is a dataset of its own.
ATTRIBUTES = 256


class Writer:
    """Writes one value into a file.

    Args:
        layout: how datasets lie in the file.
        pickle_rest: whether what has no form of its own is pickled.
    """

    def __init__(self, layout: Layout, *, pickle_rest: bool = False) -> None:
        self.layout = layout
        self.pickle_rest = pickle_rest
        self._path = Path()

    def write_root(self, root: h5py.Group, value: Any) -> None:
        """Write a value as the content of a file.

        Raises:
            ResultError: HDF5 has no form for a part of it.
        """
        root.attrs[VERSION_MARK] = VERSION
        fill = self._filler(value)
        if fill is None:
            self._members(root, {"kind": "value"}, [("value", value, "the value")])
            return
        with self._path.into(id(value), "the value"):
            fill(root, value, "the value")

    def write(self, group: h5py.Group, name: str, value: Any, where: str) -> Any:
        """Write a value that is no scalar as the member `name`, and return what that became.

        Raises:
            ResultError: HDF5 has no form for a part of it.
        """
        if isinstance(value, np.ndarray):
            return self._array(group, name, value, where)
        with self._path.into(id(value), where):
            return self._inner(group, name, value, where)

    def _inner(self, group: h5py.Group, name: str, value: Any, where: str) -> Any:
        fill = self._filler(value)
        if fill is not None:
            child = group.create_group(name)
            fill(child, value, where)
            return child
        if type(value) is Described:
            return self._described(group, name, value, where)
        simple = self._simple(group, name, value, where)
        return simple if simple is not None else self._rest(group, name, value, where)

    def _filler(self, value: Any) -> Any:
        """Return the method that writes a container into its group, None for everything else."""
        kind = type(value)
        if kind in (dict, OrderedDict, Counter):
            return self._dict
        if kind in (list, tuple, set, frozenset) and not _is_uniform(value):
            return self._sequence
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return self._fields
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._fields
        if kind.__module__.partition(".")[0] == "pandas":
            from hpc_flows.serializers.hdf5 import frames  # noqa: PLC0415 - pandas takes 300 ms

            return frames.filler(self, value)
        return None

    def _dict(self, group: h5py.Group, value: dict[Any, Any], where: str) -> None:
        members = [(key, item, f"{where}[{key!r:.80}]") for key, item in value.items()]
        self._members(group, {"kind": type(value).__name__}, members)

    def _sequence(self, group: h5py.Group, value: Iterable[Any], where: str) -> None:
        members = [(str(at), item, f"{where}[{at}]") for at, item in enumerate(value)]
        self._members(group, {"kind": type(value).__name__}, members)

    def _fields(self, group: h5py.Group, value: Any, where: str) -> None:
        class_ = type(value)
        if not is_importable(class_):
            refuse(where, value, ", whose class cannot be imported by its name")
        named = getattr(class_, "_fields", None) or [f.name for f in dataclasses.fields(value)]
        more = attributes_beside(value, named)
        found = {name: getattr(value, name) for name in named if hasattr(value, name)}
        members = [(n, item, f"{where}.{n}") for n, item in {**found, **more}.items()]
        kind = "namedtuple" if isinstance(value, tuple) else "dataclass"
        description = {"kind": kind, "class": qualified(class_)}
        self._members(group, {**description, "more": list(more)} if more else description, members)

    def _members(
        self, group: h5py.Group, description: dict[str, Any], members: list[tuple[Any, Any, str]]
    ) -> None:
        taken: set[str] = set()
        listed = []
        for key, item, where in members:
            name = name_in_file(key if type(key) is str else str(key), taken)
            entry: list[Any] = [name, self._member(group, name, item, where)]
            if name != key or type(key) is not str:
                entry.append(scalars.encode_key(key, f"the key of {where}"))
            while entry[-1] is None and len(entry) == 2:  # noqa: PLR2004 - no tag, no key
                entry.pop()
            listed.append(entry)
        describe(group, {**description, "members": listed})

    def _member(self, group: h5py.Group, name: str, item: Any, where: str) -> str | None:
        scalar = scalars.encode(item, where)
        if scalar is None:
            self.write(group, name, item, where)
            return None
        found, tag = scalar
        if type(found) is str and tag is not None and not is_text(found):
            refuse(where, item, ": its text holds a NUL or is no Unicode")
        if len(group.attrs) < ATTRIBUTES:
            group.attrs[name] = found
            return tag
        dataset = group.create_dataset(name, data=found)
        describe(dataset, {"kind": "scalar", "tag": tag})
        return None

    def _array(self, group: h5py.Group, name: str, value: Any, where: str) -> Any:
        kind = type(value)
        if kind is np.ndarray:
            return self._plain_array(group, name, value, where)
        if kind is np.ma.MaskedArray:
            return self._masked(group, name, value, where)
        if kind in (np.recarray, np.matrix):
            dataset = self._plain_array(group, name, np.asarray(value), where)
            describe(dataset, {**description_of(dataset), "kind": kind.__name__})
            return dataset
        return self._rest(group, name, value, where)

    def _plain_array(self, group: h5py.Group, name: str, value: Any, where: str) -> Any:
        if not self.pickle_rest:
            return write_array(group, name, value, self.layout, where)
        try:
            return write_array(group, name, value, self.layout, where)
        except ResultError:
            return self._rest(group, name, value, where)

    def _masked(self, group: h5py.Group, name: str, value: Any, where: str) -> Any:
        child = group.create_group(name)
        self._plain_array(child, "data", np.asarray(value.data), where)
        if value.mask is not np.ma.nomask:
            self._plain_array(child, "mask", np.asarray(value.mask), f"{where}.mask")
        fill = np.asarray(value.fill_value, dtype=value.dtype)
        self._plain_array(child, "fill_value", fill, f"{where}.fill_value")
        describe(child, {"kind": "masked", "hard": bool(value.hardmask)})
        return child

    def _described(self, group: h5py.Group, name: str, value: Described, where: str) -> Any:
        node = self._node(group, name, value.value, where)
        tags = {}
        for key, item in value.attributes.items():
            if key in node.attrs or not key.isprintable():
                refuse(f"{where}.attributes[{key!r}]", item, ": the name is taken or not printable")
            tags[key] = _write_attribute(node, key, item, f"{where}.attributes[{key!r}]")
        describe(node, {**description_of(node), "attributes": tags})
        return node

    def _node(self, group: h5py.Group, name: str, value: Any, where: str) -> Any:
        scalar = scalars.encode(value, where)
        if scalar is None:
            return self.write(group, name, value, where)
        dataset = group.create_dataset(name, data=scalar[0])
        describe(dataset, {"kind": "scalar", "tag": scalar[1]})
        return dataset

    def _simple(self, group: h5py.Group, name: str, value: Any, where: str) -> Any:
        """Write what is one dataset and no array; return None for everything else."""
        kind = type(value)
        if isinstance(value, np.generic) and kind.__module__ == "numpy":
            dataset = self._plain_array(group, name, np.asarray(value), where)
            description = {**description_of(dataset), "kind": "numpy"}
        elif kind in (list, tuple):
            items = type(value[0])
            array = np.array(value, dtype=object if items is str else None)
            dataset = write_array(group, name, array, self.layout, where)
            description = {**description_of(dataset), "kind": kind.__name__}
        elif kind in (bytes, bytearray, str):
            data = scalars.utf8(value) if kind is str else value
            array = np.frombuffer(data, dtype=np.uint8)
            dataset = write_array(group, name, array, self.layout, where)
            description = {"kind": kind.__name__}
        else:
            return None
        describe(dataset, description)
        return dataset

    def _rest(self, group: h5py.Group, name: str, value: Any, where: str) -> Any:
        if not self.pickle_rest:
            refuse(where, value)
        return self.pickle(group, name, value, where)

    def pickle(self, group: h5py.Group, name: str, value: Any, where: str) -> Any:
        """Write a value as a pickle inside of the file.

        Raises:
            ResultError: it cannot be pickled.
        """
        from hpc_flows.serializers.pickle import dumps, not_picklable  # noqa: PLC0415 - asked for

        try:
            data = dumps(value)
        except Exception as error:
            raise ResultError(f"{where}: {not_picklable(value, error)}") from error
        dataset = group.create_dataset(name, data=np.frombuffer(data, dtype=np.uint8))
        describe(dataset, {"kind": "pickle", "type": qualified(type(value))})
        return dataset


def _is_uniform(value: Any) -> bool:
    """Tell whether a list or tuple holds plain numbers or texts of one type, and so is an array."""
    if type(value) not in (list, tuple) or not value:
        return False
    kinds = set(map(type, value))
    if len(kinds) != 1:
        return False
    (kind,) = kinds
    if kind is int:
        least, most = int(min(value)), int(max(value))
        return least >= -(2**63) and most < 2**63
    return kind in (float, bool, complex) or (kind is str and all(map(is_text, value)))


def _write_attribute(node: Any, name: str, value: Any, where: str) -> str | None:
    if isinstance(value, np.ndarray) and value.nbytes < scalars.LARGEST:
        if value.dtype.kind in "biufcS" and type(value) is np.ndarray and value.size:
            node.attrs[name] = value
            return "array"
    elif type(value) in (list, tuple) and _is_uniform(value) and len(value) < scalars.LARGEST // 16:
        texts = type(value[0]) is str
        node.attrs.create(name, value, dtype=h5py.string_dtype() if texts else None)
        return type(value).__name__
    else:
        encoded = scalars.encode(value, where)
        if encoded is not None and (type(encoded[0]) is not str or is_text(encoded[0])):
            node.attrs[name] = encoded[0]
            return encoded[1]
    raise ResultError(
        f"{where} is of type {type(value).__qualname__!r}: attributes of Described are texts, "
        f"numbers, and lists or arrays of them below {scalars.LARGEST:,} bytes. Put larger things "
        f"beside the value, in a dict."
    )
