"""Results: values and exceptions that outlive their process, small ones in the journal itself.

A result is kept as a *reference*, a small JSON-safe dict that goes into the event of the final
state: `{"inline": base64, "mac": hex}`, or `{"file": name, "size": bytes, "hash": hex}` with the
bytes in a file of the run's folder. Both are signed with the run's key (keyed BLAKE2b), and
nothing is unpickled before its signature was found right. What is kept for other runs too has
`{"record": text}`, the record of `results.record`, which the user's key signs.
"""

from __future__ import annotations

import os
from _blake2 import blake2b
from _operator import _compare_digest
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from errno import EDQUOT, ENOSPC
from time import monotonic, sleep

from hpc_flows.exceptions import FailedRun, MissingResult, ResultError, text_of
from hpc_flows.serializers.base import write_file
from hpc_flows.serializers.pickle import (
    MAGIC,
    dump_parts,
    dumps,
    header_size,
    join_parts,
    load_parts,
    loads,
    not_picklable,
    not_unpicklable,
    part_sizes,
)
from hpc_flows.states import StoredValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO, Any

#: Bytes of a pickled value up to which it goes into the journal (setting `results_inline_limit`).
INLINE_LIMIT = 65536

_FOLDER = "results"
_CHUNK = 1024 * 1024
_LONGEST_TRACEBACK = 200_000
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


class RemoteTraceback(Exception):
    """The traceback of an exception that was raised in another process, as text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


class RunResults:
    """Keeps the results of one run in its folder, and loads them.

    Args:
        run_dir: folder of the run.
        key: the run's secret bytes (`journal.folder.read_key`).
        inline_limit: bytes of a pickled value up to which it stays in the reference.
        patience: seconds for which `load` waits for a file that is not there, or not whole, as
            happens on network file systems whose other clients look at old folders.
        fsync: whether `keep` returns only when the file is on the disk.
    """

    __slots__ = ("fsync", "inline_limit", "key", "patience", "run_dir")

    def __init__(
        self,
        run_dir: str,
        key: bytes,
        inline_limit: int = INLINE_LIMIT,
        *,
        patience: float = 0.0,
        fsync: bool = True,
    ) -> None:
        self.run_dir = os.fspath(run_dir)
        self.key = key
        self.inline_limit = inline_limit
        self.patience = patience
        self.fsync = fsync

    def keep(self, name: str, value: Any) -> dict[str, Any]:
        """Keep `value` and return the reference to it.

        Args:
            name: what the value belongs to, for people who look into the folder.
            value: anything that can be pickled. Large arrays are written from where they lie.

        Raises:
            ResultError: the value cannot be pickled, or the file cannot be written.
        """
        try:
            parts = join_parts(dump_parts(value))
        except Exception as error:
            raise ResultError(f"{name}: {not_picklable(value, error)}") from error
        size = sum(memoryview(part).nbytes for part in parts)
        if size <= self.inline_limit:
            return self._inline(b"".join(parts))
        return self._write(name, parts, size)

    def keep_error(self, error: BaseException, name: str = "error") -> dict[str, Any]:
        """Keep an exception, with its traceback as text, and return the reference to it.

        One that cannot be pickled, or not be made again from its pickle, is kept in words:
        `load` then returns a FailedRun that names its class.

        Raises:
            ResultError: the exception is large, and its file cannot be written.
        """
        return self.keep(name, _KeptError.of(error))

    def load(self, reference: dict[str, Any], *, patience: float | None = None) -> Any:
        """Return the value, or the exception, that a reference leads to.

        Args:
            reference: what `keep` or `keep_error` returned.
            patience: seconds to wait for its file; the store's own when None.

        Raises:
            MissingResult: its file is not there.
            ResultError: it was changed or damaged, or cannot be unpickled here.
        """
        patience = self.patience if patience is None else patience
        if "record" in reference:
            return self._load_record(str(reference["record"]), patience)
        inline = "inline" in reference
        parts = [self._open_inline(reference)] if inline else self._read(reference, patience)
        try:
            value = load_parts(parts) if len(parts) > 1 else loads(parts[0])
        except Exception as error:
            raise ResultError(not_unpicklable(error)) from error
        return value.rebuild() if isinstance(value, _KeptError) else value

    def stored(self, reference: dict[str, Any], *, patience: float | None = None) -> StoredResult:
        """Return a stand-in for the value that loads it, as `load` would, when it is asked for."""
        return StoredResult(self, reference, patience=patience)

    @staticmethod
    def _load_record(text: str, patience: float) -> Any:
        """Load what was kept for other runs too, by its signed record."""
        from hpc_flows.results.record import ResultRecord  # noqa: PLC0415 - few results are

        record = ResultRecord.deserialize(text.encode())
        give_up = monotonic() + patience
        while True:
            try:
                return record.get()
            except ResultError:
                if monotonic() + 0.5 > give_up:
                    raise
            sleep(0.5)

    def _inline(self, data: bytes) -> dict[str, Any]:
        text = b2a_base64(data, newline=False).decode("ascii")
        return {"inline": text, "mac": self._digest([data])}

    def _open_inline(self, reference: dict[str, Any]) -> bytes:
        try:
            data = a2b_base64(reference["inline"])
            right = _compare_digest(str(reference["mac"]), self._digest([data]))
        except (KeyError, TypeError, ValueError, Base64Error) as error:
            raise ResultError(_malformed(reference)) from error
        if not right:
            raise ResultError(_changed("A result in the journal", self.run_dir))
        return data

    def _digest(self, parts: Iterable[bytes | memoryview]) -> str:
        digest = self._hash()
        for part in parts:
            digest.update(part)
        return digest.hexdigest()

    def _hash(self) -> blake2b:
        return blake2b(key=self.key, digest_size=32, person=b"hpc_flows result")

    def _write(self, name: str, parts: list[bytes | memoryview], size: int) -> dict[str, Any]:
        safe = "".join(letter if letter in _NAME else "_" for letter in name)[:100].lstrip(".")
        # A part of chance: a late second attempt must not overwrite what was accepted.
        relative = f"{_FOLDER}/{safe}-{os.urandom(4).hex()}.pkl"
        path = os.path.join(self.run_dir, relative)
        digest = self._hash()
        try:
            write_file(path, _hashed(parts, digest), fsync=self.fsync)
        except OSError as error:
            raise ResultError(_not_written(path, size, error)) from error
        return {"file": relative, "size": size, "hash": digest.hexdigest()}

    def _read(self, reference: dict[str, Any], patience: float) -> list[Any]:
        path, size, wanted = self._place(reference)
        give_up = monotonic() + patience
        pause = 0.05
        while True:
            try:
                return self._read_once(path, size, wanted)
            except ResultError:
                if monotonic() + pause > give_up:
                    raise
            # Reading the folder makes an NFS client look at the server's newest one.
            _refresh(os.path.dirname(path))
            sleep(pause)
            pause = min(2.0, 2 * pause)

    def _place(self, reference: dict[str, Any]) -> tuple[str, int, str]:
        try:
            folder, name = str(reference["file"]).split("/")
            size, wanted = int(reference["size"]), str(reference["hash"])
        except (KeyError, TypeError, ValueError) as error:
            raise ResultError(_malformed(reference)) from error
        if folder != _FOLDER or name.startswith(".") or not _NAME.issuperset(name):
            raise ResultError(_malformed(reference))
        return os.path.join(self.run_dir, folder, name), size, wanted

    def _read_once(self, path: str, size: int, wanted: str) -> list[Any]:
        digest = self._hash()
        try:
            with open(path, "rb") as file:
                found = os.fstat(file.fileno()).st_size
                if found != size:
                    raise ResultError(_cut(path, found, size))
                parts = _read_parts(file, size, digest)
        except FileNotFoundError as error:
            raise MissingResult(_gone(path)) from error
        except OSError as error:
            raise ResultError(f"The result cannot be read: {path}: {error.strerror}.") from error
        except ValueError as error:
            raise ResultError(_changed(path, self.run_dir)) from error
        if not _compare_digest(digest.hexdigest(), wanted):
            raise ResultError(_changed(path, self.run_dir))
        return parts


class StoredResult(StoredValue):
    """A result that is loaded when it is first asked for, and kept from then on."""

    __slots__ = ("_loaded", "_patience", "_store", "_value", "reference")

    def __init__(
        self,
        store: RunResults | None,
        reference: dict[str, Any],
        *,
        patience: float | None = None,
    ) -> None:
        self.reference = reference
        self._patience = patience
        self._store = store
        self._loaded = False
        self._value: Any = None

    def get(self) -> Any:
        """Return the value, or the exception, that was kept.

        Raises:
            MissingResult: its file is not there.
            ResultError: it was changed or damaged, or cannot be unpickled here.
        """
        if not self._loaded:
            if self._store is None:
                raise MissingResult("The value was not kept.")
            self._value = self._store.load(self.reference, patience=self._patience)
            self._loaded = True
        return self._value

    def handle(self) -> Any:
        """Return a handle of the file; its `load` checks the signature as `get` does.

        Raises:
            MissingResult: the value is in the journal.
        """
        if "record" in self.reference:  # what is kept for other runs too
            from hpc_flows.results.record import ResultRecord  # noqa: PLC0415 - few results are

            return ResultRecord.deserialize(str(self.reference["record"]).encode()).handle()
        if self._store is None or "file" not in self.reference:
            return super().handle()
        from hpc_flows.results.handle import ResultHandle  # noqa: PLC0415 - for those who ask

        path = os.path.join(self._store.run_dir, str(self.reference["file"]))
        return ResultHandle(path, "pickle", self.get)

    def __reduce__(self) -> tuple[Any, ...]:
        # As its value: the store holds the run's key, which must not travel.
        return _loaded, (self.reference, self.get())

    def __repr__(self) -> str:
        where = self.reference.get("file", "in the journal")
        return f"<StoredResult {where}{'' if self._loaded else ', not loaded'}>"


class _KeptError:
    """An exception as it is kept: pickled where that works, and in words."""

    __slots__ = ("message", "pickled", "reason", "traceback", "type_name")

    def __init__(
        self, type_name: str, message: str, traceback: str, pickled: bytes | None, reason: str
    ) -> None:
        self.type_name = type_name
        self.message = message
        self.traceback = traceback
        self.pickled = pickled
        self.reason = reason

    @classmethod
    def of(cls, error: BaseException) -> _KeptError:
        message = text_of(error)
        pickled, reason = None, ""
        for candidate in _candidates(error, message):
            try:
                data = dumps(candidate)
                again = loads(data)
            except Exception as problem:  # noqa: BLE001 - the class's own methods may raise anything
                reason = reason or f"{type(problem).__name__}: {problem}"
                continue
            if isinstance(again, type(error)):
                pickled = data
                break
        return cls(_full_name(type(error)), message, _traceback_of(error), pickled, reason)

    def rebuild(self) -> BaseException:
        error = self._unpickled()
        error.__cause__ = RemoteTraceback(self.traceback)
        return error

    def _unpickled(self) -> BaseException:
        if self.pickled is None:
            return self._in_words(self.reason)
        try:
            error = loads(self.pickled)
        except Exception as problem:  # noqa: BLE001 - the class's own methods may raise anything
            return self._in_words(f"{type(problem).__name__}: {problem}")
        return error if isinstance(error, BaseException) else self._in_words("it is none")

    def _in_words(self, reason: str) -> FailedRun:
        because = f": {reason}" if reason else ""
        return FailedRun(
            f"{self.type_name}: {self.message} (the exception itself could not be brought back "
            f"from the process that raised it{because})"
        )


class _Bare:
    """An exception whose own pickle does not bring it back: its class, arguments, attributes.

    The usual cause is an `__init__` that takes more than it gives to `Exception.__init__`.
    """

    __slots__ = ("arguments", "attributes", "class_")

    def __init__(
        self, class_: type[BaseException], arguments: tuple[Any, ...], attributes: dict[str, Any]
    ) -> None:
        self.class_ = class_
        self.arguments = arguments
        self.attributes = attributes

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_bare, (self.class_, self.arguments, self.attributes)


def _make_bare(
    class_: type[BaseException], arguments: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    error = class_.__new__(class_, *arguments)
    error.args = arguments
    error.__dict__.update(attributes)
    return error


def _candidates(error: BaseException, message: str) -> Iterator[object]:
    yield error
    yield _Bare(type(error), error.args, error.__dict__)
    yield _Bare(type(error), (message,), {})


def _loaded(reference: dict[str, Any], value: Any) -> StoredResult:
    result = StoredResult(None, reference)
    result._value, result._loaded = value, True  # noqa: SLF001 - same module
    return result


def _hashed(parts: list[bytes | memoryview], digest: blake2b) -> Iterator[bytes | memoryview]:
    for part in parts:
        view = memoryview(part).cast("B")
        for start in range(0, view.nbytes, _CHUNK):  # while a piece is warm in the cache
            piece = view[start : start + _CHUNK]
            digest.update(piece)
            yield piece


def _read_parts(file: IO[bytes], size: int, digest: blake2b) -> list[Any]:
    """Read the parts of a pickle, each into memory of its own, of `size` bytes in all."""
    start = file.read(len(MAGIC) + 8)
    if not start.startswith(MAGIC):
        file.seek(0)
        return [_read_into(file, size, digest)]
    head = start + file.read(header_size(start) - len(start))
    digest.update(head)
    sizes = part_sizes(head)
    if len(head) + sum(sizes) != size:
        raise ValueError(f"parts of {sum(sizes)} bytes")
    return [_read_into(file, part, digest) for part in sizes]


def _read_into(file: IO[bytes], size: int, digest: blake2b) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    at = 0
    while at < size:
        count = file.readinto(view[at : at + _CHUNK])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"{at} of {size} bytes")
        digest.update(view[at : at + count])
        at += count
    return data


def _refresh(folder: str) -> None:
    try:
        os.listdir(folder)
    except OSError:
        return  # the next attempt says what is wrong


def _full_name(class_: type) -> str:
    module = class_.__module__
    return class_.__qualname__ if module == "builtins" else f"{module}.{class_.__qualname__}"


def _traceback_of(error: BaseException) -> str:
    # Costs 10 ms, so only those pay who have something to tell.
    from traceback import format_exception  # noqa: PLC0415

    try:
        text = "".join(format_exception(error))
    except Exception as problem:  # noqa: BLE001 - it calls the class's own methods
        return f"{_full_name(type(error))} (its traceback cannot be written: {problem!r})"
    if len(text) <= _LONGEST_TRACEBACK:
        return text
    half = _LONGEST_TRACEBACK // 2
    return f"{text[:half]}\n… ({len(text) - 2 * half} characters cut)\n{text[-half:]}"


def _malformed(reference: object) -> str:
    return f"This is no reference to a result: {reference!r:.200}."


def _changed(what: str, run_dir: str) -> str:
    return (
        f"{what} was damaged, or changed by someone without the key of the run ({run_dir}), so it "
        f"is not unpickled. Run the task again."
    )


def _cut(path: str, found: int, size: int) -> str:
    return (
        f"The result {path} has {found} of {size} bytes: it was cut, or this machine does not see "
        f"all of it yet. Look at it from another node, or run the task again."
    )


def _gone(path: str) -> str:
    return (
        f"The result {path} is not there. It was removed (by hand, `hpc-flows gc` or the site's "
        f"purge of old files), or this machine does not see it yet. Run the task again to have it."
    )


def _not_written(path: str, size: int, error: OSError) -> str:
    full = error.errno in (ENOSPC, EDQUOT)
    cure = "Free space there" if full else "Set HPC_FLOWS_HOME to a folder that you may write"
    return f"A result of {size} bytes cannot be written to {path}: {error.strerror}. {cure}."
