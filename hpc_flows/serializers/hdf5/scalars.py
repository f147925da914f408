"""Single values as attributes, and keys of dicts as JSON."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import pathlib
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from hpc_flows.exceptions import ResultError
from hpc_flows.serializers.hdf5.arrays import is_text
from hpc_flows.serializers.hdf5.form import refuse
from hpc_flows.serializers.importing import is_importable, loaded, qualified

if TYPE_CHECKING:
    from collections.abc import Callable

#: Attributes of the common format must be smaller than 64 KB.
LARGEST = 60_000

#: Integers of more bits are written in hexadecimal.
_MOST_BITS = 10_000

_INT64 = range(-(2**63), 2**63)

_NATIVE = (bool, int, float, complex)

#: Python types that HDF5 has, by the kind of the attribute's dtype.
_BACK: dict[str, Callable[[Any], Any]] = {"b": bool, "i": int, "f": float, "c": complex}


def encode(value: Any, where: str) -> tuple[Any, str | None] | None:
    """Return a value as an attribute, and the tag that it needs; None if it is no scalar."""
    kind = type(value)
    if kind in _NATIVE and (kind is not int or value in _INT64):
        return value, None
    if kind is str:
        return _text(value)
    if kind in (bytes, bytearray) and len(value) < LARGEST:
        return _opaque(bytes(value)), kind.__name__
    if value is None:
        return h5py.Empty("i1"), "None"
    if isinstance(value, np.generic) and value.dtype.kind in "biufc" and value.dtype.isnative:
        return value, "numpy"
    return _as_text(value, where)


def decode(found: Any, tag: str | None) -> Any:
    """Return the value that `encode` made an attribute of.

    Raises:
        ResultError: the tag is unknown, or the attribute not of its kind.
    """
    if tag is None:
        return _plain(found)
    if tag in _READERS:
        return _READERS[tag](found)
    try:
        name, _, rest = tag.partition(" ")
        return _TEXTS[name][1](str(found), rest)
    except (KeyError, ValueError, ImportError, AttributeError, decimal.InvalidOperation) as error:
        raise ResultError(f"{found!r} cannot be read as {tag!r}: {error!r}.") from error


def encode_key(key: Any, where: str) -> Any:
    """Return a key of a dict as JSON.

    Raises:
        ResultError: it has no such form.
    """
    if isinstance(key, str | bool | int | float | None) and type(key).__module__ == "builtins":
        return _json_key(key)
    if type(key) is tuple:
        return {"tuple": [encode_key(item, where) for item in key]}
    if isinstance(key, np.generic) and key.dtype.kind in "biufUS":
        item = key.item()
        plain = item.hex() if isinstance(item, bytes | float) else item
        return {"numpy": [key.dtype.str, plain]}
    encoded = _as_text(key, where) if type(key) is not bytes else (key.hex(), "hex")
    if encoded is None:
        raise ResultError(
            f"HDF5 has no form for {where}, of type {type(key).__qualname__!r}. Use keys of text, "
            f"numbers, dates, enums, or tuples of them."
        )
    return {"text": [encoded[1], encoded[0]]}


def decode_key(key: Any) -> Any:
    """Return the key that `encode_key` made JSON of."""
    if not isinstance(key, dict):
        return key
    ((kind, found),) = key.items()
    if kind == "tuple":
        return tuple(decode_key(item) for item in found)
    if kind == "float":
        return float.fromhex(found)
    if kind == "text":
        tag, text = found
        return bytes.fromhex(text) if tag == "hex" else decode(text, tag)
    dtype = np.dtype(found[0])
    plain = found[1]
    if dtype.kind in "fS":
        plain = float.fromhex(plain) if dtype.kind == "f" else bytes.fromhex(plain)
    return dtype.type(plain)


def _json_key(key: Any) -> Any:
    # JSON has no NaN and no infinities.
    return {"float": key.hex()} if type(key) is float else key


def _text(value: str) -> tuple[Any, str | None] | None:
    if is_text(value):
        return value, None
    data = utf8(value)
    return (_opaque(data), "utf8") if len(data) < LARGEST else None


def _opaque(data: bytes) -> Any:
    return np.void(data) if data else h5py.Empty("i1")


def utf8(text: str) -> bytes:
    """Return a text as bytes, also one that is no Unicode."""
    return text.encode("utf-8", "surrogatepass")


def _bytes(found: Any) -> bytes:
    return b"" if isinstance(found, h5py.Empty) else np.asarray(found).tobytes()


def _plain(found: Any) -> Any:
    if isinstance(found, bytes):
        return found.decode("utf-8", "surrogateescape")
    kind = getattr(getattr(found, "dtype", None), "kind", None)
    if kind in _BACK and np.ndim(found) == 0:
        return _BACK[kind](found)
    return None if isinstance(found, h5py.Empty) else found


_READERS: dict[str, Callable[[Any], Any]] = {
    "None": lambda _: None,
    "bytes": _bytes,
    "bytearray": lambda found: bytearray(_bytes(found)),
    "utf8": lambda found: _bytes(found).decode("utf-8", "surrogatepass"),
    "numpy": lambda found: found if isinstance(found, np.generic) else np.asarray(found)[()],
}


def _as_text(value: Any, where: str) -> tuple[str, str] | None:
    if isinstance(value, enum.Enum):
        if not is_importable(type(value)):
            refuse(where, value, ", whose class cannot be imported by its name")
        return _name_of(value), f"enum {qualified(type(value))}"
    for name, (to_text, _) in _TEXTS.items():
        if _TYPES.get(name) is type(value):
            text = to_text(value)
            return None if text is None else (text, name)
    return None


def _name_of(member: enum.Enum) -> str:
    """Return the name of a member; flags that are set together have none, but a number."""
    if isinstance(member, enum.Flag) and member.name not in type(member).__members__:
        return f"={member.value}"
    return member.name


def _moment(value: dt.datetime) -> str | None:
    zone = value.tzinfo
    if isinstance(zone, zoneinfo.ZoneInfo) and zone.key:
        return f"{value.isoformat()}[{zone.key}]"
    known = zone is None or type(zone) is dt.timezone
    return value.isoformat() + _FOLD[value.fold] if known else None


def _moment_again(text: str, _: str) -> dt.datetime:
    stamp, bracket, key = text.removesuffix(_FOLD[1]).partition("[")
    value = dt.datetime.fromisoformat(stamp)
    if bracket:
        return _in_zone(value, zoneinfo.ZoneInfo(key.rstrip("]")))
    return value.replace(fold=int(text.endswith(_FOLD[1])))


def _in_zone(value: dt.datetime, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    """Return a moment by the clock of a zone: as it was written, unless the zone has changed."""
    for fold in (0, 1):
        found = value.replace(tzinfo=zone, fold=fold)
        if found.utcoffset() == value.utcoffset():
            return found
    return value.astimezone(zone)


def _time(value: dt.time) -> str | None:
    return None if value.tzinfo else value.isoformat() + _FOLD[value.fold]


def _time_again(text: str, _: str) -> dt.time:
    stamp = text.removesuffix(_FOLD[1])
    return dt.time.fromisoformat(stamp).replace(fold=int(text != stamp))


#: Which of two equal times on the day on which clocks are put back.
_FOLD = ("", " fold=1")


def _member(text: str, class_name: str) -> enum.Enum:
    class_ = loaded(class_name)
    if not (isinstance(class_, type) and issubclass(class_, enum.Enum)):
        raise ValueError(f"{class_name} is no enum")  # noqa: TRY004 - the file is wrong
    return class_(int(text[1:])) if text.startswith("=") else class_[text]


def _digits(value: int) -> str:
    # Python writes no decimal numbers of more than 4,300 digits.
    return str(value) if value.bit_length() < _MOST_BITS else hex(value)


def _seconds(text: str, _: str) -> dt.timedelta:
    days, seconds, microseconds = map(int, text.split())
    return dt.timedelta(days, seconds, microseconds)


def _path(text: str, _: str) -> pathlib.PurePath:
    return pathlib.Path(text)


_TYPES: dict[str, type] = {
    "int": int,
    "datetime": dt.datetime,
    "date": dt.date,
    "time": dt.time,
    "timedelta": dt.timedelta,
    "Decimal": decimal.Decimal,
    "Fraction": fractions.Fraction,
    "UUID": uuid.UUID,
    "Path": type(pathlib.Path()),
}

#: How types that HDF5 does not have are written as texts, and read again.
_TEXTS: dict[str, tuple[Callable[[Any], str | None], Callable[[str, str], Any]]] = {
    "datetime": (_moment, _moment_again),
    "date": (dt.date.isoformat, lambda text, _: dt.date.fromisoformat(text)),
    "time": (_time, _time_again),
    "timedelta": (lambda value: f"{value.days} {value.seconds} {value.microseconds}", _seconds),
    "Decimal": (str, lambda text, _: decimal.Decimal(text)),
    "Fraction": (str, lambda text, _: fractions.Fraction(text)),
    "UUID": (str, lambda text, _: uuid.UUID(text)),
    "Path": (str, _path),
    "int": (_digits, lambda text, _: int(text, 0)),
    "enum": (str, _member),
}
