"""Payloads: what a job needs in order to run its tasks, in one signed file per submission.

The form of a file::

    <sections, one after another, written as the calls arrive>
    python 3.11 cpython                 who wrote it, compared before anything is unpickled
    cloudpickle 3.1.2
    hpc_flows 0.1.0
    run 1b4e28ba-...                    root flow run
    token hf-1b4e28-7c9a10d2            the submission
    first 3                             number of the first section that is a call
    <offset> <size> <digest> <task run> one line of fixed width per section
    mac <keyed blake2b of the directory above, without the sections>
    hpc_flows payload 1 0000000923      magic, version, bytes from `python` to here

Sections: 0 is where the code was (text), 1 the task and what all its runs share (pickle), then
values that several calls have in common (pickle each), then the calls (pickle each). The directory
is signed with the run's key and holds a digest of each section, so that element `i` of an array of
thousands reads, verifies and unpickles only its own part.

This module is loaded in every job: it imports nothing that bare Python has not loaded already.
"""

from __future__ import annotations

import sys

from hpc_flows.exceptions import PayloadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

MAGIC = "hpc_flows payload 1 "
#: Bytes of the last line: magic, ten digits, newline.
LAST_LINE = len(MAGIC) + 11
#: Lines of words above the list of sections.
WORDS = 6
#: Bytes of one line of the list of sections: offset, size, digest, task run, blanks, newline.
SECTION_LINE = 15 + 1 + 15 + 1 + 64 + 1 + 36 + 1
#: What stands for the task run's id in sections that belong to several.
NOBODY = "-" * 36
#: Bytes of the line with the signature.
MAC_LINE = 4 + 64 + 1
#: No directory is larger: 100,000 calls need 10 MB.
MAX_DIRECTORY = 100_000_000

#: Releases of cloudpickle whose way to write functions `_LEAN` was tested with.
_TESTED_CLOUDPICKLE = ("3.0.", "3.1.")


def digest(content: bytes, key: bytes = b"") -> str:
    """Return a blake2b digest of 32 bytes in hexadecimal, keyed when a key is given."""
    # The C module itself: `hashlib` costs 3 ms, and a job has 15.
    from _blake2 import blake2b  # noqa: PLC0415

    return str(blake2b(content, digest_size=32, key=key).hexdigest())


def python_line() -> str:
    """Return what must be the same on both sides for pickles to be understood: `3.11 cpython`."""
    return f"{sys.version_info[0]}.{sys.version_info[1]} {sys.implementation.name}"


class Shared:
    """Stands in a call for a value that several calls of the payload have in common."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return Shared, (self.number,)


class Payload:
    """One verified element of a payload file; nothing of it is unpickled before `load`.

    Attributes:
        path: the file.
        index: which call.
        facts: the directory's words by name: `python`, `cloudpickle`, `hpc_flows`, `run`, `token`.
        task_run: id of the call's task run.
        places: the driver's working directory, then its `sys.path`.
    """

    __slots__ = ("_sections", "facts", "index", "path", "places", "task_run")

    def __init__(
        self, path: str, index: int, words: str, sections: list[tuple[int, int, str, str]]
    ) -> None:
        self.path = path
        self.index = index
        self.facts = dict(line.split(" ", 1) for line in words.splitlines())
        self._sections = sections
        self.task_run = sections[-1][3]
        self.places = self.section(0).decode("utf-8", "surrogateescape").split("\0")

    def section(self, number: int) -> bytes:
        """Return a section that this element may need, verified.

        Raises:
            PayloadError: the file was changed or cut.
        """
        offset, size, expected, _ = self._sections[number]
        with open(self.path, "rb") as file:
            file.seek(offset)
            content = file.read(size)
        if digest(content) != expected:
            raise PayloadError(
                f"Section {number} of {self.path} is damaged: its digest differs from the signed "
                "one. Submit the tasks again."
            )
        return content

    def check_versions(self) -> None:
        """Compare this interpreter and its packages with those that wrote the payload.

        Raises:
            PayloadError: they differ in a way that pickles do not survive.
        """
        here = python_line()
        if self.facts["python"] != here:
            raise PayloadError(
                f"Wrong Python on the node: the flow runs on Python {self.facts['python']}, but "
                f"the job's interpreter {sys.executable} is {here}. Set `python` in the cluster's "
                "profile to an interpreter of the same version that the nodes see."
            )
        from hpc_flows._version import __version__  # noqa: PLC0415 - bare text

        if self.facts["hpc_flows"] != __version__:
            raise PayloadError(
                f"Wrong hpc_flows on the node: the flow runs version {self.facts['hpc_flows']}, "
                f"but {sys.executable} has {__version__}. Install the same version in both."
            )

    def load(self) -> tuple[Any, Any]:
        """Unpickle the task's part and this element's call, common values put in place.

        Returns:
            the task's part, and the call `(run, args, kwargs)`.

        Raises:
            PayloadError: something in them cannot be loaded here; the message names it.
        """
        loads = _loader(self.facts["cloudpickle"])
        task = self._load(loads, 1, "the task")
        first = len(self._sections) - 1
        run, args, kwargs = self._load(loads, first, "the arguments")
        args = tuple(self._put(loads, value) for value in args)
        return task, (run, args, {name: self._put(loads, v) for name, v in kwargs.items()})

    def _put(self, loads: Callable[[bytes], Any], value: Any) -> Any:
        if type(value) is Shared:
            return self._load(loads, 2 + value.number, "an argument")
        return value

    def _load(self, loads: Callable[[bytes], Any], number: int, what: str) -> Any:
        content = self.section(number)
        try:
            return loads(content)
        except Exception as error:
            raise PayloadError(self._explain(error, what)) from error

    def _explain(self, error: Exception, what: str) -> str:
        text = f"{type(error).__name__}: {error}"
        if not isinstance(error, ImportError | AttributeError):
            return f"{what.capitalize()} cannot be loaded on the node: {text}"
        name = getattr(error, "name", None)
        about = f"module {name!r} " if isinstance(error, ImportError) and name else ""
        return (
            f"{what.capitalize()} cannot be loaded on the node: {about}cannot be imported there "
            f"as it was where the flow runs ({text}). The node's interpreter is {sys.executable}. "
            "Put the module in a folder that the nodes see, install it in that interpreter, or "
            "send it along with cloudpickle.register_pickle_by_value(module)."
        )


def read_payload(path: str, key: bytes, index: int) -> Payload:
    """Open a payload and verify the part that belongs to one element.

    Args:
        path: the file.
        key: the run's key.
        index: number of the call, from 0.

    Raises:
        PayloadError: there is no such file or element, or the signature is wrong.
    """
    try:
        with open(path, "rb") as file:
            directory = _read_directory(file, path)
    except OSError as error:
        raise PayloadError(f"The payload cannot be read: {error}") from None
    signed, mac = directory[:-MAC_LINE], directory[-MAC_LINE:]
    if mac != f"mac {digest(signed, key)}\n".encode():
        raise PayloadError(
            f"The signature of {path} does not fit this run's key, so nothing in it is loaded. "
            "It was damaged, or not written by the run that owns the folder."
        )
    return _element(path, index, signed)


def _read_directory(file: BinaryIO, path: str) -> bytes:
    size = file.seek(0, 2)
    file.seek(max(0, size - LAST_LINE))
    last = file.read(LAST_LINE)
    digits = last[len(MAGIC) : -1]
    if last[: len(MAGIC)] != MAGIC.encode() or not digits.isdigit():
        raise PayloadError(f"{path} is not a payload of hpc_flows, or is cut.")
    length = int(digits)
    if not LAST_LINE + MAC_LINE < length <= min(size, MAX_DIRECTORY):
        raise PayloadError(f"{path} is damaged: its directory cannot have {length} bytes.")
    file.seek(size - length)
    return file.read(length - LAST_LINE)


def _element(path: str, index: int, signed: bytes) -> Payload:
    at = 0
    for _ in range(WORDS):
        at = signed.index(b"\n", at) + 1
    words = signed[:at].decode()
    first = int(words.splitlines()[-1].split()[1])
    count = (len(signed) - at) // SECTION_LINE - first
    if not 0 <= index < count:
        raise PayloadError(
            f"{path} has {count} calls, numbered from 0; there is no call {index}. "
            "Was the script submitted with another --array?"
        )
    numbers = [*range(first), first + index]
    lines = [signed[at + n * SECTION_LINE : at + (n + 1) * SECTION_LINE] for n in numbers]
    return Payload(path, index, words, [_section_line(line) for line in lines])


def _section_line(line: bytes) -> tuple[int, int, str, str]:
    offset, size, expected, task_run = line.decode().split()
    return int(offset), int(size), expected, task_run


def _loader(cloudpickle_version: str) -> Callable[[bytes], Any]:
    import _pickle  # noqa: PLC0415 - not loaded by bare Python

    if not cloudpickle_version.startswith(_TESTED_CLOUDPICKLE):
        return _pickle.loads

    class Reader(_pickle.Unpickler):
        """Reads functions that cloudpickle wrote without loading cloudpickle (22 ms)."""

        def find_class(self, module: str, name: str) -> Any:
            lean = _LEAN.get(name) if module == "cloudpickle.cloudpickle" else None
            return lean or super().find_class(module, name)

    def loads(content: bytes) -> Any:
        from io import BytesIO  # noqa: PLC0415 - loaded by Python itself

        return Reader(BytesIO(content)).load()

    return loads


# What cloudpickle's own functions of these names do, for functions and closures. Classes and all
# else load cloudpickle itself.


def _make_function(
    code: Any, namespace: dict[str, Any], name: str | None, defaults: Any, closure: Any
) -> Any:
    namespace["__builtins__"] = __builtins__
    function_type: Any = type(_make_function)
    return function_type(code, namespace, name, defaults, closure)


def _function_setstate(function: Any, state: tuple[dict[str, Any], dict[str, Any]]) -> Any:
    attributes, slots = state
    function.__dict__.update(attributes)
    function.__globals__.update(slots.pop("__globals__"))
    function.__globals__["__builtins__"] = __builtins__
    closure = slots.pop("__closure__")
    slots.pop("_cloudpickle_submodules", None)
    for own, given in zip(function.__closure__ or (), closure or (), strict=False):
        try:
            own.cell_contents = given.cell_contents
        except ValueError:  # the cell is empty on the other side too
            continue
    for name, value in slots.items():
        setattr(function, name, value)
    return function


def _make_empty_cell() -> Any:
    def holder() -> Any:
        return content

    if TYPE_CHECKING:
        content = None  # never assigned when this runs: the cell stays empty
    return holder.__closure__[0]  # type: ignore[index]


def _make_cell(*content: Any) -> Any:
    cell = _make_empty_cell()
    if content:
        cell.cell_contents = content[0]
    return cell


def _builtin_type(name: str) -> Any:
    if name == "CodeType":
        return type(_builtin_type.__code__)
    import types  # noqa: PLC0415 - rarely needed

    return getattr(types, name)


def _subimport(name: str) -> Any:
    __import__(name)
    return sys.modules[name]


_LEAN = {
    "_make_function": _make_function,
    "_function_setstate": _function_setstate,
    "_make_empty_cell": _make_empty_cell,
    "_make_cell": _make_cell,
    "_builtin_type": _builtin_type,
    "subimport": _subimport,
}
