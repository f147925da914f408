"""Space that is kept back in the folder of a run, and given to states when the disk is full.

The file `reserve` holds nothing; its blocks are what it is for. They are given back slice by
slice, each just before an event is tried again, so that what else fills the disk does not get
them all at once. `reserve` is put back when there is room for the whole of it.
"""

from __future__ import annotations

import os
from errno import EDQUOT, EFBIG, ENOSPC

#: What a system call says when there is no room: full disk, quota, limit of the file's size.
NO_ROOM = frozenset({ENOSPC, EDQUOT, EFBIG})

#: Bytes kept back: enough for three thousand state events.
_SIZE = 1024 * 1024

#: Of a small file system no more than this part is kept back.
_PART = 64

#: Bytes given back at a time: enough for fifty state events, and whole blocks everywhere.
_SLICE = 16 * 1024


def restore(run_dir: str) -> bool:
    """Make the reserve, or make it whole again; tell whether there was room."""
    path = os.path.join(run_dir, "reserve")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return False
    before = os.fstat(fd).st_size
    try:
        _allocate(fd, before, _target(fd))
    except OSError:
        os.ftruncate(fd, before)
        return False
    else:
        return True
    finally:
        os.close(fd)


def release(run_dir: str) -> bool:
    """Give one slice of the reserve back; tell whether there was one."""
    try:
        fd = os.open(os.path.join(run_dir, "reserve"), os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        size = os.fstat(fd).st_size
        os.ftruncate(fd, max(0, size - _SLICE))
    except OSError:
        return False
    else:
        return size > 0
    finally:
        os.close(fd)


def _target(fd: int) -> int:
    room = os.fstatvfs(fd)
    whole = min(_SIZE, room.f_blocks * room.f_frsize // _PART)
    return max(_SLICE, whole - whole % _SLICE)


def _allocate(fd: int, have: int, want: int) -> None:
    if have >= want:
        return
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, have, want - have)
    else:  # macOS
        os.pwrite(fd, os.urandom(want - have), have)
