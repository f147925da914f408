"""A folder that this machine sees: a disk, or a file system that the cluster shares."""

from __future__ import annotations

import os
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING

from hpc_flows.filesystems.base import (
    Awaited,
    EitherWay,
    WritableDeploymentStorage,
    WritableFileSystem,
)
from hpc_flows.filesystems.ignore import read_rules
from hpc_flows.serializers.base import write_file

if TYPE_CHECKING:
    from collections.abc import Callable

#: Names of the files whose patterns say what `get_directory` leaves out; Prefect's is known too.
IGNORE_FILES = (".hpcflowsignore", ".prefectignore")


class LocalFileSystem(WritableFileSystem, WritableDeploymentStorage):
    """Keeps files in a folder, and reaches nothing outside of it.

    Args:
        basepath: the folder, `~` allowed; the current folder of the moment when None.
    """

    _fields = ("basepath",)

    def __init__(self, basepath: str | os.PathLike[str] | None = None) -> None:
        self.basepath = None if basepath is None else os.fspath(basepath)

    def local_path(self, path: str | os.PathLike[str]) -> str:
        """Return the whole path of a file.

        Raises:
            ValueError: it lies outside of the folder.
        """
        return str(self._resolve_path(path))

    @EitherWay
    def read_path(self, path: str | os.PathLike[str]) -> bytes:
        """Return the bytes of the file `path`.

        Raises:
            ValueError: it is not there, no file, or outside of the folder.
        """
        found = self._resolve_path(path)
        if not found.exists():
            raise ValueError(f"Path {found} does not exist.")
        if not found.is_file():
            raise ValueError(f"Path {found} is not a file.")
        return found.read_bytes()

    @EitherWay
    def write_path(self, path: str | os.PathLike[str], content: bytes) -> str:
        """Write the file `path`, whole or not at all, with its folders; return its whole path.

        Raises:
            ValueError: it is a folder, or outside of the folder.
        """
        target = self._resolve_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file():
            raise ValueError(f"Path {target} already exists and is not a file.")
        write_file(str(target), [content])
        return str(target)

    @EitherWay
    def get_directory(
        self,
        from_path: str | os.PathLike[str] | None = None,
        local_path: str | os.PathLike[str] | None = None,
    ) -> None:
        """Copy a folder of this place (all of it) to another (the current one).

        What its `.hpcflowsignore` or `.prefectignore` names is left out; links stay links.

        Raises:
            ValueError: it lies outside of the folder.
        """
        source = self._resolve_path(from_path or None)
        target = Path(local_path or ".").resolve()
        if source == target:
            return
        ignore = next((source / name for name in IGNORE_FILES if (source / name).exists()), None)
        _copy(source, target, ignore, symlinks=True)

    @EitherWay
    def put_directory(
        self,
        local_path: str | os.PathLike[str] | None = None,
        to_path: str | os.PathLike[str] | None = None,
        ignore_file: str | os.PathLike[str] | None = None,
    ) -> None:
        """Copy a folder (the current one) to this place (its root), except what is ignored.

        Raises:
            ValueError: it would lie outside of the folder.
        """
        target = self._resolve_path(to_path or None)
        source = Path(local_path or ".").absolute()
        if source != target:
            _copy(source, target, ignore_file, symlinks=False)

    aread_path = Awaited(read_path)
    awrite_path = Awaited(write_path)
    aget_directory = Awaited(get_directory)
    aput_directory = Awaited(put_directory)

    def _resolve_path(self, path: str | os.PathLike[str] | None) -> Path:
        base = Path(self.basepath or ".").expanduser().resolve()
        if path is None:
            return base
        found = (base / Path(path).expanduser()).resolve()
        if base != found and base not in found.parents:
            raise ValueError(f"Provided path {found} is outside of the base path {base}.")
        return found


def _copy(
    source: Path, target: Path, ignore: str | os.PathLike[str] | None, *, symlinks: bool
) -> None:
    left_out = _left_out(source, target, ignore)
    copytree(source, target, ignore=left_out, dirs_exist_ok=True, symlinks=symlinks)


def _left_out(
    source: Path, target: Path, ignore: str | os.PathLike[str] | None
) -> Callable[[str, list[str]], list[str]]:
    """Return what tells copytree to leave out the ignored, and a target inside of its source."""
    kept = None if ignore is None else _with_folders(read_rules(ignore).included(source))

    def chosen(folder: str, names: list[str]) -> list[str]:
        inner = Path(folder).relative_to(source)
        itself = [name for name in names if Path(folder, name).resolve() == target]
        if kept is None:
            return itself
        return itself + [name for name in names if str(inner / name) not in kept]

    return chosen


def _with_folders(paths: object) -> set[str]:
    found = {Path(path) for path in paths}  # type: ignore[attr-defined]
    return {str(path) for path in found} | {str(up) for path in found for up in path.parents}
