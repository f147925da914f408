"""The store of results that outlive their run, by key: `ResultStore`.

What lies in its folder is described in `record`; docs/concepts/caching.md shows it.
"""

from __future__ import annotations

import os
import time
from errno import EDQUOT, ENOSPC

from hpc_flows._version import __version__
from hpc_flows.exceptions import (
    ForeignRecord,
    MissingResult,
    ResultError,
    SettingsError,
    TransactionError,
)
from hpc_flows.locking.names import here, safe_name
from hpc_flows.results.data import (
    hashed,
    inside,
    missing_data,
    only_to_files,
    parts_of,
    seal_of_file,
    sealed,
)
from hpc_flows.results.places import Folder, place_of
from hpc_flows.results.record import ResultRecord, ResultRecordMetadata
from hpc_flows.results.signature import data_hash, user_key
from hpc_flows.runs import new_id
from hpc_flows.serializers import resolved
from hpc_flows.settings import get_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime
    from typing import Any, Self

    from hpc_flows.results.places import Storage
    from hpc_flows.serializers import Serializer

#: Bytes of data up to which they lie inside of their record: most file systems of clusters count
#: files, and give each at least this much.
INSIDE = 4096
#: Endings of keys that name the file of the data themselves; the record then lies beside it.
_DATA = (".h5", ".hdf5", ".pkl", ".json", ".nc")
_RECORD = ".record"


class ResultStore:
    """Keeps results by key, for other runs, and for other processes of this one.

    Each method has a form for async code whose name begins with `a`. A subclass may override any.

    Attributes:
        metadata_storage: where records lie, if apart from their data; or None.
        lock_manager: takes locks on keys, or None.
        cache_result_in_memory: whether values that were loaded or written stay in memory.
        serializer: how values are written.
        storage_key_fn: gives the key of a value that is written without one.
    """

    def __init__(
        self,
        result_storage: Any = None,
        metadata_storage: Any = None,
        lock_manager: Any = None,
        *,
        cache_result_in_memory: bool = True,
        serializer: Serializer | str | None = None,
        storage_key_fn: Callable[[], str] | None = None,
    ) -> None:
        """Make a store.

        Args:
            result_storage: a folder, or an object such as `LocalFileSystem`; None takes the
                setting `results_storage`, and without that `storage` in the home.
            metadata_storage: the same for the records alone; None puts them beside the data.
            lock_manager: such as `FileSystemLockManager`.
            cache_result_in_memory: whether values stay in memory.
            serializer: a serializer or its name; None takes the setting.
            storage_key_fn: gives keys; None takes random ones.

        Raises:
            ResultError: nothing can be kept in what was given.
        """
        self._storage = result_storage
        self._place: Folder | Storage | None = None
        self.metadata_storage = metadata_storage
        self.lock_manager = lock_manager
        self.cache_result_in_memory = cache_result_in_memory
        self.serializer = resolved(serializer or get_settings().results_default_serializer)
        self.storage_key_fn: Callable[[], str] = storage_key_fn or _random_key

    def __repr__(self) -> str:
        return f"<ResultStore {self.place!r}>"

    @property
    def place(self) -> Folder | Storage:
        """Where the data lies."""
        if self._place is None:
            self._place = place_of(default_storage() if self._storage is None else self._storage)
        return self._place

    @property
    def result_storage(self) -> Any:
        """Where the data lies, as an object that reads and writes paths."""
        if self._storage is None or isinstance(self._storage, (str, os.PathLike)):
            from hpc_flows.filesystems import LocalFileSystem  # noqa: PLC0415 - for those who ask

            return LocalFileSystem(basepath=str(self.place))
        return self._storage

    @property
    def result_storage_block_id(self) -> None:
        """None: Prefect's id of a saved block."""
        return

    @property
    def records(self) -> Folder | Storage:
        """Where the records lie."""
        return self.place if self.metadata_storage is None else place_of(self.metadata_storage)

    # Variants -----------------------------------------------------------------------------------

    def model_copy(self, update: dict[str, Any] | None = None) -> Self:
        """Return a store with some attributes changed."""
        other = self.__class__.__new__(self.__class__)
        other.__dict__.update(self.__dict__)
        changes = dict(update or {})
        if "result_storage" in changes:
            changes.update(_storage=changes.pop("result_storage"), _place=None)
        other.__dict__.update(changes)
        return other

    def update_for_flow(self, flow: Any) -> Self:
        """Return a store as a flow's options want it."""
        return self.model_copy(_wanted(flow))

    def update_for_task(self, task: Any) -> Self:
        """Return a store as a task's options want it, its cache policy's storage and locks too."""
        changes = _wanted(task)
        policy = task.cache_policy
        if policy is not None and policy.key_storage is not None:
            changes["metadata_storage"] = policy.key_storage
        if policy is not None and policy.lock_manager is not None:
            changes["lock_manager"] = policy.lock_manager
        return self.model_copy(changes)

    # Finding ------------------------------------------------------------------------------------

    def find(self, key: str) -> tuple[ResultRecord | None, str | None]:
        """Look for a result that can be used.

        Returns:
            Its record, or None, and then why what was found cannot be used; None for nothing found.
        """
        try:
            record = self._record(key)
        except (ResultError, SettingsError, OSError, KeyError, TypeError) as error:
            return None, str(error)
        if record is None:
            return None, None
        epoch = record.metadata.fields.get("expiration")
        if epoch is not None and epoch <= time.time():
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))
            return None, f"it has expired at {when}"
        problem = missing_data(record.metadata.fields, self.place)
        return (record, None) if problem is None else (None, problem)

    def exists(self, key: str) -> bool:
        """Tell whether there is a result of that key that has not expired, and can be used."""
        return self.find(key)[0] is not None

    def read(self, key: str, holder: str | None = None) -> ResultRecord:
        """Return the record of a key, once nobody else holds its lock.

        Args:
            key: which.
            holder: who asks; the process and thread, unless given.

        Raises:
            MissingResult: there is none.
            ForeignRecord: what is there was changed, or not written by this user.
        """
        if self.lock_manager is not None and not self.is_lock_holder(key, holder):
            self.wait_for_lock(key)
        record = self._record(key)
        if record is None:
            msg = f"Nothing is kept under {key!r} in {self.records!r}."
            raise MissingResult(msg)
        return record

    def _record(self, key: str) -> ResultRecord | None:
        records = self.records
        name = record_name(key)
        content = records.read(name)
        if content is None:
            return None
        where = records.local(name) or f"{records!r}: {name}"
        metadata = ResultRecordMetadata.load_bytes(content, where)
        if metadata.storage_key != key:
            msg = f"{where} is the record of {metadata.storage_key!r}, not of {key!r}."
            raise ForeignRecord(msg)
        keeps = self.cache_result_in_memory
        record = ResultRecord(metadata, place=self.place, keeps_value=keeps)
        record.mark_persisted()
        return record

    # Writing ------------------------------------------------------------------------------------

    def create_result_record(
        self, obj: Any, key: str | None = None, expiration: datetime | float | None = None
    ) -> ResultRecord:
        """Return a record of a value that is not kept yet.

        Args:
            obj: the value.
            key: its key; one is made unless given.
            expiration: when it stops being valid: an aware datetime, or seconds since 1970.
        """
        epoch = expiration if expiration is None else _epoch(expiration)
        metadata = ResultRecordMetadata(
            v=1,
            key=key or self.storage_key_fn(),
            serializer=self.serializer.model_dump(),
            created=time.time(),
            expiration=epoch,
            hpc_flows=__version__,
            host=os.uname().nodename,
        )
        keeps = self.cache_result_in_memory
        return ResultRecord(metadata, obj, place=self.place, keeps_value=keeps)

    def write(
        self,
        obj: Any,
        key: str | None = None,
        expiration: datetime | float | None = None,
        holder: str | None = None,
    ) -> None:
        """Keep a value.

        Args:
            obj: the value.
            key: its key; one is made unless given.
            expiration: when it stops being valid: an aware datetime, or seconds since 1970.
            holder: who writes; the process and thread, unless given.

        Raises:
            ResultError: the serializer cannot write it, or the storage is full or away.
            TransactionError: somebody else holds the key's lock.
        """
        self.persist_result_record(self.create_result_record(obj, key, expiration), holder)

    def persist_result_record(self, result_record: ResultRecord, holder: str | None = None) -> None:
        """Keep a record and its value: first the data, then the record, each whole or not at all.

        Raises:
            ResultError: the serializer cannot write it, or the storage is full or away.
            TransactionError: somebody else holds the key's lock.
        """
        key = result_record.metadata.storage_key
        if self.lock_manager is not None and self.is_locked(key):
            self._check_holder(key, holder)
        fsync = get_settings().journal_fsync
        try:
            old = self._old_file(key)
            new = self._write_data(key, result_record, fsync=fsync)
            result_record.metadata.fields.update(new)
            content = result_record.serialize_metadata()
            # A record that a power cut takes is missed by nobody but the next run, which computes.
            self.records.write(record_name(key), [content], fsync=False)
        except OSError as error:
            raise ResultError(_not_written(key, self.place, error)) from error
        if old is not None and old != new.get("file"):
            self.place.remove(old)
        result_record.mark_persisted()

    def _old_file(self, key: str) -> str | None:
        """Return the file of what a key has now, which the new one may replace."""
        try:
            record = self._record(key)
        except (ResultError, OSError):
            return None
        return None if record is None else record.metadata.fields.get("file")

    def _write_data(self, key: str, record: ResultRecord, *, fsync: bool) -> dict[str, Any]:
        """Write the data and return what the record shall say of it."""
        serializer, value = record.serializer, record.get()
        secret = user_key(get_settings().home)
        name = self._data_name(key, serializer)
        where = {"folder": str(self.place) if isinstance(self.place, Folder) else None}
        if only_to_files(serializer) and isinstance(self.place, Folder):
            path = self.place.prepare(name)
            serializer.dump(value, path)
            return {**where, "file": name, **seal_of_file(path, serializer, secret)}
        parts = parts_of(serializer, value)
        size = sum(memoryview(part).nbytes for part in parts)
        if size <= INSIDE and name == safe_name(key) + serializer.suffix:
            data = b"".join(parts)
            return {**where, **sealed([data], secret), **inside(data)}
        digest = data_hash(secret)
        self.place.write(name, hashed(parts, digest), fsync=fsync)
        return {**where, "file": name, "size": size, "hash": digest.hexdigest()}

    def _data_name(self, key: str, serializer: Serializer) -> str:
        name = safe_name(key)
        apart = self.metadata_storage is not None
        return name if apart or name.endswith(_DATA) else name + serializer.suffix

    # Locks --------------------------------------------------------------------------------------

    @staticmethod
    def generate_default_holder() -> str:
        """Return who is here: host, process, thread, and asyncio's task where there is one."""
        return here()

    def supports_isolation_level(self, level: Any) -> bool:
        """Tell whether transactions of that isolation level can be had with this store."""
        wanted = str(getattr(level, "value", level))
        return wanted == "READ_COMMITTED" or self.lock_manager is not None

    def acquire_lock(
        self,
        key: str,
        holder: str | None = None,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Take the lock on a key; return whether it was to be had.

        Args:
            key: which.
            holder: who takes it; the process and thread, unless given.
            acquire_timeout: seconds to wait while somebody else has it; None waits for ever.
            hold_timeout: seconds after which it is free again whatever happens, or None.
        """
        holder = holder or self.generate_default_holder()
        taken: bool = self._locks().acquire_lock(key, holder, acquire_timeout, hold_timeout)
        return taken

    def release_lock(self, key: str, holder: str | None = None) -> None:
        """Give a lock back.

        Raises:
            ValueError: somebody else has it.
        """
        self._locks().release_lock(key, holder or self.generate_default_holder())

    def is_locked(self, key: str) -> bool:
        """Tell whether somebody holds the lock on a key."""
        return bool(self._locks().is_locked(key))

    def is_lock_holder(self, key: str, holder: str | None = None) -> bool:
        """Tell whether that is who holds the lock on a key."""
        return bool(self._locks().is_lock_holder(key, holder or self.generate_default_holder()))

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody holds the lock on a key, or for `timeout` seconds; tell which."""
        return bool(self._locks().wait_for_lock(key, timeout))

    def _locks(self) -> Any:
        if self.lock_manager is None:
            msg = (
                "Locks need a lock manager: ResultStore(lock_manager=FileSystemLockManager(folder))"
            )
            raise TransactionError(msg)
        return self.lock_manager

    def _check_holder(self, key: str, holder: str | None) -> None:
        if not self.is_lock_holder(key, holder):
            msg = (
                f"Cannot write to result record with key {key} because it is locked by another "
                f"holder."
            )
            raise TransactionError(msg)

    # Forms for async code -----------------------------------------------------------------------

    def aexists(self, key: str) -> Coroutine[Any, Any, bool]:
        """Do as `exists`, from async code."""
        return _in_thread(self.exists, key)

    def aread(self, key: str, holder: str | None = None) -> Coroutine[Any, Any, ResultRecord]:
        """Do as `read`, from async code."""
        return _in_thread(self.read, key, holder or self.generate_default_holder())

    def awrite(
        self,
        obj: Any,
        key: str | None = None,
        expiration: datetime | float | None = None,
        holder: str | None = None,
    ) -> Coroutine[Any, Any, None]:
        """Do as `write`, from async code."""
        holder = holder or self.generate_default_holder()
        return _in_thread(self.write, obj, key, expiration, holder)

    def apersist_result_record(
        self, result_record: ResultRecord, holder: str | None = None
    ) -> Coroutine[Any, Any, None]:
        """Do as `persist_result_record`, from async code."""
        holder = holder or self.generate_default_holder()
        return _in_thread(self.persist_result_record, result_record, holder)

    async def aupdate_for_flow(self, flow: Any) -> Self:
        """Do as `update_for_flow`, from async code."""
        return self.update_for_flow(flow)

    async def aupdate_for_task(self, task: Any) -> Self:
        """Do as `update_for_task`, from async code."""
        return self.update_for_task(task)

    async def aacquire_lock(
        self,
        key: str,
        holder: str | None = None,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Do as `acquire_lock`, from async code."""
        holder = holder or self.generate_default_holder()
        taken: bool = await self._locks().aacquire_lock(key, holder, acquire_timeout, hold_timeout)
        return taken

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - Prefect's signature
        """Do as `wait_for_lock`, from async code."""
        return bool(await self._locks().await_for_lock(key, timeout))


def default_storage() -> str:
    """Return the folder of results that name no other."""
    settings = get_settings()
    return settings.results_storage or os.path.join(settings.home, "storage")


def record_name(key: str) -> str:
    """Return the name of the file of a key's record: the key, unless that names the data."""
    name = safe_name(key)
    return name + _RECORD if name.endswith(_DATA) else name


def _epoch(moment: Any) -> float:
    return float(moment.timestamp() if hasattr(moment, "timestamp") else moment)


def _random_key() -> str:
    return new_id().replace("-", "")


def _wanted(definition: Any) -> dict[str, Any]:
    """Return what the options of a task or flow change in a store."""
    changes: dict[str, Any] = {"cache_result_in_memory": definition.cache_result_in_memory}
    if definition.result_storage is not None:
        changes["result_storage"] = definition.result_storage
    if definition.result_serializer is not None:
        changes["serializer"] = resolved(definition.result_serializer)
    return changes


def _not_written(key: str, place: object, error: OSError) -> str:
    full = error.errno in (ENOSPC, EDQUOT)
    cure = "Free space there" if full else "Choose a folder that you may write"
    return (
        f"The result {key!r} cannot be kept in {place!r}: {error.strerror or error}. {cure}, or "
        f"keep it elsewhere: result_storage=..."
    )


async def _in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    import asyncio  # noqa: PLC0415 - it is running

    return await asyncio.to_thread(fn, *args)
