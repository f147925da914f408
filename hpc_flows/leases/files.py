"""A lease: the right to something, held by one process at a time, on any shared file system.

A lease `PATH` is a row of files beside each other, `PATH.1`, `PATH.2`, ...: one for every holder
that it has had, of which only the last is kept. The number is the fencing number. Who lets go of
`PATH.7` renames it `PATH.7.free`. Who wants the lease looks for the highest number, 7, sees that
it is free or its holder is gone, and makes `PATH.8` by `link(2)`, which succeeds for exactly one
of many, on NFS and Lustre as well; no file that others may have taken is ever removed or renamed,
so there is no moment in which two can win. After that it looks once more. If a name appeared that
was not there at the first look, or the holder of `PATH.7` came back to life and renewed it, the
newcomer steps back. That holder in turn looks for `PATH.8` after each renewal. Of two that act at
the same moment at least one sees the other, and steps back.

A holder is gone

- at once, when its process ran on this machine and has ended (by process id and time of start);
- after `ttl` seconds without renewal anywhere else. A renewal touches the file. Ages are taken by
  the clock of the file server: what is compared with is a file touched in the same folder. On
  file systems where clients stamp files with their own clocks (Lustre), clocks may differ, so
  nobody takes a lease before having seen it lie unchanged for a third of its `ttl`.

A process that was stopped, or whose renewals did not reach the disk, has lost its lease as soon
as somebody else has taken it: `on_lost` is called, and `is_held` says so.
"""

from __future__ import annotations

import os
from errno import EEXIST, EMLINK, ENOSYS, ENOTSUP, EPERM
from stat import S_ISDIR
from time import monotonic, sleep

from hpc_flows.exceptions import LeaseError
from hpc_flows.leases.holder import Holder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

#: Of a lease's `ttl`, the part after which it is renewed, and for which it is watched.
PART = 3
#: Attempts of one `try_acquire`, when others act at the same moment.
_ATTEMPTS = 4
#: Seconds for which the difference between the file server's clock and ours is believed.
_CLOCK_LASTS = 30.0
#: Seconds after which a file that a killed contender has left is swept.
_LEFT_OVER = 3600.0
_MOST_WATCHED = 4096
_FREE = ".free"
_NO_LINKS = frozenset({EPERM, ENOTSUP, ENOSYS, EMLINK})

_clocks: dict[str, tuple[float, float]] = {}
_watched: dict[str, tuple[float, float]] = {}
# The system calls that matter; tests put failing ones in their place.
_link, _put = os.link, os.write


def pause_after(waited: float) -> float:
    """Return the seconds to sleep between two looks, after so many seconds of waiting.

    They grow with the time that was waited, so that a short wait is noticed soon and a thousand
    long ones are bearable for a file server: 20 ms at first, 15 s at most, spread by chance.
    """
    return min(max(waited / 8, 0.02), 15.0) * (0.75 + os.urandom(1)[0] / 512)


def file_of(path: str, number: int) -> str:
    """Return the file of the holder of that number."""
    return f"{path}.{number}"


def guarded(path: str, do: Callable[[], T]) -> T:
    """Do something with a lease's files, with errors that say what to look at."""
    try:
        return do()
    except OSError as error:
        msg = (
            f"The lease {path} cannot be used: {error}. Its folder must be readable and writable "
            f"for you, on a disk with room, on every node."
        )
        raise LeaseError(msg) from error


def _names(path: str) -> dict[str, int]:
    """Return the names of a lease's files, with their numbers."""
    folder, name = os.path.split(path)
    try:
        found = os.listdir(folder or ".")
    except FileNotFoundError:
        return {}
    start = name + "."
    rest = (
        (each, each[len(start) :].removesuffix(_FREE)) for each in found if each.startswith(start)
    )
    return {each: int(number) for each, number in rest if number.isdecimal()}


def last(path: str) -> tuple[str, Holder | None]:
    """Return the newest file of a lease, and the holder that it names unless the lease is free."""
    names = _names(path)
    number = max(names.values(), default=0)
    file = file_of(path, number)
    return file, Holder.read(file) if os.path.basename(file) in names else None


def taken(path: str, holder: Holder) -> int | None:
    """Make the next file of a lease if it may be made, and return its number."""

    def attempt() -> int | None:
        for _ in range(_ATTEMPTS):
            try:
                number = _attempt(path, holder, _names(path))
            except FileNotFoundError:  # its holder let go, and removed the folder
                number = 0
            if number is None or number > 0:
                return number
            sleep(pause_after(0.0))
        return None

    found: int | None = guarded(path, attempt)
    return found


def _attempt(path: str, holder: Holder, seen: dict[str, int]) -> int | None:
    """Try to follow the last holder: return our number, None if it lives, 0 for another look."""
    stamps: dict[str, float] = {}
    tokens = set()
    # More than one where a holder, or a contender, was killed before it could clear away.
    for name in sorted(seen, key=seen.__getitem__, reverse=True):
        if name.endswith(_FREE):
            continue
        file = os.path.join(os.path.dirname(path), name)
        before, stamp = Holder.read(file), stamp_of(file)
        if before is None or stamp is None:
            return 0
        if before.token in tokens:  # it was handed on to one that was looked at
            continue
        tokens.add(before.token)
        if not (is_gone(file, before, stamp) and _is_watched(file, before, stamp)):
            return None
        stamps[file] = stamp
    number = max(seen.values(), default=0) + 1
    return _settled(path, number, seen, stamps) if _made(path, number, holder) else None


def _settled(path: str, number: int, seen: dict[str, int], stamps: dict[str, float]) -> int:
    """Look once more after our file was made: return its number, or 0 when it had to go."""
    mine = file_of(path, number)
    try:
        fair = _names(path).keys() <= seen.keys() | {os.path.basename(mine)}
        if not fair or any(stamp_of(file) not in (stamps[file], None) for file in stamps):
            remove(mine)
            return 0
        for name in seen:
            remove(os.path.join(os.path.dirname(path), name))
        if stamps:
            _sweep(os.path.dirname(path))
    except BaseException:
        remove(mine)
        raise
    return number


def _sweep(folder: str) -> None:
    """Remove the drafts of contenders that were killed, an hour later; called after a takeover."""
    for name in os.listdir(folder):
        if name.startswith("."):
            file = os.path.join(folder, name)
            if server_time(folder) - (stamp_of(file) or float("inf")) > _LEFT_OVER:
                remove(file)


def adopted(path: str, holder: Holder) -> int | None:
    """Follow a living holder with the same token; return our number, or None if it is not there."""
    seen = _names(path)
    number = max(seen.values(), default=0)
    file = file_of(path, number)
    before = Holder.read(file)
    if before is None or before.token != holder.token or not _made(path, number + 1, holder):
        return None
    mine = file_of(path, number + 1)
    # Whoever has followed, and gone, has removed the file of the holder that we come from.
    if stamp_of(file) is None or not _names(path).keys() <= seen.keys() | {os.path.basename(mine)}:
        remove(mine)
        return None
    remove(file)
    return number + 1


def is_gone(file: str, holder: Holder, stamp: float) -> bool:
    """Tell whether a holder has ended, or has not renewed its file for too long."""
    if holder.is_dead():
        return True
    return server_time(os.path.dirname(file)) - stamp > holder.ttl


def _is_watched(file: str, holder: Holder, stamp: float) -> bool:
    """Tell whether a file was seen unchanged for so long that no clock can be at fault."""
    if holder.is_dead():
        return True
    now = monotonic()
    if len(_watched) > _MOST_WATCHED:
        _watched.clear()
    seen, since = _watched.setdefault(file, (stamp, now))
    if seen != stamp:
        _watched[file] = (stamp, now)
        return False
    return now - since > holder.ttl / PART


def stamp_of(file: str) -> float | None:
    """Return when a file was last touched, or None if it is not there."""
    try:
        return os.stat(file).st_mtime
    except FileNotFoundError:
        return None


def server_time(folder: str) -> float:
    """Return the time by the clock that stamps the files of a folder."""
    offset, measured = _clocks.get(folder, (0.0, float("-inf")))
    if monotonic() - measured > _CLOCK_LASTS:
        probe = os.path.join(folder, f".clock.{os.urandom(8).hex()}")
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            measured = monotonic()
            offset = (stamp_of(probe) or 0.0) - measured
        finally:
            remove(probe)
        if len(_clocks) > _MOST_WATCHED:
            _clocks.clear()
        _clocks[folder] = (offset, measured)
    return monotonic() + offset


def _made(path: str, number: int, holder: Holder) -> bool:
    """Make a file of a lease with all its text at once; False if it is there already."""
    folder, name = os.path.split(path)
    draft = os.path.join(folder, f".{name}.{os.urandom(8).hex()}")
    text = holder.text().encode()
    _write(draft, text)
    file = file_of(path, number)
    try:
        _link(draft, file)
    except OSError as error:
        if error.errno == EEXIST:
            # NFS repeats a request whose answer was lost, and then hears of its own success.
            return os.stat(draft).st_nlink > 1
        if error.errno not in _NO_LINKS:
            raise
        return _made_without_links(file, text)
    finally:
        remove(draft)
    return True


def _made_without_links(file: str, text: bytes) -> bool:
    try:
        _write(file, text)
    except FileExistsError:
        return False
    return True


def _write(file: str, text: bytes) -> None:
    """Write a new file; it is removed again if it cannot be written to its end."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(file, flags, 0o600)
    except FileNotFoundError:
        _make_folder(os.path.dirname(file))
        fd = os.open(file, flags, 0o600)
    try:
        try:
            _put(fd, text)
        finally:
            os.close(fd)
    except BaseException:
        remove(file)
        raise


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
    except FileExistsError:
        try:
            if not S_ISDIR(os.stat(folder).st_mode):
                raise
        except FileNotFoundError:
            return  # its last holder removed it between the two looks of makedirs


def given_back(file: str, *, forget: bool) -> bool:
    """Rename or remove a holder's own file; tell whether it was still there."""
    try:
        if forget:
            os.unlink(file)
            _remove_folder(os.path.dirname(file))
        else:
            os.rename(file, file + _FREE)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            return False
        msg = f"The lease {file} cannot be given back: {error}. It ends by itself after its time."
        raise LeaseError(msg) from error
    return True


def remove(file: str) -> None:
    """Remove a file that may be gone already."""
    try:
        os.unlink(file)
    except FileNotFoundError:
        return


def _remove_folder(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:  # others use it
        return
