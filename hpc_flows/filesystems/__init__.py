"""Places for files: a folder of this machine or of a cluster, or a store elsewhere.

They hold results (`result_storage=`) and whatever a flow wants to put somewhere. In an `async def`
their methods are awaited, elsewhere they are called; `aread_path` and its like are always awaited.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpc_flows.filesystems.base import (
        ReadableDeploymentStorage,
        ReadableFileSystem,
        WritableDeploymentStorage,
        WritableFileSystem,
    )
    from hpc_flows.filesystems.local import LocalFileSystem
    from hpc_flows.filesystems.nowhere import NullFileSystem
    from hpc_flows.filesystems.remote import RemoteFileSystem

__all__ = [
    "LocalFileSystem",
    "NullFileSystem",
    "ReadableDeploymentStorage",
    "ReadableFileSystem",
    "RemoteFileSystem",
    "WritableDeploymentStorage",
    "WritableFileSystem",
]

_HOMES = {
    "LocalFileSystem": "local",
    "NullFileSystem": "nowhere",
    "ReadableDeploymentStorage": "base",
    "ReadableFileSystem": "base",
    "RemoteFileSystem": "remote",
    "WritableDeploymentStorage": "base",
    "WritableFileSystem": "base",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: fsspec takes 100 ms, and few need it.
    if name not in _HOMES:
        from hpc_flows.exceptions.absent import no_such_name  # noqa: PLC0415 - once it is wrong

        raise no_such_name(__name__, name, _HOMES)
    return getattr(__import__(f"{__name__}.{_HOMES[name]}", fromlist=[name]), name)
