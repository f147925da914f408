"""Where records and data lie: a folder that this machine sees, or a storage of another kind."""

from __future__ import annotations

import os

from hpc_flows.exceptions import ResultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Folder:
    """A folder on a file system that this machine sees."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))

    def __repr__(self) -> str:
        return self.path

    def local(self, name: str) -> str:
        """Return the path of a file."""
        return os.path.join(self.path, name)

    def read(self, name: str) -> bytes | None:
        """Return a file's content, or None if there is none of that name."""
        try:
            with open(self.local(name), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def prepare(self, name: str) -> str:
        """Return the path of a file that will be written, whose folder is there."""
        path = self.local(name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return path

    def write(self, name: str, parts: Iterable[bytes | memoryview], *, fsync: bool) -> None:
        """Write a file, whole or not at all."""
        from hpc_flows.serializers.base import write_file  # noqa: PLC0415 - loaded where it is used

        write_file(self.prepare(name), parts, fsync=fsync)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            os.unlink(self.local(name))
        except OSError:
            return  # somebody else did


class Storage:
    """An object with `read_path` and `write_path`, such as a bucket."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage

    def __repr__(self) -> str:
        return repr(self.storage)

    def local(self, _: str) -> None:
        """Return None: there is no path to it on this machine."""
        return

    def read(self, name: str) -> bytes | None:
        """Return the content under a name, or None if there is none."""
        try:
            content: bytes = _done(self.storage, "read_path", name)
        except (ValueError, FileNotFoundError, KeyError):  # what storages say of what is missing
            return None
        return content

    def write(self, name: str, parts: Iterable[bytes | memoryview], **_: bool) -> None:
        """Write content under a name."""
        _done(self.storage, "write_path", name, b"".join(parts))

    def remove(self, _: str) -> None:
        """Leave what is there: storages need not be able to remove."""
        return


def place_of(storage: Any) -> Folder | Storage:
    """Return the place that an option names: a folder, a file system, another storage.

    Raises:
        ResultError: it is none of these.
    """
    if isinstance(storage, (str, os.PathLike)):
        return Folder(os.fspath(storage))
    local_path = getattr(storage, "local_path", None)
    folder = local_path("") if callable(local_path) else None
    if folder is not None:
        return Folder(folder)
    if hasattr(storage, "read_path") and hasattr(storage, "write_path"):
        return Storage(storage)
    msg = (
        f"Results cannot be kept in {storage!r}: give the path of a folder, or an object with "
        f"read_path(path) and write_path(path, content)."
    )
    raise ResultError(msg)


def _done(storage: Any, method: str, *args: Any) -> Any:
    """Call a method of a storage, which may be a coroutine function, and return its answer."""
    bound = getattr(storage, method)
    ours = hasattr(getattr(type(storage), method, None), "aio")
    answer = bound(*args, _sync=True) if ours else bound(*args)
    if not hasattr(answer, "__await__"):
        return answer
    return finished(answer)


def finished(awaitable: Any) -> Any:
    """Wait for something awaitable, also where an event loop is running, and return its result."""
    import asyncio  # noqa: PLC0415 - for storages and hooks that need it

    async def wait() -> Any:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - as above
    from contextvars import copy_context  # noqa: PLC0415 - as above

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, asyncio.run, wait()).result()
