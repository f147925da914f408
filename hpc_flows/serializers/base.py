"""The interface of serializers, and how the files that they fill come to be.

Rules that every serializer keeps: `loads(dumps(value))` equals `value`; `dump` leaves the whole
file or none; what cannot be written raises ResultError and says what it was.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Serializer(ABC):
    """A way to write values down."""

    #: What people call it in settings.
    name: str
    #: How names of its files end, with the dot.
    suffix: str

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


def write_file(path: str, parts: Iterable[bytes | memoryview], *, fsync: bool = True) -> None:
    """Write a file of mode 0600 under a draft's name, then give it its own.

    A reader sees the whole file or none, and after a power cut as well if `fsync`.

    Raises:
        OSError: it could not be written; nothing is left behind.
    """
    path = os.fspath(path)
    draft = f"{path}.{os.urandom(4).hex()}.draft"
    try:
        with open(draft, "xb", opener=_private) as file:
            file.writelines(parts)
            file.flush()
            if fsync:
                os.fsync(file.fileno())
        os.rename(draft, path)
    except BaseException:
        _remove(draft)
        raise
    if fsync:
        _sync_folder(os.path.dirname(path) or ".")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return  # the error that brought us here is the one to tell


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError:
        return  # some network file systems cannot sync a folder; they need not
    finally:
        os.close(fd)
