"""Writing payloads: by reference what the nodes can import, and by value all else.

`payload.py` describes the file and reads it. What cannot be sent is found at the moment of
submission, in the process that submits, and named.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import cloudpickle

from hpc_flows._version import __version__
from hpc_flows.exceptions import PayloadError, UnfinishedRun
from hpc_flows.jobs import payload as form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import ModuleType

#: Values of these types are never worth a section of their own.
_SMALL = (type(None), bool, int, float, complex)
#: Texts and bytes below this length neither.
_SMALL_LENGTH = 1000

#: Open files.
_FILES = (io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.FileIO)

#: cloudpickle keeps its register of modules to send by value for the whole process.
_register = threading.Lock()


class Arguments(NamedTuple):
    """What one call is made with."""

    run: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def places() -> list[str]:
    """Return the working directory, then the folders that modules are looked for in.

    Raises:
        PayloadError: the working directory has been removed.
    """
    try:
        here = os.getcwd()
    except FileNotFoundError:
        raise PayloadError(
            "The folder that this flow was started in does not exist any more, and jobs start in "
            "it. Change to another folder and run the flow again."
        ) from None
    return [here, *(os.path.abspath(entry) if entry else here for entry in sys.path)]


def dumps(value: Any, by_value: Sequence[ModuleType] = ()) -> bytes:
    """Pickle something so that a node can load it.

    What `__main__` or one of `by_value` defines goes by value, since the node's `__main__` is
    another; all else by reference, as pickle does.
    """
    if not by_value:
        try:
            content = pickle.dumps(value, 5)
        except Exception:  # noqa: BLE001 - cloudpickle knows more types; its error is the one told
            content = b"__main__"
        # A reference to something in __main__ holds its name. Text of the user's that happens
        # to hold it too is only written in another way.
        if b"__main__" not in content:
            return content
    with _register:
        registered = cloudpickle.list_registry_pickle_by_value()
        added = [module for module in by_value if module.__name__ not in registered]
        for module in added:
            cloudpickle.register_pickle_by_value(module)
        try:
            return _thorough_dumps(value)
        finally:
            for module in added:
                cloudpickle.unregister_pickle_by_value(module)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, but for open files, of which it would silently send a copy of the content."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _FILES) and obj not in (sys.stdout, sys.stderr):
            raise TypeError("an open file cannot be pickled")
        return super().reducer_override(obj)


def _thorough_dumps(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, 5).dump(value)
    return buffer.getvalue()


def unreachable_module(name: str) -> ModuleType | None:
    """Return a loaded module that a fresh interpreter with our `sys.path` would not find.

    Returns:
        the module; None where it would be found, or is `__main__` (which cloudpickle knows).
    """
    module = sys.modules.get(name)
    if module is None or name == "__main__" or name in sys.builtin_module_names:
        return None
    top = sys.modules.get(name.partition(".")[0], module)
    return None if _found_again(top) else module


def _found_again(module: ModuleType) -> bool:
    spec = None
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(module.__name__, None) if find else None
        if spec is not None:
            break
    if spec is None:
        return False
    file = getattr(module, "__file__", None)
    if file is None or spec.origin is None or not spec.has_location:
        return True
    return bool(os.path.realpath(file) == os.path.realpath(spec.origin))


def pack_task(part: Any, module: str, name: str) -> bytes:
    """Pickle the task and what its runs share.

    Args:
        part: the object.
        module: name of the module that defines the task's function.
        name: the task's name, for messages.

    Raises:
        PayloadError: it cannot be pickled; the message names what in it cannot.
    """
    lost = unreachable_module(module)
    try:
        return dumps(part, (lost,) if lost else ())
    except Exception as error:
        raise PayloadError(_cannot(f"Task {name!r}", f"task {name!r}", part, error)) from error


def pack_calls(
    file: PayloadFile, name: str, batch: Sequence[Arguments]
) -> list[int | PayloadError]:
    """Write the calls of one batch; values that several of them are given are written once.

    Args:
        file: where to.
        name: the task's name, for messages.
        batch: the calls.

    Returns:
        for each call its index in the file, or what is wrong with it.
    """
    shelf = _Shelf(file, name, _repeated(batch))
    return [_pack_call(shelf, call) for call in batch]


class _Shelf:
    """Puts values that several calls of a batch have in common into sections of their own."""

    def __init__(self, file: PayloadFile, task: str, repeated: set[int]) -> None:
        self.file = file
        self.task = task
        self._repeated = repeated
        self._numbers: dict[int, int] = {}

    def place(self, label: str, value: Any) -> Any:
        """Return the value, or what stands for it in a call."""
        if id(value) not in self._repeated:
            return value
        if id(value) not in self._numbers:
            content = _dump_argument(self.task, label, value)
            self._numbers[id(value)] = self.file.share(content)
        return form.Shared(self._numbers[id(value)])


def _repeated(batch: Sequence[Arguments]) -> set[int]:
    seen: set[int] = set()
    again: set[int] = set()
    for call in batch:
        for value in (*call.args, *call.kwargs.values()):
            if not isinstance(value, _SMALL) and not _is_short(value):
                (again if id(value) in seen else seen).add(id(value))
    return again


def _is_short(value: Any) -> bool:
    return isinstance(value, str | bytes) and len(value) < _SMALL_LENGTH


def _pack_call(shelf: _Shelf, call: Arguments) -> int | PayloadError:
    try:
        args = tuple(shelf.place(f"argument {n + 1}", value) for n, value in enumerate(call.args))
        kwargs = {
            key: shelf.place(f"argument {key!r}", value) for key, value in call.kwargs.items()
        }
        return shelf.file.add(dumps((call.run, args, kwargs)), call.run.id)
    except PayloadError as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever a user's __reduce__ raises
        return _blame(shelf.task, call, error)


def _dump_argument(name: str, label: str, value: Any) -> bytes:
    try:
        return dumps(value)
    except Exception as error:
        text = _cannot(f"{label.capitalize()} of task {name!r}", label, value, error)
        raise PayloadError(text) from error


def _blame(name: str, call: Arguments, error: Exception) -> PayloadError:
    text = blame_argument(name, call.args, call.kwargs)
    return PayloadError(text or _cannot(f"A call of task {name!r}", "call", call.run, error))


def blame_argument(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], to: str = "a job"
) -> str | None:
    """Say which argument of a task cannot be pickled, and what in it; None if all can be."""
    named = [(f"argument {n + 1}", value) for n, value in enumerate(args)]
    named += [(f"argument {key!r}", value) for key, value in kwargs.items()]
    for label, value in named:
        try:
            dumps(value)
        except Exception as error:  # noqa: BLE001 - whatever a user's __reduce__ raises
            return _cannot(f"{label.capitalize()} of task {name!r}", label, value, error, to)
    return None


def _cannot(subject: str, label: str, value: Any, error: Exception, to: str = "a job") -> str:
    if isinstance(error, UnfinishedRun):  # says itself what it is about and what to do
        return f"{subject} cannot be sent to {to}: {error}"
    trail, culprit = find_culprit(value)
    where = f" at {label}{trail}" if trail else ""
    return (
        f"{subject} cannot be sent to {to}: it holds {_describe(culprit)}{where}, which cannot be "
        f"pickled ({type(error).__name__}: {error}). Make it inside the task, or pass what it is "
        "made from: a path instead of an open file, settings instead of a connection."
    )


def _describe(value: Any) -> str:
    kind = type(value)
    own = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    text = repr(value)
    return f"a {own}{kind.__qualname__} ({text if len(text) <= 80 else text[:77] + '...'})"  # noqa: PLR2004 - a line


def find_culprit(value: Any) -> tuple[str, Any]:
    """Return the innermost part that cannot be pickled by itself, and the way to it."""
    trail = ""
    seen = {id(value)}
    while True:
        inner = next(
            (
                (step, part)
                for step, part in _parts(value)
                if id(part) not in seen and not _can_pickle(part)
            ),
            None,
        )
        if inner is None:
            return trail, value
        trail += inner[0]
        value = inner[1]
        seen.add(id(value))


def _can_pickle(value: Any) -> bool:
    try:
        _thorough_dumps(value)
    except Exception:  # noqa: BLE001 - any error means no
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{n}]", part) for n, part in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from (("{...}", part) for part in value)
    elif callable(value) and hasattr(value, "__code__"):
        yield from _function_parts(value)
    else:
        yield from ((f".{key}", part) for key, part in _attributes(value))


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name):
                yield name, getattr(value, name)


def _function_parts(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    code: Any = function.__code__
    cells = getattr(function, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars, cells, strict=True):
        yield f" -> closure variable {name!r}", cell.cell_contents
    namespace = getattr(function, "__globals__", {})
    for name in code.co_names:
        if name in namespace:
            yield f" -> global {name!r}", namespace[name]


class PayloadFile:
    """A payload that is being written: sections as they come, the signed directory at the end.

    Used from several threads. Nothing is visible under the final name before `finish`.
    """

    def __init__(self, path: str, task: bytes, where: Sequence[str]) -> None:
        self.path = path
        self._part = f"{path}.part"
        self._lock = threading.Lock()
        self._sections: list[str] = []
        self._shared: list[str] = []
        self._calls: list[str] = []
        self._offset = 0
        self._problem: OSError | None = None
        try:
            handle = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._file = os.fdopen(handle, "wb")
        text = "\0".join(where).encode("utf-8", "surrogateescape")
        try:
            for content in (text, task):
                self._sections.append(self._append(content))
        except PayloadError:
            self.discard()
            raise

    def __len__(self) -> int:
        """Return how many calls are in it."""
        return len(self._calls)

    def share(self, content: bytes) -> int:
        """Write a value that several calls have in common and return its number."""
        with self._lock:
            self._shared.append(self._append(content))
            return len(self._shared) - 1

    def add(self, call: bytes, task_run: str) -> int:
        """Write the call of a task run and return its index."""
        with self._lock:
            self._calls.append(self._append(call, task_run))
            return len(self._calls) - 1

    def split(self, count: int, path: str) -> PayloadFile:
        """Move all calls after the first so many to a file of their own, as they were pickled.

        Raises:
            PayloadError: they cannot be written.
        """
        with self._lock:
            try:
                self._file.flush()
                with open(self._part, "rb") as source:
                    rest = self._copied(source, self._calls[count:], path)
            except OSError as error:
                raise _unwritable(path, error) from error
            del self._calls[count:]
        return rest

    def _copied(self, source: BinaryIO, calls: Sequence[str], path: str) -> PayloadFile:
        where, task = (_section(source, line) for line in self._sections)
        rest = PayloadFile(path, task, where.decode("utf-8", "surrogateescape").split("\0"))
        try:
            for line in self._shared:
                rest.share(_section(source, line))
            for line in calls:
                rest.add(_section(source, line), line.split()[-1])
        except BaseException:
            rest.discard()
            raise
        return rest

    def _append(self, content: bytes, task_run: str = form.NOBODY) -> str:
        offset, size = self._offset, len(content)
        if self._problem is not None:
            raise _unwritable(self.path, self._problem)
        try:
            self._file.write(content)
        except OSError as error:  # what of it was written is not known: nothing can follow
            self._problem = error
            raise _unwritable(self.path, error) from error
        self._offset += size
        return f"{offset:015d} {size:015d} {form.digest(content)} {task_run}\n"

    def finish(self, key: bytes, run: str, token: str) -> str:
        """Write the directory, sign it with the run's key, and put the file in place, durably.

        Raises:
            PayloadError: an earlier call could not be written.
            OSError: the directory cannot be.
        """
        if self._problem is not None:
            raise _unwritable(self.path, self._problem)
        words = (
            f"python {form.python_line()}\ncloudpickle {cloudpickle.__version__}\n"
            f"hpc_flows {__version__}\nrun {run}\ntoken {token}\n"
            f"first {len(self._sections) + len(self._shared)}\n"
        )
        signed = (words + "".join((*self._sections, *self._shared, *self._calls))).encode()
        length = len(signed) + form.MAC_LINE + form.LAST_LINE
        with self._lock:
            self._file.write(signed)
            self._file.write(f"mac {form.digest(signed, key)}\n".encode())
            self._file.write(f"{form.MAGIC}{length:010d}\n".encode())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.rename(self._part, self.path)
        return self.path

    def discard(self) -> None:
        """Give up: close and remove what was written."""
        with self._lock:
            with suppress(OSError):  # the rest of what nobody will read may not fit
                self._file.close()
            if os.path.exists(self._part):
                os.unlink(self._part)


def _section(source: BinaryIO, line: str) -> bytes:
    """Return the content that a line of the directory is about."""
    offset, size = (int(word) for word in line.split()[:2])
    source.seek(offset)
    return source.read(size)


def _unwritable(path: str, error: OSError) -> PayloadError:
    return PayloadError(
        f"The files of the job cannot be written: {path}: {error.strerror}. Free space there, or "
        "set HPC_FLOWS_HOME to a folder on another file system."
    )
