"""One text for equal values, in every process, session and machine with the same Python.

A value is walked through and each part is hashed with its type. Dicts and sets are hashed without
their order, which differs between sessions; arrays by dtype, shape and bytes; functions by what
they do, not where they stand; everything else by what pickle would write of it, part by part.
"""

from __future__ import annotations

import struct
import sys
from _blake2 import blake2b

from hpc_flows.exceptions import HashError
from hpc_flows.serializers.attributes import attributes_beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType
    from typing import Any

_DEEPEST = 500
_BYTES = 16


def hash_objects(
    *args: Any,
    hash_algo: Callable[..., Any] | None = None,
    raise_on_failure: bool = False,
    **kwargs: Any,
) -> str | None:
    """Return one text for these values, the same in every session; None where there is none.

    Args:
        *args: values.
        hash_algo: as of hashlib; shortens or lengthens the text. None takes BLAKE2b, 16 bytes.
        raise_on_failure: give True to have HashError raised instead of None returned.
        **kwargs: values by name.

    Raises:
        HashError: a value, which the message names, holds something that no text stands for.
    """
    try:
        digest = _hash_all(args, kwargs)
    except HashError:
        if raise_on_failure:
            raise
        return None
    return digest.hex() if hash_algo is None else str(hash_algo(digest).hexdigest())


def stable_hash(*args: str | bytes, hash_algo: Callable[..., Any] | None = None) -> str:
    """Return the hash of texts and bytes, one after the other, in hexadecimal."""
    digest = blake2b(digest_size=_BYTES) if hash_algo is None else hash_algo()
    for arg in args:
        digest.update(arg.encode() if isinstance(arg, str) else arg)
    return str(digest.hexdigest())


def _hash_all(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    whole = blake2b(digest_size=_BYTES)
    for number, value in enumerate(args):
        whole.update(_named(f"value {number + 1}", value))
    for name in sorted(kwargs):
        whole.update(name.encode() + b"=" + _named(repr(name), kwargs[name]))
    return whole.digest()


def _named(name: str, value: Any) -> bytes:
    if type(value) is dict and all(type(key) is str for key in value):
        walk = _Walk()
        parts = [(key.encode(), _one(f"argument {key!r}", value[key], walk)) for key in value]
        return _digest(b"dict", (piece for pair in sorted(parts) for piece in pair))
    return _one(name, value, _Walk())


def _one(name: str, value: Any, walk: _Walk) -> bytes:
    try:
        return walk.of(value)
    except RecursionError:
        raise HashError(_refusal(name, value, "it is nested too deeply")) from None
    except Exception as error:
        raise HashError(_refusal(name, value, f"{type(error).__name__}: {error}")) from error


def _refusal(name: str, value: Any, why: str) -> str:
    argument = name.removeprefix("argument ") if name.startswith("argument ") else None
    leave = (
        f'leave it out of the key with `INPUTS - "{argument.strip(chr(39))}"`, or '
        if argument
        else ""
    )
    return (
        f"No key can be made of {name}, of type {type(value).__qualname__!r}: {why}. Locks, open "
        f"files and connections cannot be compared between runs: {leave}make a key of your own "
        f"with cache_key_fn, or switch caching off with cache_policy=NO_CACHE."
    )


def _digest(kind: bytes, parts: Iterable[bytes]) -> bytes:
    whole = blake2b(kind + b"\0", digest_size=_BYTES)
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.digest()


class _Walk:
    """One walk through a value; remembers what it is inside of, for values that hold themselves."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}

    def of(self, value: Any) -> bytes:
        """Return the digest of a value."""
        leaf = _LEAVES.get(type(value))
        if leaf is not None:
            return _digest(type(value).__name__.encode(), [leaf(value)])
        if id(value) in self._open:
            return _digest(b"above", [str(self._open[id(value)]).encode()])
        if len(self._open) > _DEEPEST:
            raise RecursionError
        self._open[id(value)] = len(self._open)
        try:
            return self._compound(value)
        finally:
            del self._open[id(value)]

    def _compound(self, value: Any) -> bytes:
        kind = type(value)
        plain = _CONTAINERS.get(kind)
        if plain is not None:
            return _digest(kind.__name__.encode(), plain(self, value))
        if isinstance(value, type):
            return self._class(value)
        for test, walk in _KINDS:
            if test(value):
                return _digest(walk.__name__.encode(), walk(self, value))
        return _digest(b"object", self._pickled(value))

    def row(self, value: Any) -> list[bytes]:
        """Return the parts of a list or tuple."""
        return [self.of(item) for item in value]

    def heap(self, value: Any) -> list[bytes]:
        """Return the parts of a set."""
        return sorted(self.of(item) for item in value)

    def pairs(self, value: Any) -> list[bytes]:
        """Return the parts of a dict."""
        return sorted(self.of(key) + self.of(item) for key, item in value.items())

    def _class(self, value: type) -> bytes:
        """Return the digest of a class: its name, and what it does if it was made in `__main__`."""
        parts = [f"{value.__module__}.{value.__qualname__}".encode()]
        if value.__module__ == "__main__" or "<locals>" in value.__qualname__:
            for name, item in sorted(vars(value).items()):
                if hasattr(item, "__code__"):
                    parts += [name.encode(), code_digest(item.__code__)]
        return _digest(b"class", parts)

    def numpy_array(self, value: Any) -> list[bytes]:
        """Return the parts of an array; those of a subclass say its class, and units and the like.

        A subclass without a pickle of its own keeps them as attributes.
        """
        numpy = sys.modules["numpy"]
        masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
        if type(value) in (numpy.ndarray, numpy.void, numpy.memmap, masked):
            return self._elements(value)
        if type(value).__reduce__ not in (numpy.ndarray.__reduce__, numpy.generic.__reduce__):
            return self._pickled(value)
        said = self.of(getattr(value, "__dict__", None))
        return [self.of(type(value)), said, *self._elements(value)]

    def _elements(self, value: Any) -> list[bytes]:
        dtype, shape = value.dtype, str(value.shape).encode()
        if dtype.names is not None:  # one by one: what lies between fields is left to chance
            fields = (self.of(value[name]) for name in dtype.names)
            return [str(dtype).encode(), shape, *fields]
        about = [str(dtype.descr).encode(), shape]
        if dtype.hasobject:
            return [*about, self.of(value.tolist())]
        mask = getattr(value, "mask", None)
        masked = [] if mask is None else [mask.tobytes()]
        return [*about, value.tobytes(), *masked]

    def numpy_number(self, value: Any) -> list[bytes]:
        """Return the parts of a number of numpy's."""
        return [str(value.dtype).encode(), value.tobytes()]

    def table(self, value: Any) -> list[bytes]:
        """Return the parts of a DataFrame, column by column: many tasks go by their order."""
        columns = (self._values(value.iloc[:, at]) for at in range(len(value.columns)))
        return [
            self.of(value.columns),
            self.of(value.index),
            *(part for parts in columns for part in parts),
            *self._said(value),
        ]

    def column(self, value: Any) -> list[bytes]:
        """Return the parts of a Series or an Index."""
        names = list(value.names) if hasattr(value, "names") else [value.name]
        parts = [self.of(names), *self._values(value)]
        if hasattr(value, "index") and not callable(value.index):
            parts.append(self.of(value.index))
        return [*parts, *self._said(value)]

    def _values(self, value: Any) -> list[bytes]:
        dtype = value.dtype
        about = [str(dtype).encode()]
        if hasattr(dtype, "categories"):
            about += [self.of(dtype.categories), self.of(dtype.ordered)]
        # The arrays of other packages know more than their elements, such as a map's projection.
        ours = hasattr(value, "levels") or type(value.array).__module__.startswith("pandas.")
        return [*about, self.of(value.to_numpy() if ours else value.array)]

    def _said(self, value: Any) -> list[bytes]:
        """Return what is said about a table beside its values, if there is anything."""
        said = {name: getattr(value, name, None) for name in getattr(value, "_metadata", ())}
        said.pop("_name", None)
        said.update(getattr(value, "attrs", None) or {})
        return [self.of(said)] if said else []

    def dataclass(self, value: Any) -> list[bytes]:
        """Return the parts of a dataclass: its fields, and what else it was given."""
        names = type(value).__dataclass_fields__
        pairs = [(name, getattr(value, name, None)) for name in names]
        more = attributes_beside(value, names)
        rest = [self.of(more)] if more else []
        return [self.of(type(value)), *(self.of(item) for pair in pairs for item in pair), *rest]

    def model(self, value: Any) -> list[bytes]:
        """Return the parts of a pydantic model; secrets by their value."""
        extra = getattr(value, "__pydantic_extra__", None) or {}
        return [self.of(type(value)), self.of(dict(value.__dict__)), self.of(dict(extra))]

    def function(self, value: Any) -> list[bytes]:
        """Return the parts of a function: what it does, its defaults, what it closes over."""
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        bound = [value.__defaults__, value.__kwdefaults__, cells]
        return [value.__qualname__.encode(), code_digest(value.__code__), *map(self.of, bound)]

    def method(self, value: Any) -> list[bytes]:
        """Return the parts of a bound method."""
        return [self.of(value.__func__), self.of(value.__self__)]

    def definition(self, value: Any) -> list[bytes]:
        """Return the parts of a task or flow."""
        return [value.name.encode(), self.of(value.fn)]

    def path(self, value: Any) -> list[bytes]:
        """Return the parts of a path: its text. FILES hashes what is in it."""
        return [str(value).encode("utf-8", "surrogateescape")]

    def wrapped(self, value: Any) -> list[bytes]:
        """Return the parts of a function behind a cache."""
        return [self.of(value.__wrapped__)]

    def builtin(self, value: Any) -> list[bytes]:
        """Return the parts of a function written in C: its module and name."""
        return [str(value.__module__).encode(), value.__qualname__.encode()]

    def bag(self, value: Any) -> list[bytes]:
        """Return the parts of a subclass of set: what pickle writes has an order of chance."""
        said = self.of(getattr(value, "__dict__", None))
        return [self.of(type(value)), said, *self.heap(value)]

    def module(self, value: Any) -> list[bytes]:
        """Return the parts of a module: its name."""
        return [value.__name__.encode()]

    def _pickled(self, value: Any) -> list[bytes]:
        """Return the parts that pickle would write of an object."""
        reduce = getattr(sys.modules.get("copyreg"), "dispatch_table", {}).get(type(value))
        reduced = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        if isinstance(reduced, str):
            home = str(getattr(value, "__module__", None))
            return [type(value).__qualname__.encode(), home.encode(), reduced.encode()]
        make, args, *rest = reduced
        rest += [None] * (3 - len(rest))
        state, items, pairs = rest[:3]
        return [
            self.of(make),
            self.of(tuple(args)),
            self.of(state),
            self.of(None if items is None else list(items)),
            self.of(None if pairs is None else _paired(value, pairs)),
        ]


def code_digest(code: CodeType) -> bytes:
    """Return the digest of what code does; line numbers and file names do not matter."""
    constants = []
    for value in code.co_consts:
        inner = code_digest(value) if hasattr(value, "co_code") else _Walk().of(value)
        constants.append(inner)
    # A docstring is the first constant, and says nothing of what is done.
    names = [" ".join(each).encode() for each in (code.co_names, code.co_varnames)]
    return _digest(b"code", [code.co_code, *names, *constants])


def told_apart(fn: Any) -> list[Any]:
    """Return what functions of one source differ by: what they close over, and lambdas' code.

    Of the former only numbers, texts and functions: what can change between two calls, such as a
    list that is filled or a counter, would give each call a key of its own.
    """
    code = getattr(fn, "__code__", None)
    if code is None:
        return []
    found: list[Any] = [code_digest(code)] if code.co_name == "<lambda>" else []
    for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=False):
        value: Any = cell.cell_contents if _filled(cell) else None
        if type(value) in _CONSTANTS and not _sets(code, name):
            found.append((name, value))
        elif type(value).__name__ == "function":
            found.append((name, code_digest(value.__code__)))
    return found


def _sets(code: CodeType, name: str) -> bool:
    """Tell whether a function sets what it closes over: `nonlocal count; count += 1`."""
    from dis import get_instructions  # noqa: PLC0415 - few functions that are cached are closures

    return any(
        each.opname in ("STORE_DEREF", "DELETE_DEREF") and each.argval == name
        for each in get_instructions(code)
    )


def _paired(value: Any, pairs: Iterable[Any]) -> Any:
    """Return the pairs of a subclass of dict; as a list where their order tells it from others."""
    ordered = any(base.__name__ == "OrderedDict" for base in type(value).__mro__)
    return list(pairs) if ordered else dict(pairs)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _is_numpy(value: Any, name: str) -> bool:
    # By class: others that have a dtype, such as quantities of pint, have units as well.
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, getattr(numpy, name))


def _is_pandas(value: Any, name: str) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, getattr(pandas, name))


def _is_builtin(value: Any) -> bool:
    return type(value).__name__ == "builtin_function_or_method" and (
        getattr(value, "__self__", None) is None or type(value.__self__) is type(sys)
    )


_KINDS: tuple[tuple[Callable[[Any], Any], Callable[[_Walk, Any], list[bytes]]], ...] = (
    (lambda v: _is_numpy(v, "ndarray") or _is_numpy(v, "void"), _Walk.numpy_array),
    (lambda v: _is_numpy(v, "generic"), _Walk.numpy_number),
    (lambda v: _is_pandas(v, "DataFrame"), _Walk.table),
    (lambda v: _is_pandas(v, "Series") or _is_pandas(v, "Index"), _Walk.column),
    (lambda v: hasattr(type(v), "__dataclass_fields__"), _Walk.dataclass),
    (lambda v: hasattr(type(v), "__pydantic_fields__"), _Walk.model),
    (lambda v: type(v).__name__ == "function", _Walk.function),
    (lambda v: type(v).__name__ == "method", _Walk.method),
    (lambda v: hasattr(v, "fn") and hasattr(v, "with_options"), _Walk.definition),
    (lambda v: hasattr(type(v), "__fspath__"), _Walk.path),
    (lambda v: type(v).__name__ == "module", _Walk.module),
    (_is_builtin, _Walk.builtin),
    (lambda v: type(v).__name__ == "_lru_cache_wrapper", _Walk.wrapped),
    (lambda v: isinstance(v, (set, frozenset)), _Walk.bag),
)

_CONSTANTS = (bool, int, float, complex, str, bytes)

_CONTAINERS: dict[type, Callable[[_Walk, Any], list[bytes]]] = {
    list: _Walk.row,
    tuple: _Walk.row,
    set: _Walk.heap,
    frozenset: _Walk.heap,
    dict: _Walk.pairs,
}

_LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"",
    bool: lambda v: b"1" if v else b"0",
    # Python writes no decimal numbers of more than 4,300 digits.
    int: lambda v: (str(v) if v.bit_length() < 10_000 else hex(v)).encode(),  # noqa: PLR2004 - bits
    float: lambda v: struct.pack("<d", v),
    complex: lambda v: struct.pack("<dd", v.real, v.imag),
    str: lambda v: v.encode("utf-8", "surrogatepass"),
    bytes: lambda v: v,
    bytearray: bytes,
    memoryview: bytes,
    range: lambda v: repr(v).encode(),
    type(...): lambda _: b"",
    type(NotImplemented): lambda _: b"",
}
