"""FILES: keys that change with the content of the files that a task is given.

To read a large file again for each key would take too long, so what was read is remembered in
`$HPC_FLOWS_HOME/hashes`. A file is taken for unchanged while its size, times and inode are the
same, unless its time is so recent that a later change could carry the same one.
"""

from __future__ import annotations

import os
import stat
import time
from _blake2 import blake2b
from errno import EINVAL
from itertools import islice

from hpc_flows.cache_policies.hashing import hash_objects
from hpc_flows.cache_policies.policies import CachePolicy
from hpc_flows.exceptions import HashError
from hpc_flows.settings import get_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CHUNK = 4 * 1024 * 1024
#: Texts of one input that are looked at for names of files that would not be counted.
_MOST_TEXTS = 100
#: Seconds by which a file must be older than its hash to be believed unchanged: on local disks more
#: than the coarsest steps of their times (2 s); elsewhere the server's clock may also differ.
_LOCAL_AGE, _SHARED_AGE = 3.0, 60.0
#: File systems whose times are set by another machine, as /proc/mounts names them.
_SHARED = ("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb", "fuse", "ceph", "panfs", "9p", "afs")


class Files(CachePolicy):
    """Keys change with the content of the files and folders that the task is given.

    Counted are inputs that are `pathlib.Path` objects, also inside of lists, tuples, sets and
    dicts. Texts are counted where their parameters are named: `FILES("mesh", "forcing")`.

    Attributes:
        names: names of parameters whose texts are paths, too.
    """

    def __init__(self, names: tuple[str, ...] = (), **configuration: Any) -> None:
        super().__init__(**configuration)
        self.names = tuple(names)

    def __call__(self, *names: str) -> Files:
        """Return the policy that takes the texts of these parameters for paths."""
        new = self._copy()
        new.names = (*self.names, *names)
        return new

    def compute_key(
        self,
        task_ctx: Any,  # noqa: ARG002 - the policies' interface
        inputs: dict[str, Any] | None,
        flow_parameters: dict[str, Any] | None,  # noqa: ARG002 - as above
        **_: Any,
    ) -> str | None:
        """Return the hash of what is in the files.

        Raises:
            HashError: one is not there, or cannot be read; or there is none, but a text that names
                a file and would not be counted.
        """
        inputs = inputs or {}
        unknown = [name for name in self.names if name not in inputs]
        if unknown:
            from hpc_flows.exceptions import close_match  # noqa: PLC0415 - only once it is wrong

            hint = close_match(unknown[0], inputs)
            raise HashError(f"FILES names {unknown[0]!r}, which is no parameter of the task.{hint}")
        found = []
        for name, value in inputs.items():
            paths = list(_paths(value, texts=name in self.names))
            found += [(name, number, _content(name, path)) for number, path in enumerate(paths)]
        if not found:
            _refuse_uncounted(inputs)
            return None
        return hash_objects(found, raise_on_failure=True)


FILES = Files()


def _paths(value: Any, *, texts: bool) -> Iterator[str]:
    """Yield the paths among a value's parts."""
    if hasattr(type(value), "__fspath__"):
        yield os.fspath(value)
    elif isinstance(value, str):
        if texts:
            yield value
    elif isinstance(value, dict):
        for key in sorted(value, key=repr):
            yield from _paths(value[key], texts=texts)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _paths(item, texts=texts)
    elif isinstance(value, (set, frozenset)):
        for item in sorted(value, key=repr):
            yield from _paths(item, texts=texts)


def _refuse_uncounted(inputs: dict[str, Any]) -> None:
    """Say that a text which names a file is not counted, rather than take a stale result."""
    for name, value in inputs.items():
        texts = islice(_paths(value, texts=True), _MOST_TEXTS)
        found = next((text for text in texts if "\0" not in text and os.path.isfile(text)), None)
        if found is not None:
            what = "is" if isinstance(value, str) else "holds"
            msg = (
                f"FILES finds no path among the inputs, but {name!r} {what} a text that names a "
                f"file: {found}. Name the parameter, FILES({name!r}), or give a pathlib.Path."
            )
            raise HashError(msg)


def _content(name: str, path: str) -> str:
    """Return the hash of a file, or of all in a folder."""
    try:
        return _folder_hash(path) if os.path.isdir(path) else file_hash(path)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        what = "is not there" if missing else f"cannot be read: {error.strerror}"
        msg = (
            f"The file of input {name!r} {what}: {error.filename or path} (the flow runs in "
            f"{os.getcwd()}). No key can be made of its content."
        )
        raise HashError(msg) from error


def _folder_hash(folder: str) -> str:
    """Return the hash of the names and contents of all files in a folder and its subfolders."""
    whole = blake2b(b"folder\0", digest_size=32)
    for relative, path in _files_of(folder, "", ()):
        name = relative.encode("utf-8", "surrogateescape")
        whole.update(name + b"\0" + file_hash(path).encode())
    return whole.hexdigest()


def _files_of(folder: str, inside: str, above: tuple[Any, ...]) -> Iterator[tuple[str, str]]:
    """Yield the files of a folder, also behind links: data often lies on another file system."""
    status = os.stat(folder)
    mark = (status.st_dev, status.st_ino)
    if mark in above:  # a link that leads back up
        return
    for name in sorted(os.listdir(folder)):
        path, relative = os.path.join(folder, name), os.path.join(inside, name)
        if os.path.isdir(path):
            yield from _files_of(path, relative, (*above, mark))
        else:
            yield relative, path


def file_hash(path: str) -> str:
    """Return the hash of a file's content, read only if it may have changed since the last time.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    path = os.path.realpath(path)
    memory = _memory_of(path)
    status = os.stat(path)
    if stat.S_ISFIFO(status.st_mode):  # to open one waits until somebody writes into it
        raise OSError(EINVAL, "it is a pipe, not a file", path)
    facts = _facts(status)
    known = _recall(memory)
    if known is not None and known["facts"] == facts and known["sure"]:
        return str(known["hash"])
    began = time.time()
    digest, facts = _read(path)
    # The newer of both times: to change the content and set mtime back moves ctime. As old as it
    # was when it was looked at: what is written while it is read, for long, can carry that time.
    newest = max(facts[1], facts[2]) / 1e9
    age = _SHARED_AGE if _is_shared(path) else _LOCAL_AGE
    _remember(memory, {"path": path, "facts": facts, "sure": began - newest > age, "hash": digest})
    return digest


def _facts(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read(path: str) -> tuple[str, list[int]]:
    """Return the hash of a file, and its facts from before it was read."""
    whole = blake2b(b"file\0", digest_size=32)
    with open(path, "rb") as file:
        facts = _facts(os.fstat(file.fileno()))
        while piece := file.read(_CHUNK):
            whole.update(piece)
    return whole.hexdigest(), facts


def _memory_of(path: str) -> str:
    name = blake2b(path.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return os.path.join(get_settings().home, "hashes", name[:2], f"{name}.json")


def _recall(memory: str) -> dict[str, Any] | None:
    from json import loads  # noqa: PLC0415 - for those who cache

    try:
        with open(memory, encoding="utf-8") as file:
            known = loads(file.read())
        return {name: known[name] for name in ("facts", "sure", "hash")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(memory: str, known: dict[str, Any]) -> None:
    """Write down what was read; without it, it is read again."""
    from json import dumps  # noqa: PLC0415 - for those who cache

    from hpc_flows.serializers.base import write_file  # noqa: PLC0415 - as above

    try:
        os.makedirs(os.path.dirname(memory), mode=0o700, exist_ok=True)
        write_file(memory, [dumps(known).encode()], fsync=False)
    except OSError:
        return


def _is_shared(path: str) -> bool:
    """Tell whether another machine may set the times of a file."""
    try:
        with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split()[1:3] for line in file]
    except (OSError, IndexError):
        return True
    inside = [
        (len(where), kind)
        for where, kind in mounts
        if path == where or path.startswith(where.rstrip("/") + "/")
    ]
    return not inside or max(inside)[1].startswith(_SHARED)
