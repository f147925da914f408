"""The data of results: how it is written and told again, beside its record or inside of it."""

from __future__ import annotations

import os

from hpc_flows.exceptions import ForeignRecord, ResultError
from hpc_flows.results.signature import data_hash, user_key
from hpc_flows.serializers import Serializer
from hpc_flows.serializers.pickle import PickleSerializer, dump_parts, join_parts, not_picklable
from hpc_flows.settings import get_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _blake2 import blake2b
    from collections.abc import Iterable, Iterator
    from typing import Any

    from hpc_flows.results.places import Folder, Storage

_CHUNK = 1024 * 1024


def inside(data: bytes) -> dict[str, Any]:
    """Return the fields that hold small data inside of a record, as text where it is some."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable():
        return {"text": text}
    from binascii import b2a_base64  # noqa: PLC0415 - only here

    return {"base64": b2a_base64(data, newline=False).decode("ascii")}


def inner_data(fields: dict[str, Any]) -> bytes | None:
    """Return the data that lies inside of a record, or None where it lies beside it."""
    if "text" in fields:
        return str(fields["text"]).encode()
    if "base64" in fields:
        from binascii import a2b_base64  # noqa: PLC0415 - only here

        return a2b_base64(fields["base64"])
    return None


def sealed(parts: Iterable[bytes | memoryview], key: bytes) -> dict[str, Any]:
    """Return the fields that tell data again: its size and its keyed hash."""
    digest = data_hash(key)
    size = sum(len(piece) for piece in hashed(parts, digest))
    return {"size": size, "hash": digest.hexdigest()}


def hashed(parts: Iterable[bytes | memoryview], digest: blake2b) -> Iterator[bytes | memoryview]:
    """Yield data piece by piece, each hashed while it is warm in the cache."""
    for part in parts:
        view = memoryview(part).cast("B")
        for start in range(0, view.nbytes, _CHUNK):
            piece = view[start : start + _CHUNK]
            digest.update(piece)
            yield piece


def file_pieces(path: str) -> Iterator[bytes]:
    """Yield the content of a file piece by piece."""
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def check_data(fields: dict[str, Any], pieces: Iterable[bytes], where: str) -> None:
    """See that data is what the record says; only its size where it could run no code.

    Raises:
        ForeignRecord: it is not.
        OSError: it cannot be read.
    """
    wanted = fields["hash"]
    if wanted is None and fields["serializer"].get("type") == "hdf5":
        size = os.stat(where).st_size if os.path.isabs(where) else sum(map(len, pieces))
        right = size == fields["size"]
    else:
        digest = data_hash(user_key(get_settings().home))
        size = sum(len(piece) for piece in hashed(pieces, digest))
        right = size == fields["size"] and digest.hexdigest() == str(wanted)
    if not right:
        msg = (
            f"{where} is not what was kept under {fields['key']!r}: it was changed, or cut to "
            f"{size} of {fields['size']} bytes. Nothing of it is loaded; run the task with "
            f"refresh_cache=True to make it anew."
        )
        raise ForeignRecord(msg)


def missing_data(fields: dict[str, Any], place: Folder | Storage) -> str | None:
    """Return what is wrong with a record's data, as far as can be seen without reading it."""
    name = fields.get("file")
    path = None if name is None else place.local(name)
    if path is None:
        return None
    try:
        size = os.stat(path).st_size
    except FileNotFoundError:
        return f"{path} is not there any more; perhaps the site's purge of old files took it"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if size != fields["size"]:
        return f"{path} has {size} of {fields['size']} bytes"
    return None


def only_to_files(serializer: Serializer) -> bool:
    """Tell whether a serializer writes files better than bytes: it has a `dump` of its own."""
    own = type(serializer).dump is not Serializer.dump
    return own and not isinstance(serializer, PickleSerializer)


def parts_of(serializer: Serializer, value: Any) -> list[bytes | memoryview]:
    """Return a value as bytes; large arrays as they lie in memory."""
    quick = type(serializer) is PickleSerializer and serializer.picklelib == "cloudpickle"
    if not quick:
        return [serializer.dumps(value)]
    try:
        return join_parts(dump_parts(value))
    except Exception as error:
        raise ResultError(not_picklable(value, error)) from error


def seal_of_file(path: str, serializer: Serializer, secret: bytes) -> dict[str, Any]:
    """Return what tells a file again; without a hash where loading it can run no code.

    To read a large HDF5 file once more costs as much as to write it, and slices of it could not be
    loaded without reading all.
    """
    if serializer.type == "hdf5" and not getattr(serializer, "pickle_rest", False):
        return {"size": os.stat(path).st_size, "hash": None}
    return sealed(file_pieces(path), secret)
