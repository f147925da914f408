"""Parts of an HDF5 file that are read when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from hpc_flows.exceptions import ResultError, close_match
from hpc_flows.serializers.hdf5 import scalars
from hpc_flows.serializers.hdf5.arrays import dtype_of, from_stored
from hpc_flows.serializers.hdf5.form import description_of
from hpc_flows.serializers.hdf5.reader import Reader, attributes_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class Part:
    """A dataset or group of a result: an array that stays in its file until it is sliced.

    `part["name"]` is a part below, or the value itself where that is a scalar; `part[10:20]` reads
    a slice, and only that; `part.load()` reads all of it.
    """

    def __init__(self, node: Any, reader: Reader) -> None:
        self.node = node
        self._reader = reader
        self._description = description_of(node)

    @property
    def attrs(self) -> dict[str, Any]:
        """What was said about it: units and the like."""
        return attributes_of(self.node, self._description)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        shape: tuple[int, ...] = self._array().shape
        return shape

    @property
    def dtype(self) -> Any:
        """Type of the array's elements, as the task returned it."""
        dataset = self._array()
        said = description_of(dataset).get("dtype")
        return dataset.dtype if said is None else dtype_of(said)

    def __len__(self) -> int:
        if isinstance(self.node, h5py.Group) and not self._is_masked():
            return len(self.keys())
        return self.shape[0]

    def keys(self) -> list[Any]:
        """Return the names of what is below, as the task gave them; none for an array."""
        if not isinstance(self.node, h5py.Group) or self._is_masked():
            return []
        return list(self._members())

    def __iter__(self) -> Iterator[Any]:
        if self.keys():
            return iter(self.keys())
        return (self[at] for at in range(len(self)))

    def __contains__(self, key: object) -> bool:
        try:
            self._member(key)
        except KeyError:
            return False
        return True

    def __getitem__(self, key: Any) -> Any:
        if self._is_masked():
            data, mask = self._below("data")[key], self.node.get("mask")
            return np.ma.MaskedArray(data, np.ma.nomask if mask is None else mask[key])
        if isinstance(self.node, h5py.Group):
            return self._member(key)
        stored = self._texts()[key]
        said = self._description.get("dtype")
        array = stored if said is None else from_stored(np.asarray(stored), dtype_of(said))
        return array[()] if isinstance(array, np.ndarray) and array.ndim == 0 else array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:  # noqa: FBT001 - as numpy calls it
        """Read the whole array."""
        del copy  # what was read belongs to nobody else
        return np.asarray(self[...] if self.shape else self[()], dtype=dtype)

    def load(self) -> Any:
        """Read all of it and return the value.

        Raises:
            ResultError: it cannot be had here.
        """
        return self._reader.read(self.node)

    def __repr__(self) -> str:
        if self.keys():
            return f"<Part {self.node.name}: {', '.join(map(repr, self.keys()[:20]))}>"
        return f"<Part {self.node.name}: {self.node!r}>"

    def _is_masked(self) -> bool:
        return self._description.get("kind") == "masked"

    def _below(self, name: str) -> Part:
        return Part(self.node[name], self._reader)

    def _array(self) -> Any:
        if self._is_masked():
            return self.node["data"]
        if isinstance(self.node, h5py.Group):
            kind = self._description.get("kind", "group")
            raise ResultError(f"{self.node.name} is a {kind}: only arrays have shape and dtype.")
        return self.node

    def _texts(self) -> Any:
        is_text = h5py.check_string_dtype(self.node.dtype) is not None
        return self.node.asstr() if is_text and self.node.dtype.kind == "O" else self.node

    def _members(self) -> dict[Any, list[Any]]:
        """Return the entries of what is below, by the names that the task gave."""
        if "columns" in self._description:
            labels = self._reader.read(self.node["__columns__"])
            names = self._description["columns"]
            return {label: [name] for label, name in zip(labels, names, strict=True)}
        if "members" not in self._description:
            return {name: [name] for name in (*self.node, *self.attrs)}
        listed = self._description["members"]
        return {
            scalars.decode_key(entry[2]) if len(entry) > 2 else entry[0]: entry  # noqa: PLR2004 - see form
            for entry in listed
        }

    def _find(self, key: Any) -> tuple[list[Any], str] | None:
        """Return the entry for a key, and what of the key leads on below it."""
        members = self._members()
        if self._description.get("kind") in ("list", "tuple") and type(key) is int:
            key = str(key if key >= 0 else len(members) + key)
        if key in members:
            return members[key], ""
        parts = key.split("/") if isinstance(key, str) else []
        for cut in range(1, len(parts)):
            head = "/".join(parts[:cut])
            if head in members:
                return members[head], "/".join(parts[cut:])
        return None

    def _member(self, key: Any) -> Any:
        if isinstance(key, slice) or (isinstance(key, tuple) and key not in self._members()):
            raise ResultError(
                f"{self.node.name} is a {self._description.get('kind', 'group')} and cannot be "
                f"sliced. Slice one of its arrays, or load it: {self!r}."
            )
        found = self._find(key)
        if found is None:
            words = [str(name) for name in self.keys()]
            raise KeyError(f"{key!r} is not in {self.node.name}{close_match(str(key), words)}")
        entry, rest = found
        if entry[0] in self.node.attrs:
            return self._reader.member(self.node, entry)
        node = self.node[entry[0]]
        scalar = description_of(node).get("kind") in (
            "scalar",
            "numpy",
            "bytes",
            "bytearray",
            "str",
            "pickle",
        )
        below = self._reader.read(node) if scalar else Part(node, self._reader)
        return below[rest] if rest else below


def root_part(file: Any, *, pickles: bool) -> Any:
    """Return the value of a file as a Part: the root itself, or the single value that it holds."""
    reader = Reader(pickles=pickles)
    description = description_of(file)
    if description.get("kind") == "value" and "value" in file:
        return Part(file["value"], reader)
    return Part(file, reader)
