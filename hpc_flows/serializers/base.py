"""The interface of serializers, and how the files that they fill come to be.

Rules that every serializer keeps: `loads(dumps(value))` equals `value`; `dump` leaves the whole
file or none; what cannot be written raises ResultError and says what it was.
"""

from __future__ import annotations

import os
from abc import ABC, ABCMeta, abstractmethod

from hpc_flows.exceptions import SettingsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class _Dispatch(ABCMeta):
    """Lets `Serializer(type="json")` make a JSONSerializer, as Prefect's does."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        if "type" not in options:
            return super().__call__(*args, **options)
        wanted = options.pop("type")
        if wanted == getattr(cls, "type", None):
            return super().__call__(*args, **options)
        if cls is not Serializer:
            own = getattr(cls, "type", None)
            raise SettingsError(f"{cls.__name__} has the type {own!r}, not {wanted!r}.")
        from hpc_flows.serializers.naming import class_of  # noqa: PLC0415 - jobs need no names

        return class_of(wanted)(*args, **options)


class Serializer(ABC, metaclass=_Dispatch):
    """A way to write values down.

    A class that gives `type` a value of its own can be named by it from then on, in
    `result_serializer=` and in settings. Options are keywords of `__init__`, JSON-safe, and kept
    as attributes of the same names, so that a record can say how it was written.
    """

    #: What people call it in settings and options.
    type: str
    #: How names of its files end, with the dot.
    suffix: str = ".bin"
    #: Names of the options that `__init__` takes.
    options: tuple[str, ...] = ()

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if "type" in cls.__dict__ and not cls.__module__.startswith("hpc_flows.serializers"):
            from hpc_flows.serializers.naming import REGISTERED  # noqa: PLC0415 - as above

            REGISTERED[cls.type] = cls

    @abstractmethod
    def dumps(self, value: Any) -> bytes:
        """Return `value` as bytes.

        Raises:
            ResultError: this serializer cannot write such a value.
        """

    @abstractmethod
    def loads(self, data: bytes) -> Any:
        """Return the value that `dumps` made `data` from.

        Raises:
            ResultError: the bytes are not what `dumps` writes.
        """

    def dump(self, value: Any, path: str) -> None:
        """Write `value` to the file `path`, whole or not at all.

        Raises:
            ResultError: this serializer cannot write such a value.
            OSError: the file cannot be written.
        """
        write_file(path, [self.dumps(value)])

    def load(self, path: str) -> Any:
        """Return the value that `dump` wrote to `path`.

        Raises:
            ResultError: the file does not hold what `dump` writes.
            OSError: the file cannot be read.
        """
        with open(path, "rb") as file:
            return self.loads(file.read())

    def model_dump(self) -> dict[str, Any]:
        """Return the type and the options, JSON-safe: `serializers.restored` is the way back."""
        values = {name: getattr(self, name) for name in self.options}
        plain = {
            name: value.model_dump() if isinstance(value, Serializer) else value
            for name, value in values.items()
        }
        return {"type": self.type, **plain}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.model_dump() == self.model_dump()

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)
        return f"{type(self).__name__}({options})"


def write_file(path: str, parts: Iterable[bytes | memoryview], *, fsync: bool = True) -> None:
    """Write a file of mode 0600 under a draft's name, then give it its own.

    A reader sees the whole file or none, and after a power cut as well if `fsync`.

    Raises:
        OSError: it could not be written; nothing is left behind.
    """
    path = os.fspath(path)
    draft = draft_name(path)
    try:
        with open(draft, "xb", opener=_private) as file:
            file.writelines(parts)
            file.flush()
            if fsync:
                os.fsync(file.fileno())
        os.rename(draft, path)
    except BaseException:
        remove_quietly(draft)
        raise
    if fsync:
        sync_folder(os.path.dirname(path) or ".")


def draft_name(path: str) -> str:
    """Return a name beside `path` that nobody else uses."""
    return f"{path}.{os.urandom(4).hex()}.draft"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def remove_quietly(path: str) -> None:
    """Remove a file if that can be done."""
    try:
        os.unlink(path)
    except OSError:
        return  # the error that brought us here is the one to tell


def sync_folder(folder: str) -> None:
    """Let the names in a folder survive a power cut, where the file system can do that."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError:
        return  # some network file systems cannot sync a folder; they need not
    finally:
        os.close(fd)
