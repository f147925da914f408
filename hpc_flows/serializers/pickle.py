"""Pickle, protocol 5: whatever Python can pickle, large arrays without a copy.

Values that hold no large buffers are plain pickles. Otherwise the bytes are `MAGIC`, the number
of parts and the length of each (unsigned, little-endian, 8 bytes), then the parts: the pickle,
and each large buffer as it lies in memory.
"""

from __future__ import annotations

from hpc_flows.exceptions import ResultError
from hpc_flows.serializers.base import Serializer, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _pickle import PickleBuffer
    from collections.abc import Callable
    from typing import Any

#: How bytes begin that have large buffers beside the pickle. A plain pickle begins with 0x80.
MAGIC = b"hpcf-p5\n"

#: Buffers of fewer bytes go into the pickle: a part of its own costs more than the copy.
_LARGE = 65536

#: The `picklelib` that is Prefect's default.
_USUAL = "cloudpickle"

#: What a pickle has in it that names something of `__main__`: a text of eight characters. Longer
#: ones, such as the keys of tasks of a script, are just texts.
_BY_VALUE = b"\x8c\x08__main__"

_WORD = 8
_MOST_PARTS = 1_000_000


class PickleSerializer(Serializer):
    """Pickle, with cloudpickle for what has no importable name.

    Args:
        picklelib: `cloudpickle`, which here means: pickle where that is enough (quicker, and large
            arrays are not copied) and cloudpickle where it is not. Any other name is a module
            whose `dumps` and `loads` are used as they are.

    Raises:
        ValueError: there is no such module, or it lacks one of the two functions.
    """

    type = "pickle"
    suffix = ".pkl"
    options = ("picklelib",)

    def __init__(self, picklelib: str = _USUAL) -> None:
        self.picklelib = picklelib
        if picklelib != _USUAL:
            _library(picklelib)

    def dumps(self, value: Any) -> bytes:
        """Return `value` pickled."""
        try:
            return dumps(value) if self.picklelib == _USUAL else self._dumps_by_library(value)
        except Exception as error:
            raise ResultError(not_picklable(value, error)) from error

    def loads(self, data: bytes) -> Any:
        """Unpickle `data`, which must come from somebody trusted: unpickling runs code."""
        try:
            return loads(data) if self.picklelib == _USUAL else _library(self.picklelib).loads(data)
        except Exception as error:
            raise ResultError(not_unpicklable(error)) from error

    def dump(self, value: Any, path: str) -> None:
        """Write `value` to the file `path`; large arrays go there from where they lie."""
        if self.picklelib != _USUAL:
            super().dump(value, path)
            return
        try:
            parts = dump_parts(value)
        except Exception as error:
            raise ResultError(not_picklable(value, error)) from error
        write_file(path, join_parts(parts))

    def _dumps_by_library(self, value: Any) -> bytes:
        data: bytes = _library(self.picklelib).dumps(value)
        return data


def _library(name: str) -> Any:
    from hpc_flows.serializers.importing import library  # noqa: PLC0415 - rarely needed

    return library(name, "picklelib", "pickle", ("dumps", "loads"))


def dumps(value: Any) -> bytes:
    """Return `value` pickled; `loads` is the way back.

    What is defined in `__main__` or has no name (lambdas, closures, local classes) is pickled by
    value through cloudpickle: the process that loads it has another `__main__`.

    Raises:
        Exception: whatever the value's own methods, pickle or cloudpickle raise.
    """
    return b"".join(join_parts(dump_parts(value)))


def loads(data: bytes | bytearray | memoryview) -> Any:
    """Return the value that `dumps` made `data` from.

    Raises:
        Exception: whatever unpickling raises.
    """
    from _pickle import loads as unpickle  # noqa: PLC0415 - 2 ms, not for those who keep nothing

    if data[: len(MAGIC)] != MAGIC:
        return unpickle(data)
    view = memoryview(data)
    parts: list[memoryview | bytearray] = []
    start = header_size(view)
    for size in part_sizes(view):
        # A copy of its own: an array that is kept must not keep all the others in memory.
        parts.append(bytearray(view[start : start + size]))
        start += size
    return load_parts(parts)


def dump_parts(value: Any) -> list[bytes | memoryview]:
    """Return the pickle of `value`, followed by its large buffers, which are not copied.

    Raises:
        Exception: whatever the value's own methods, pickle or cloudpickle raise.
    """
    from _pickle import dumps as quick  # noqa: PLC0415 - 2 ms, not for those who keep nothing

    buffers: list[memoryview] = []
    try:
        data = quick(value, 5, buffer_callback=_collect(buffers))
    except Exception:  # noqa: BLE001 - lambdas and local classes raise all sorts
        data = _BY_VALUE
    if _BY_VALUE in data:
        # 22 ms to import, and slower: only for what has no importable name.
        from cloudpickle import dumps as thorough  # noqa: PLC0415

        buffers.clear()
        data = thorough(value, protocol=5, buffer_callback=_collect(buffers))
    return [data, *buffers]


def load_parts(parts: list[Any]) -> Any:
    """Return the value whose `dump_parts` these are. Arrays use the buffers that are given."""
    from _pickle import loads as unpickle  # noqa: PLC0415 - 2 ms, not for those who keep nothing

    return unpickle(parts[0], buffers=parts[1:])


def join_parts(parts: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return the pieces that, one after the other, are the bytes of a pickle with these parts."""
    if len(parts) == 1:
        return parts
    sizes = [len(parts), *(memoryview(part).nbytes for part in parts)]
    return [MAGIC + b"".join(size.to_bytes(_WORD, "little") for size in sizes), *parts]


def header_size(start: bytes | memoryview) -> int:
    """Return how many bytes stand before the first part; `start` has the first 16 bytes or more.

    Raises:
        ValueError: the number of parts is not one that `join_parts` writes.
    """
    count = int.from_bytes(start[len(MAGIC) : len(MAGIC) + _WORD], "little")
    if not 1 < count <= _MOST_PARTS:
        raise ValueError(f"a pickle of {count} parts")
    return len(MAGIC) + _WORD * (1 + count)


def part_sizes(header: bytes | memoryview) -> list[int]:
    """Return the sizes of the parts in bytes; `header` has `header_size` bytes or more.

    Raises:
        ValueError: the header is cut.
    """
    size = header_size(header)
    if len(header) < size:
        raise ValueError(f"{len(header)} of {size} bytes of a header")
    words = range(len(MAGIC) + _WORD, size, _WORD)
    return [int.from_bytes(header[at : at + _WORD], "little") for at in words]


def not_picklable(value: object, error: BaseException) -> str:
    """Say that a value cannot be pickled, and what to do."""
    return (
        f"A value of type {type(value).__qualname__!r} cannot be pickled: {error}. Return plain "
        f"data, or write a file and return its path."
    )


def not_unpicklable(error: BaseException) -> str:
    """Say that a value cannot be unpickled here, and what to do."""
    return (
        f"A value cannot be unpickled here: {type(error).__name__}: {error}. This Python needs "
        f"the modules that the value was made with, in the same versions."
    )


def _collect(buffers: list[memoryview]) -> Callable[[PickleBuffer], bool]:
    def inside(buffer: PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:  # not contiguous: cannot be taken as it lies
            return True
        if view.nbytes < _LARGE:
            return True
        buffers.append(view)
        return False

    return inside
