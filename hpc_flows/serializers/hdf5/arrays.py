"""Arrays of numpy as datasets."""

from __future__ import annotations

import zlib
from itertools import pairwise, product
from math import prod
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from hpc_flows.exceptions import ResultError
from hpc_flows.serializers.hdf5.form import describe, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes of an array below which it is never compressed: it is read as a whole anyway.
COMPRESS_FROM = 1 << 20
#: Bytes of a chunk of a compressed array: what HDF5's cache of chunks holds by default.
CHUNK = 1 << 20
#: An array is compressed when its samples shrink to less than this part.
WORTHWHILE = 0.5
#: Bytes of one of three samples: enough to see a pattern, little beside writing the array.
_SAMPLE = 1 << 14
#: Bytes that are copied at once where an array does not lie in memory as in the file.
_BLOCK = 1 << 24

_UTF8 = "utf-8"
_NATIVE = "biufcS"
_STAMPS = "mM"
_LONG_UNITS = {
    "W": "weeks", "D": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds",
    "us": "microseconds", "ns": "nanoseconds", "ps": "picoseconds", "fs": "femtoseconds",
}  # fmt: skip


def write_array(group: h5py.Group, name: str, array: Any, layout: Layout, where: str) -> Any:
    """Write an array as the dataset `name` and return that; `where` names it in errors.

    Raises:
        ResultError: HDF5 has no type for its elements.
    """
    if array.dtype.kind in "OT":
        return _write_texts(group, name, array, where)
    stored = to_stored(array, where)
    options = layout.options(stored)
    dataset = group.create_dataset(name, shape=stored.shape, dtype=stored.dtype, **options)
    _fill(dataset, stored)
    described = _differences(array, dataset)
    if described:
        describe(dataset, described)
    return dataset


def read_array(dataset: h5py.Dataset, description: dict[str, Any]) -> Any:
    """Return a dataset as the array that `write_array` was given.

    Raises:
        ResultError: it holds what numpy has no array for.
    """
    if description.get("texts"):
        return _read_texts(dataset, description)
    if h5py.check_string_dtype(dataset.dtype) is not None and dataset.dtype.kind == "O":
        return np.asarray(dataset.asstr()[()], dtype=object)
    stored = _read(dataset)
    dtype = dtype_of(description["dtype"]) if "dtype" in description else None
    array = stored if dtype is None else from_stored(stored, dtype)
    return np.asfortranarray(array) if description.get("order") == "F" else array


class Layout:
    """How datasets lie in the file: chosen by size and by what compression would bring.

    Args:
        compression: `auto`, `gzip`, or None for none.
        level: level of gzip, 1 (quick) to 9.
    """

    def __init__(self, compression: str | None = "auto", level: int = 1) -> None:
        self.compression = compression
        self.level = level

    def options(self, array: Any) -> dict[str, Any]:
        """Return the options of h5py's `create_dataset` for an array."""
        if self.compression is None or array.nbytes < COMPRESS_FROM or not array.ndim:
            return {}
        if self.compression == "auto" and not _shrinks(array):
            return {}
        chunks = chunk_shape(array.shape, array.dtype.itemsize)
        options = {"compression": "gzip", "compression_opts": self.level}
        return {"chunks": chunks, "shuffle": True, **options}


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return a shape of about CHUNK bytes that follows the order in memory: whole rows."""
    room = max(1, CHUNK // itemsize)
    chunk: list[int] = []
    for size in reversed(shape):
        part = max(1, min(size, room))
        chunk.append(part)
        room = max(1, room // part)
    return tuple(reversed(chunk))


def blocks(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Return slices that cover an array in blocks of at most some 16 MB, in order."""
    room = max(1, _BLOCK // itemsize)
    steps: list[int] = []
    for axis in range(len(shape)):
        rest = prod(shape[axis + 1 :])
        steps.append(max(1, min(shape[axis], room // max(1, rest))))
    ranges = [range(0, size, step) for size, step in zip(shape, steps, strict=True)]
    for starts in product(*ranges):
        yield tuple(slice(start, start + step) for start, step in zip(starts, steps, strict=True))


def to_stored(array: Any, where: str) -> Any:
    """Return an array of a type that HDF5 has, the same one where it has it.

    Raises:
        ResultError: HDF5 has no such type.
    """
    dtype = array.dtype
    if dtype.isbuiltin == 2 or (dtype.itemsize == 0 and dtype.kind != "U"):  # noqa: PLR2004 - numpy's code for types of others
        refuse(where, array, f" with the dtype {dtype}")
    if dtype.names is not None:
        return _to_stored_fields(array, where)
    if dtype.kind in _STAMPS:
        return array.view(dtype.str.replace(dtype.str[1:], "i8"))
    if dtype.kind == "U":
        return _encoded(array)
    if dtype.kind in _NATIVE or dtype.kind == "V":
        return array
    return refuse(where, array, f" with the dtype {dtype}")


def from_stored(stored: Any, dtype: Any) -> Any:
    """Return what `to_stored` was given, when that had this dtype."""
    if dtype.names is not None:
        array = np.zeros(stored.shape, dtype)
        for name in dtype.names:
            array[name] = from_stored(stored[name], dtype[name].base)
        return array
    if dtype.kind in _STAMPS:
        return stored.view(dtype)
    if dtype.kind == "U":
        if not stored.size:  # before 2.0, numpy forgot the shape
            return np.zeros(stored.shape, dtype)
        return np.char.decode(stored, _UTF8, "surrogatepass").astype(dtype)
    return stored if stored.dtype == dtype else stored.astype(dtype)


def _to_stored_fields(array: Any, where: str) -> Any:
    for name in array.dtype.names:
        if not is_text(name):
            refuse(where, array, f" with the field {name!r}: it holds a NUL or is no Unicode")
    places = [array.dtype.fields[name] for name in array.dtype.names]
    spans = sorted((start, start + part.itemsize) for part, start, *_ in places)
    if any(end > start for (_, end), (start, _) in pairwise(spans)):
        refuse(where, array, f", whose fields overlap: {array.dtype}")
    parts = {
        name: to_stored(_no_objects(array[name], f"{where}[{name!r}]"), f"{where}[{name!r}]")
        for name in array.dtype.names
    }
    if all(parts[name].dtype == array.dtype[name].base for name in parts):
        return array
    plain = [(name, part.dtype, part.shape[array.ndim :]) for name, part in parts.items()]
    stored = np.empty(array.shape, plain)
    for name, part in parts.items():
        stored[name] = part
    return stored


def _no_objects(array: Any, where: str) -> Any:
    if array.dtype.kind in "OT":
        first = array.reshape(-1)[0] if array.size else array
        refuse(where, first, " (objects in a structured array)")
    return array


def _encoded(array: Any) -> Any:
    encoded = np.zeros(array.shape, "S1")
    if array.size and array.dtype.itemsize:
        encoded = np.asarray(np.char.encode(array, _UTF8, "surrogatepass"))
    size = max(1, encoded.dtype.itemsize)
    return encoded.astype(f"S{size}", copy=False).astype(h5py.string_dtype(_UTF8, size))


def _differences(array: Any, dataset: h5py.Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if dataset.dtype != array.dtype or array.dtype.kind == "U":
        found["dtype"] = np.lib.format.dtype_to_descr(array.dtype)
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        found["order"] = "F"
    if array.dtype.kind in _STAMPS:
        _say_units(dataset, array.dtype)
    return found


def _say_units(dataset: h5py.Dataset, dtype: Any) -> None:
    """Say the units of times as the CF conventions do, for programs that know nothing of numpy."""
    unit, count = np.datetime_data(dtype)
    if unit in _LONG_UNITS and count == 1:
        since = " since 1970-01-01" if dtype.kind == "M" else ""
        dataset.attrs["hpc_flows_units"] = f"{_LONG_UNITS[unit]}{since}"


def dtype_of(description: Any) -> Any:
    """Return the dtype that was written down.

    Raises:
        ResultError: it is none.
    """
    try:
        return np.lib.format.descr_to_dtype(_tuples(description))
    except (TypeError, ValueError) as error:
        raise ResultError(f"This is no dtype of numpy: {description!r}.") from error


def _tuples(description: Any) -> Any:
    """Undo what JSON did to the description of a structured dtype: fields are tuples again."""
    if isinstance(description, str):
        return description
    *base, last = description
    if len(base) == 1 and isinstance(last, list) and _is_shape(last):
        return (_tuples(base[0]), tuple(last))
    return [_field(field) for field in description]


def _field(field: list[Any]) -> tuple[Any, ...]:
    name = tuple(field[0]) if isinstance(field[0], list) else field[0]
    return (name, _tuples(field[1]), *(tuple(shape) for shape in field[2:]))


def _is_shape(found: list[Any]) -> bool:
    return all(isinstance(size, int) for size in found)


def _fill(dataset: h5py.Dataset, array: Any) -> None:
    if not array.size:
        return
    if array.flags.c_contiguous and not dataset.chunks:
        dataset.id.write(h5py.h5s.ALL, h5py.h5s.ALL, array)
        return
    for block in blocks(array.shape, array.dtype.itemsize):
        dataset[block] = np.ascontiguousarray(array[block])


def _read(dataset: h5py.Dataset) -> Any:
    # Types of texts carry metadata that no array of the user had.
    plain = dataset.dtype.str if dataset.dtype.kind == "S" else dataset.dtype
    if dataset.shape is None:
        raise ResultError(f"{dataset.name} has no data.")
    array = np.empty(dataset.shape, plain)
    if array.size:
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, array, dataset.id.get_type())
    return array


def _shrinks(array: Any) -> bool:
    samples = [_sample(array, part) for part in (0.0, 0.5, 1.0)]
    shrunk = sum(len(zlib.compress(sample, 1)) for sample in samples)
    return shrunk < WORTHWHILE * sum(len(sample) for sample in samples)


def _sample(array: Any, part: float) -> bytes:
    """Return some bytes of an array, shuffled as HDF5 shuffles them."""
    size = max(4096, min(_SAMPLE, array.nbytes // 200))
    count = max(1, size // array.dtype.itemsize)
    start = int((array.size - count) * part)
    if array.flags.c_contiguous:
        items = array.reshape(-1)[max(0, start) :][:count]
    else:
        items = np.array([array.flat[max(0, start) :][:count]]).reshape(-1)
    data: bytes = items.copy().view(np.uint8).reshape(len(items), -1).T.tobytes()
    return data


def _write_texts(group: h5py.Group, name: str, array: Any, where: str) -> Any:
    kind = "objects" if array.dtype.kind == "O" else "StringDType"
    if hasattr(array.dtype, "na_object"):
        refuse(where, array, f" with the dtype {array.dtype}")
    objects = array.astype(object)
    for index, item in np.ndenumerate(objects):
        if type(item) is not str or not is_text(item):
            at = ", ".join(map(str, index))
            why = " (an object in an array)" if type(item) is not str else _NO_TEXT
            refuse(f"{where}[{at}]", item, why)
    dataset = group.create_dataset(name, shape=array.shape, dtype=h5py.string_dtype())
    if array.size:
        dataset[...] = objects
    described = {"texts": kind}
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        described["order"] = "F"
    describe(dataset, described)
    return dataset


def _read_texts(dataset: h5py.Dataset, description: dict[str, Any]) -> Any:
    array = np.empty(dataset.shape, dtype=object, order=description.get("order", "C"))
    if array.size:
        array[...] = dataset.asstr()[()]
    return array if description["texts"] == "objects" else array.astype(np.dtypes.StringDType())


_NO_TEXT = ": it holds a NUL or is no Unicode"


def is_text(text: str) -> bool:
    """Tell whether HDF5 can hold a text as one of variable length."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
