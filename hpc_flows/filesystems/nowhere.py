"""A place that keeps nothing."""

from __future__ import annotations

from hpc_flows.filesystems.base import Awaited, EitherWay, WritableFileSystem


class NullFileSystem(WritableFileSystem):
    """Takes everything and keeps nothing: for results that nobody wants to keep."""

    @EitherWay
    def read_path(self, path: str) -> bytes:
        """Refuse: nothing was kept.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"Path {path} does not exist: NullFileSystem keeps nothing.")

    @EitherWay
    def write_path(self, path: str, content: bytes) -> str:
        """Forget `content` and return `path`."""
        del content
        return path

    aread_path = Awaited(read_path)
    awrite_path = Awaited(write_path)
