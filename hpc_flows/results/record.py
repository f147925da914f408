"""Records: what is known of a result that is kept for other runs, and the way to its value.

A record is a small file of JSON that people can read::

    {
     "v": 1, "key": "grid-50km", "serializer": {"type": "hdf5"}, "created": 1795267712.1,
     "expiration": null, "hpc_flows": "0.2.0", "host": "udc-an28-1", "folder": "/scratch/me/kept",
     "file": "grid-50km.h5", "size": 812344, "hash": null,
     "mac": "6e0c…"
    }

Its data lies beside it in `file`, or, where it is small, inside as `"text"` or `"base64"`. The
record is signed with the user's key, and holds the keyed hash of data that could run code when it
is loaded.
"""

from __future__ import annotations

import os

from hpc_flows.exceptions import MissingResult, ResultError
from hpc_flows.results.data import (
    check_data,
    file_pieces,
    inner_data,
    inside,
    missing_data,
    sealed,
)
from hpc_flows.results.signature import signed_text, user_key, verified
from hpc_flows.serializers import restored
from hpc_flows.settings import get_settings
from hpc_flows.states import StoredValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from hpc_flows.results.places import Folder, Storage
    from hpc_flows.serializers import Serializer

#: Not loaded yet.
_ABSENT: Any = object()


class ResultRecordMetadata(StoredValue):
    """What a record says of a result.

    Attributes:
        fields: all of it, by the names in the file; without the signature.
    """

    __slots__ = ("fields",)

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def get(self) -> Any:
        """Return the value that it tells of.

        Raises:
            MissingResult: its file is not there.
            ForeignRecord: its file was changed.
        """
        return load_data(self.fields, None)

    @property
    def storage_key(self) -> str:
        """The key that it was kept under."""
        return str(self.fields["key"])

    @property
    def serializer(self) -> Serializer:
        """What the data was written with."""
        return restored(self.fields["serializer"])

    @property
    def expiration(self) -> datetime | None:
        """When it stops being valid, or None."""
        from datetime import UTC, datetime  # noqa: PLC0415 - for those who ask

        epoch = self.fields.get("expiration")
        return None if epoch is None else datetime.fromtimestamp(epoch, UTC)

    @property
    def version(self) -> str:
        """The version of hpc_flows that wrote it."""
        return str(self.fields["hpc_flows"])

    prefect_version = version
    #: Prefect's id of a saved block; there are none here.
    storage_block_id = None

    def model_dump_json(self, **_: Any) -> str:
        """Return the signed text of the record's file."""
        return signed_text(self.fields, user_key(get_settings().home))

    def dump_bytes(self) -> bytes:
        """Return the content of the record's file."""
        return self.model_dump_json().encode()

    @classmethod
    def load_bytes(cls, data: bytes, where: str = "This") -> ResultRecordMetadata:
        """Return what `dump_bytes` wrote.

        Args:
            data: the content of the file.
            where: what it was read from, for messages.

        Raises:
            ForeignRecord: it was changed or cut, or is not signed with this user's key.
        """
        return cls(**verified(data, user_key(get_settings().home), where))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResultRecordMetadata) and self.fields == other.fields

    __hash__ = None  # type: ignore[assignment]  # its fields are a dict

    def __repr__(self) -> str:
        return f"ResultRecordMetadata({self.fields!r})"


class ResultRecord(StoredValue):
    """A result that is, or can be, kept for other runs: what is known of it, and its value.

    Attributes:
        metadata: what is known of it.
        is_persisted: whether it is kept.
        keeps_value: whether a value that was loaded stays in memory.
    """

    __slots__ = ("_place", "_value", "is_persisted", "keeps_value", "metadata")

    def __init__(
        self,
        metadata: ResultRecordMetadata,
        result: Any = _ABSENT,
        *,
        place: Folder | Storage | None = None,
        keeps_value: bool = True,
    ) -> None:
        self.metadata = metadata
        self._value = result
        self._place = place
        self.keeps_value = keeps_value
        self.is_persisted = False

    @property
    def result(self) -> Any:
        """The value, loaded if need be."""
        return self.get()

    @property
    def expiration(self) -> datetime | None:
        """When it stops being valid, or None."""
        return self.metadata.expiration

    @property
    def serializer(self) -> Serializer:
        """What the data is written with."""
        return self.metadata.serializer

    def get(self) -> Any:
        """Return the value.

        Raises:
            MissingResult: its file is not there.
            ForeignRecord: its file was changed.
            ResultError: it cannot be loaded here.
        """
        if self._value is not _ABSENT:
            return self._value
        value = load_data(self.metadata.fields, self._place)
        if self.keeps_value:
            self._value = value
        return value

    def release(self) -> None:
        """Forget the value, which is loaded again when it is asked for."""
        if self.is_persisted:
            self._value = _ABSENT
            self.keeps_value = False

    def handle(self) -> Any:
        """Return a handle by which parts of the value can be read without loading all of it."""
        from hpc_flows.results.handle import ResultHandle  # noqa: PLC0415 - for those who ask

        return ResultHandle(self.path(), self.serializer, self.get)

    def path(self) -> str:
        """Return the path of the file with the data.

        Raises:
            MissingResult: it is not in a file that this machine sees.
        """
        fields = self.metadata.fields
        name = fields.get("file")
        local = None if name is None else _place(fields, self._place).local(name)
        if local is None:
            msg = f"The result {fields['key']!r} is not in a file of its own on this machine."
            raise MissingResult(msg)
        return local

    def mark_persisted(self) -> None:
        """Note that it is kept."""
        self.is_persisted = True

    def serialize_result(self) -> bytes:
        """Return the value as its serializer writes it.

        Raises:
            ResultError: it cannot write such a value.
        """
        return self.serializer.dumps(self.get())

    def serialize_metadata(self) -> bytes:
        """Return the content of the record's file."""
        return self.metadata.dump_bytes()

    def serialize(self) -> bytes:
        """Return a record that holds its data, as one file."""
        data = self.serialize_result()
        home = get_settings().home
        fields = {**self.metadata.fields, **inside(data), **sealed([data], user_key(home))}
        fields.pop("file", None)
        return signed_text(fields, user_key(home)).encode()

    @classmethod
    def deserialize(cls, data: bytes, backup_serializer: Any = None) -> ResultRecord:  # noqa: ARG003 - Prefect's signature
        """Return the record that a file of `ResultStore` holds.

        Raises:
            ForeignRecord: it was changed or cut, or is not signed with this user's key.
        """
        record = cls(ResultRecordMetadata.load_bytes(data))
        record.is_persisted = True
        return record

    @classmethod
    def deserialize_from_result_and_metadata(cls, result: bytes, metadata: bytes) -> ResultRecord:
        """Return the record that two files hold.

        Raises:
            ForeignRecord: one of them was changed or cut, or is not signed with this user's key.
        """
        known = ResultRecordMetadata.load_bytes(metadata)
        check_data(known.fields, [result], "The data")
        record = cls(known, known.serializer.loads(result))
        record.is_persisted = True
        return record

    def __reduce__(self) -> tuple[Any, ...]:
        # What is kept travels as its record, what is not as its value.
        value = _ABSENT if self.is_persisted else self._value
        fields = (self.metadata.fields, self.is_persisted, self.keeps_value)
        return _restored, (*fields, value is not _ABSENT, None if value is _ABSENT else value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ResultRecord) or self.metadata != other.metadata:
            return False
        return bool(self.get() == other.get())

    __hash__ = None  # type: ignore[assignment]  # its fields are a dict

    def __repr__(self) -> str:
        return f"<ResultRecord {self.metadata.fields.get('key')!r}>"


def _restored(
    fields: dict[str, Any],
    is_persisted: bool,  # noqa: FBT001 - called by pickle
    keeps_value: bool,  # noqa: FBT001 - as above
    has_value: bool,  # noqa: FBT001 - as above
    value: Any,
) -> ResultRecord:
    record = ResultRecord(ResultRecordMetadata(**fields), value if has_value else _ABSENT)
    record.is_persisted, record.keeps_value = is_persisted, keeps_value
    return record


def load_data(fields: dict[str, Any], place: Folder | Storage | None = None) -> Any:
    """Return the value that a verified record leads to.

    Raises:
        MissingResult: its file is not there.
        ForeignRecord: its file was changed or cut.
        ResultError: it cannot be loaded here.
    """
    serializer = restored(fields["serializer"])
    data = inner_data(fields)
    if data is not None:
        return serializer.loads(data)
    name = str(fields["file"])
    where = _place(fields, place)
    path = where.local(name)
    if path is None:
        content = where.read(name)
        if content is None:
            raise MissingResult(_gone(fields, f"{where}: {name}"))
        check_data(fields, [content], f"{where}: {name}")
        return serializer.loads(content)
    try:
        check_data(fields, file_pieces(path), path)
        return serializer.load(path)
    except FileNotFoundError as error:
        raise MissingResult(_gone(fields, path)) from error
    except OSError as error:
        raise ResultError(f"The result cannot be read: {path}: {error.strerror}.") from error


def problem_of(text: str) -> str | None:
    """Return what is wrong with the data of a record, as far as can be seen without reading it."""
    try:
        record = ResultRecord.deserialize(text.encode())
    except ResultError as error:
        return str(error)
    folder = record.metadata.fields.get("folder")
    if folder is None or not record.metadata.fields.get("file"):
        return None
    path = os.path.join(str(folder), os.path.dirname(str(record.metadata.fields["file"])))
    try:
        os.listdir(path)  # makes a network file system look at the server's newest one
    except OSError as error:
        return f"{path}: {error.strerror}"
    return missing_data(record.metadata.fields, _place(record.metadata.fields, None))


def _place(fields: dict[str, Any], place: Folder | Storage | None) -> Folder | Storage:
    if place is not None:
        return place
    from hpc_flows.results.places import Folder  # noqa: PLC0415 - for records that have travelled

    folder = fields.get("folder")
    if folder is None:
        msg = (
            f"The record {fields['key']!r} does not say where its data lies; read it by its store."
        )
        raise MissingResult(msg)
    return Folder(str(folder))


def _gone(fields: dict[str, Any], where: str) -> str:
    return (
        f"The result {fields['key']!r} is not there: {where}. It was removed by hand, or by the "
        f"site's purge of old files. Run the task again to have it."
    )
