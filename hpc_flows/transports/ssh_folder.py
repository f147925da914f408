"""The private folder for sockets: short, on a local disk, of mode 0700 and ours."""

from __future__ import annotations

import os
import re
import secrets
import socket
import stat

from hpc_flows.exceptions import TransportError

#: Longest path that may be a control socket: the kernel takes 107 bytes, and ssh adds 17 of its
#: own while it binds (measured with OpenSSH 9.2: 90 is taken, 100 is not).
LONGEST = 90

#: Longest name that is put into the folder.
_NAME = 24

_PLAIN = re.compile(r"/[A-Za-z0-9._/-]+")
_PRIVATE = 0o700


def socket_folder() -> str:
    """Return the folder, made if need be: below XDG_RUNTIME_DIR, else in /tmp.

    Never below the home folder: that may be on a network file system, which takes no sockets, and
    its path may be too long for one.

    Raises:
        TransportError: it is somebody else's, or cannot be made.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if _is_fit(runtime):
        return _private(os.path.join(runtime, "hpc-flows"))
    return _private(f"/tmp/hf-{os.getuid()}")  # noqa: S108 - mode and owner are checked


def fresh_path(prefix: str, folder: str | None = None) -> str:
    """Return the path of a socket that is not there yet.

    Args:
        prefix: one letter or two, to tell sockets apart.
        folder: where; the private folder of this machine when None.
    """
    return os.path.join(folder or socket_folder(), f"{prefix}-{secrets.token_hex(6)}")


def has_listener(path: str) -> bool:
    """Tell whether a process listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # a queue that is full, for example
            return True
    return True


def _is_fit(runtime: str) -> bool:
    room = LONGEST - len("/hpc-flows/") - _NAME
    if not _PLAIN.fullmatch(runtime) or len(runtime) > room:
        return False
    try:
        status = os.stat(runtime)
    except OSError:  # logged out meanwhile: the system removes the folder then
        return False
    mine = status.st_uid == os.getuid() and os.access(runtime, os.W_OK)
    return mine and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _private(folder: str) -> str:
    try:
        os.mkdir(folder, _PRIVATE)
    except FileExistsError:
        pass
    except OSError as error:
        raise TransportError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        msg = (
            f"{folder} belongs to somebody else, and sockets in it could be used by others. Set "
            "XDG_RUNTIME_DIR to a folder of your own on a local disk."
        )
        raise TransportError(msg)
    if stat.S_IMODE(status.st_mode) != _PRIVATE:
        os.chmod(folder, _PRIVATE)
    return folder
