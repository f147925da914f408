"""A store elsewhere, through fsspec: S3, GCS, Azure, SFTP, HTTP, memory, ..."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from hpc_flows.exceptions import SettingsError
from hpc_flows.filesystems.base import (
    Awaited,
    EitherWay,
    WritableDeploymentStorage,
    WritableFileSystem,
)
from hpc_flows.filesystems.ignore import IgnoreRules, read_rules


class RemoteFileSystem(WritableFileSystem, WritableDeploymentStorage):
    """Keeps files below an address such as `s3://bucket/folder`, and reaches nothing beside it.

    Needs fsspec (`pip install 'hpc-flows[remote]'`) and what fsspec needs for the scheme.

    Args:
        basepath: scheme, location and folder.
        settings: keywords for fsspec, such as keys and end points.

    Raises:
        ValueError: the address has no scheme or no location.
    """

    _fields = ("basepath", "settings")

    def __init__(self, basepath: str, settings: dict[str, Any] | None = None) -> None:
        scheme, netloc, *_ = urlsplit(basepath)
        if not scheme:
            raise ValueError(f"Base path {basepath!r} must start with a scheme, such as s3://.")
        if not netloc:
            raise ValueError(f"Base path {basepath!r} must include a location after the scheme.")
        if scheme == "file":
            raise ValueError("Base path scheme cannot be 'file': use LocalFileSystem.")
        self.basepath = basepath
        self.settings = dict(settings or {})
        self._filesystem: Any = None

    def __repr__(self) -> str:
        # Settings hold keys and passwords.
        return f"RemoteFileSystem(basepath={self.basepath!r})"

    @property
    def filesystem(self) -> Any:
        """Fsspec's object, made when it is first needed.

        Raises:
            SettingsError: fsspec is not installed.
            RuntimeError: what it needs for the scheme is not.
        """
        if not self._filesystem:
            self._filesystem = _made(urlsplit(self.basepath).scheme, self.settings)
        return self._filesystem

    @EitherWay
    def read_path(self, path: str) -> bytes:
        """Return the bytes of the file `path`.

        Raises:
            ValueError: it lies outside of `basepath`.
            FileNotFoundError: it is not there.
        """
        with self.filesystem.open(self._resolve_path(path), "rb") as file:
            content: bytes = file.read()
        return content

    @EitherWay
    def write_path(self, path: str, content: bytes) -> str:
        """Write the file `path`, with its folders; return its whole address.

        Raises:
            ValueError: it lies outside of `basepath`.
        """
        target = self._resolve_path(path)
        self.filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
        with self.filesystem.open(target, "wb") as file:
            file.write(content)
        return target

    @EitherWay
    def get_directory(
        self, from_path: str | None = None, local_path: str | os.PathLike[str] | None = None
    ) -> None:
        """Copy a folder of the store (all of it) to this machine (the current folder).

        Raises:
            ValueError: it lies outside of `basepath`.
        """
        source = self._resolve_path(from_path) if from_path else self.basepath
        target = Path(local_path).absolute() if local_path else Path.cwd()
        # With the slash, every version of fsspec copies what is in the folder, not the folder.
        self.filesystem.get(source.rstrip("/") + "/", str(target), recursive=True)

    @EitherWay
    def put_directory(
        self,
        local_path: str | os.PathLike[str] | None = None,
        to_path: str | None = None,
        ignore_file: str | os.PathLike[str] | None = None,
        overwrite: bool = True,  # noqa: FBT001, FBT002 - as in Prefect
    ) -> int:
        """Copy a folder of this machine to the store; return the number of files.

        Raises:
            ValueError: it would lie outside of `basepath`.
        """
        target = (self._resolve_path(to_path) if to_path else self.basepath).rstrip("/")
        source = os.fspath(local_path or ".")
        rules = read_rules(ignore_file) if ignore_file else IgnoreRules(())
        options = {"overwrite": True} if overwrite else {}
        count = 0
        for name in rules.included(source):
            self.filesystem.put_file(os.path.join(source, name), f"{target}/{name}", **options)
            count += 1
        return count

    aread_path = Awaited(read_path)
    awrite_path = Awaited(write_path)
    aget_directory = Awaited(get_directory)
    aput_directory = Awaited(put_directory)

    def _resolve_path(self, path: str | os.PathLike[str]) -> str:
        """Return the address of a path; those that lead out of `basepath` are refused."""
        path = os.fspath(path)
        base = urlsplit(self.basepath)
        found = urlsplit(path)
        if found.scheme and found.scheme.lower() != base.scheme.lower():
            raise ValueError(
                f"Path {path!r} with scheme {found.scheme!r} must use the same scheme as the base "
                f"path {base.scheme!r}."
            )
        # The store, or a gateway before it, may decode what looks harmless here.
        if ".." in unquote(found.path).replace("\\", "/").split("/"):
            raise ValueError(_outside(path, self.basepath))
        if not found.netloc:
            return f"{self.basepath.rstrip('/')}/{found.path.lstrip('/')}"
        folder = base.path.rstrip("/") + "/"
        if found.netloc != base.netloc or not f"{found.path}/".startswith(folder):
            raise ValueError(_outside(path, self.basepath))
        inner = folder if found.path.rstrip("/") == folder.rstrip("/") else found.path
        return urlunsplit((base.scheme, base.netloc, inner, "", ""))


def _outside(path: str, base: str) -> str:
    return f"Path {path!r} is outside of the base path {base!r}."


def _made(scheme: str, settings: dict[str, Any]) -> Any:
    try:
        import fsspec  # noqa: PLC0415 - 100 ms, and not everybody has it
    except ImportError as error:
        raise SettingsError(
            "RemoteFileSystem needs fsspec: pip install 'hpc-flows[remote]'."
        ) from error
    try:
        return fsspec.filesystem(scheme, **settings)
    except ImportError as error:
        raise RuntimeError(
            f"A file system of scheme {scheme!r} cannot be made: {error}. You are likely missing "
            f"a Python module that fsspec needs for it."
        ) from error
