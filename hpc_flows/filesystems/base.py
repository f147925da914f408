"""What a place for files can do, and how one method serves those who await and those who do not."""

from __future__ import annotations

import asyncio
import functools
import sys
from abc import ABC, abstractmethod
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from typing import TYPE_CHECKING, Any

from hpc_flows.exceptions import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_ASYNC = CO_COROUTINE | CO_ASYNC_GENERATOR
#: Frames that belong to the function around them.
_INSIDE = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>")


class EitherWay:
    """A method that is written once, called from plain code and awaited in an `async def`.

    Awaited, it runs in a thread, so that the loop goes on. `.aio(self, ...)` always returns a
    coroutine, and `_sync=True` or `_sync=False` among the keywords says which it shall be.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        functools.update_wrapper(self, method)

    async def aio(self, *args: Any, **options: Any) -> Any:
        """Run the method in a thread and wait for it."""
        return await asyncio.to_thread(self._method, *args, **options)

    def __call__(self, *args: Any, _sync: bool | None = None, **options: Any) -> Any:
        """Run the method, or return a coroutine that does."""
        waits = _is_async(sys._getframe(1)) if _sync is None else not _sync  # noqa: SLF001 - the caller's kind decides
        return self.aio(*args, **options) if waits else self._method(*args, **options)

    def __get__(self, instance: object, owner: type) -> Any:
        return self if instance is None else _Bound(self, instance)


class _Bound:
    """An EitherWay and the object that it was taken from."""

    def __init__(self, either: EitherWay, instance: object) -> None:
        self._either = either
        self._instance = instance
        functools.update_wrapper(self, either)

    def aio(self, *args: Any, **options: Any) -> Any:
        """Return a coroutine."""
        return self._either.aio(self._instance, *args, **options)

    def __call__(self, *args: Any, _sync: bool | None = None, **options: Any) -> Any:
        waits = _is_async(sys._getframe(1)) if _sync is None else not _sync  # noqa: SLF001 - the caller's kind decides
        return self._either(self._instance, *args, _sync=not waits, **options)


def _is_async(frame: FrameType | None) -> bool:
    """Tell whether a frame is one of an `async def` that runs in this thread's loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    while frame is not None and frame.f_code.co_name in _INSIDE:
        frame = frame.f_back
    return frame is not None and bool(frame.f_code.co_flags & _ASYNC)


class Awaited:
    """The form of a method that is awaited everywhere, such as `aread_path`."""

    def __init__(self, either: EitherWay) -> None:
        self._either = either

    def __get__(self, instance: object, owner: type) -> Any:
        return self._either.aio if instance is None else self._either.__get__(instance, owner).aio


class _Place(ABC):  # noqa: B024 - its subclasses say what is abstract
    """Equality, a name to read, and what is refused until there are blocks."""

    #: Names of the keywords that make one.
    _fields: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.model_dump() == self.model_dump()

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({shown})"

    def model_dump(self) -> dict[str, Any]:
        """Return the keywords that make such an object."""
        return {name: getattr(self, name) for name in self._fields}

    def save(self, name: str, **_: Any) -> None:
        """Refuse to keep this under a name.

        Raises:
            SettingsError: always: there are no blocks in this version.
        """
        raise SettingsError(_no_blocks(type(self).__name__, name))

    @classmethod
    def load(cls, name: str, **_: Any) -> Any:
        """Refuse to find one by its name.

        Raises:
            SettingsError: always: there are no blocks in this version.
        """
        raise SettingsError(_no_blocks(cls.__name__, name))


def _no_blocks(class_name: str, name: str) -> str:
    return (
        f"{class_name} {name!r} cannot be saved or loaded: this version has no blocks. Make it "
        f"where it is used, as {class_name}(basepath=...)."
    )


class ReadableFileSystem(_Place):
    """A place from which files can be read."""

    @abstractmethod
    def read_path(self, path: str) -> Any:
        """Return the bytes of the file `path`."""


class WritableFileSystem(ReadableFileSystem):
    """A place to which files can be written."""

    @abstractmethod
    def write_path(self, path: str, content: bytes) -> Any:
        """Write the file `path` and return its whole path."""


class ReadableDeploymentStorage(_Place):
    """A place from which folders can be copied."""

    @abstractmethod
    def get_directory(self, from_path: str | None = None, local_path: str | None = None) -> Any:
        """Copy a folder to this machine."""


class WritableDeploymentStorage(ReadableDeploymentStorage):
    """A place to which folders can be copied."""

    @abstractmethod
    def put_directory(
        self,
        local_path: str | None = None,
        to_path: str | None = None,
        ignore_file: str | None = None,
    ) -> Any:
        """Copy a folder of this machine to it."""
