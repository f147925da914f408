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
from time import monotonic, sleep

from hpc_flows.exceptions import LeaseError, LeaseTimeout
from hpc_flows.leases.holder import DEFAULT_TTL, Holder
from hpc_flows.leases.renewal import renewal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, TypeVar

    T = TypeVar("T")

#: Of a lease's `ttl`, the part after which it is renewed, and for which it is watched.
_PART = 3
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
_link, _touch = os.link, os.utime


class Lease:
    """A lease that this process holds, or held.

    Made by `acquire`, `try_acquire` or `adopt`, and renewed by a thread until `release`, or until
    it is lost. `with lease:` releases it at the end.

    Attributes:
        path: as it was asked for.
        number: the fencing number; every holder of a lease has a higher one than those before.
        holder: this process, as others read it.
        due: when the next renewal is due, by the monotonic clock.
    """

    __slots__ = (
        "_ended",
        "_file",
        "_on_lost",
        "_pid",
        "_renewed",
        "due",
        "holder",
        "number",
        "path",
    )

    def __init__(
        self, path: str, number: int, holder: Holder, on_lost: Callable[[Lease], object] | None
    ) -> None:
        self.path = path
        self.number = number
        self.holder = holder
        self._file = _file(path, number)
        self._on_lost = on_lost
        self._pid = os.getpid()
        self._ended = False
        self._renewed = monotonic()
        self.due = self._renewed + holder.ttl / _PART
        renewal().add(self)

    @classmethod
    def try_acquire(
        cls,
        path: str,
        *,
        note: str = "",
        ttl: float = DEFAULT_TTL,
        on_lost: Callable[[Lease], object] | None = None,
    ) -> Self | None:
        """Take a lease if it is free or its holder is gone; return None otherwise.

        Args:
            path: where the lease lies; folders are made. Leases that are released with
                `forget=True` should have a folder of their own each.
            note: what the holder says of itself to those that wait.
            ttl: seconds without renewal after which others may take it.
            on_lost: called once, perhaps in another thread, when somebody else has it.

        Raises:
            LeaseError: the folder cannot be written or read, or the disk is full.
        """
        holder = Holder.here(ttl, note)
        number = _taken(path, holder)
        return None if number is None else cls(path, number, holder, on_lost)

    @classmethod
    def acquire(
        cls,
        path: str,
        *,
        note: str = "",
        ttl: float = DEFAULT_TTL,
        timeout: float | None = None,
        on_lost: Callable[[Lease], object] | None = None,
    ) -> Self:
        """Take a lease, waiting until it is free; arguments as in `try_acquire`.

        Raises:
            LeaseTimeout: it was not to be had within `timeout` seconds.
            LeaseError: as in `try_acquire`.
        """
        began = monotonic()
        while True:
            lease = cls.try_acquire(path, note=note, ttl=ttl, on_lost=on_lost)
            if lease is not None:
                return lease
            waited = monotonic() - began
            pause = pause_after(waited)
            if timeout is not None:
                if waited >= timeout:
                    holder = holder_of(path)
                    who = f"held by {holder}" if holder else "just given back"
                    msg = f"The lease {path} was not to be had within {timeout:g} s: it is {who}."
                    raise LeaseTimeout(msg)
                pause = min(pause, timeout - waited)
            sleep(pause)

    @classmethod
    def adopt(
        cls,
        path: str,
        token: str,
        *,
        note: str = "",
        ttl: float = DEFAULT_TTL,
        on_lost: Callable[[Lease], object] | None = None,
    ) -> Self | None:
        """Take over from a living holder that has passed on its token; None if that has lost it.

        So a driver hands a lease to its job. The holder before must have called `bequeath`.
        """
        holder = Holder.here(ttl, note, token)
        number = _guarded(path, lambda: _adopted(path, holder))
        return None if number is None else cls(path, number, holder, on_lost)

    @property
    def token(self) -> str:
        """What `adopt` and `end` need."""
        return self.holder.token

    def is_held(self) -> bool:
        """Tell whether this process still has the lease.

        Asks the file system only when a renewal is overdue, as after the process was stopped.
        """
        if self._ended or self._pid != os.getpid():
            return False
        return monotonic() - self._renewed <= self.holder.ttl or self.renew()

    def renew(self) -> bool:
        """Say that the holder lives; return whether it still has the lease.

        The thread does it. When the file system does not answer, the lease is lost after `ttl`.
        """
        if self._ended or self._pid != os.getpid():
            return False
        now = monotonic()
        self.due = now + self.holder.ttl / _PART
        try:
            _touch(self._file)
            followed = os.path.exists(_file(self.path, self.number + 1))
        except FileNotFoundError:
            followed = True
        except OSError:
            followed = now - self._renewed > self.holder.ttl
            if not followed:
                # Soon again: what failed may be a moment's trouble of the file server.
                self.due = now + self.holder.ttl / _PART / 4
                return True
        if followed:
            self._lose()
            return False
        self._renewed = now
        return True

    def _lose(self) -> None:
        if not renewal().remove(self) or self._ended:
            return
        self._ended = True
        if self._on_lost is None:
            return
        try:
            self._on_lost(self)
        except Exception:  # noqa: BLE001 - the thread has other leases to keep
            import sys  # noqa: PLC0415 - only for what went wrong

            sys.excepthook(*sys.exc_info())

    def bequeath(self) -> str:
        """Allow that somebody else adopts the lease, which is then no loss; return its token."""
        self._on_lost = None
        return self.holder.token

    def release(self, *, forget: bool = False) -> bool:
        """Let go of the lease; tell whether it was this process's until now.

        Does nothing the second time, in a forked child, and when the lease was lost.

        Args:
            forget: leave no file and no empty folder behind. The fencing numbers begin anew.
        """
        if self._pid != os.getpid():
            return False
        mine = renewal().remove(self) and not self._ended
        self._ended = True
        return mine and _given_back(self._file, forget=forget)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Lease {self.path} number {self.number}>"


def holder_of(path: str) -> Holder | None:
    """Return who holds a lease, gone or not, or None when it is free.

    Raises:
        LeaseError: the folder, or the file, cannot be read.
    """
    return _guarded(path, lambda: _last(path)[1])


def is_stale(path: str) -> bool:
    """Tell whether a lease is held by somebody who is gone; False also when it is free.

    Raises:
        LeaseError: the folder, or the file, cannot be read.
    """

    def look() -> bool:
        file, holder = _last(path)
        stamp = None if holder is None else _stamp(file)
        return holder is not None and stamp is not None and _is_gone(file, holder, stamp)

    return _guarded(path, look)


def end(path: str, token: str) -> bool:
    """Give a lease back for its holder, if it is the one with that token; tell whether it was."""

    def give() -> bool:
        file, holder = _last(path)
        return holder is not None and holder.token == token and _given_back(file, forget=False)

    return _guarded(path, give)


def revoke(path: str) -> bool:
    """Take a lease from whoever holds it, who notices at the next renewal; tell whether it was."""

    def give() -> bool:
        file, holder = _last(path)
        return holder is not None and _given_back(file, forget=False)

    return _guarded(path, give)


def pause_after(waited: float) -> float:
    """Return the seconds to sleep between two looks, after so many seconds of waiting.

    They grow with the time that was waited, so that a short wait is noticed soon and a thousand
    long ones are bearable for a file server: 20 ms at first, 15 s at most, spread by chance.
    """
    return min(max(waited / 8, 0.02), 15.0) * (0.75 + os.urandom(1)[0] / 512)


def _file(path: str, number: int) -> str:
    return f"{path}.{number}"


def _guarded(path: str, do: Callable[[], T]) -> T:
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


def _last(path: str) -> tuple[str, Holder | None]:
    """Return the newest file of a lease, and the holder that it names unless the lease is free."""
    names = _names(path)
    number = max(names.values(), default=0)
    file = _file(path, number)
    return file, Holder.read(file) if os.path.basename(file) in names else None


def _taken(path: str, holder: Holder) -> int | None:
    """Make the next file of a lease if it may be made, and return its number."""

    def attempt() -> int | None:
        for _ in range(_ATTEMPTS):
            seen = _names(path)
            number = _attempt(path, holder, seen)
            if number is None or number > 0:
                return number
            sleep(pause_after(0.0))
        return None

    found: int | None = _guarded(path, attempt)
    return found


def _attempt(path: str, holder: Holder, seen: dict[str, int]) -> int | None:
    """Try to follow the last holder: return our number, None if it lives, 0 for another look."""
    last = max(seen.values(), default=0)
    file = _file(path, last)
    stamp: float | None = None
    if os.path.basename(file) in seen:
        before = Holder.read(file)
        stamp = _stamp(file)
        if before is None or stamp is None:
            return 0
        if not (_is_gone(file, before, stamp) and _is_watched(file, before, stamp)):
            return None
    number = last + 1
    if not _made(path, number, holder):
        return None
    return _settled(path, number, seen, (file, stamp))


def _settled(path: str, number: int, seen: dict[str, int], before: tuple[str, float | None]) -> int:
    """Look once more after our file was made: return its number, or 0 when it had to go."""
    mine = _file(path, number)
    file, stamp = before
    try:
        fair = _names(path).keys() <= seen.keys() | {os.path.basename(mine)}
        if not fair or (stamp is not None and _stamp(file) not in (stamp, None)):
            _remove(mine)
            return 0
        for name in seen:
            _remove(os.path.join(os.path.dirname(path), name))
        if stamp is not None:
            _sweep(os.path.dirname(path))
    except BaseException:
        _remove(mine)
        raise
    return number


def _sweep(folder: str) -> None:
    """Remove the drafts of contenders that were killed, an hour later; called after a takeover."""
    for name in os.listdir(folder):
        if name.startswith("."):
            file = os.path.join(folder, name)
            if _now(folder) - (_stamp(file) or float("inf")) > _LEFT_OVER:
                _remove(file)


def _adopted(path: str, holder: Holder) -> int | None:
    """Follow a living holder with the same token; return our number, or None if it is not there."""
    seen = _names(path)
    number = max(seen.values(), default=0)
    file = _file(path, number)
    before = Holder.read(file)
    if before is None or before.token != holder.token or not _made(path, number + 1, holder):
        return None
    mine = _file(path, number + 1)
    # Whoever has followed, and gone, has removed the file of the holder that we come from.
    if _stamp(file) is None or not _names(path).keys() <= seen.keys() | {os.path.basename(mine)}:
        _remove(mine)
        return None
    _remove(file)
    return number + 1


def _is_gone(file: str, holder: Holder, stamp: float) -> bool:
    """Tell whether a holder has ended, or has not renewed its file for too long."""
    if holder.is_dead():
        return True
    return _now(os.path.dirname(file)) - stamp > holder.ttl


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
    return now - since > holder.ttl / _PART


def _stamp(file: str) -> float | None:
    """Return when a file was last touched, or None if it is not there."""
    try:
        return os.stat(file).st_mtime
    except FileNotFoundError:
        return None


def _now(folder: str) -> float:
    """Return the time by the clock that stamps the files of a folder."""
    offset, measured = _clocks.get(folder, (0.0, float("-inf")))
    if monotonic() - measured > _CLOCK_LASTS:
        probe = os.path.join(folder, f".clock.{os.urandom(8).hex()}")
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            offset, measured = os.stat(probe).st_mtime - monotonic(), monotonic()
        finally:
            _remove(probe)
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
    file = _file(path, number)
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
        _remove(draft)
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
        os.makedirs(os.path.dirname(file), 0o700, exist_ok=True)
        fd = os.open(file, flags, 0o600)
    try:
        try:
            os.write(fd, text)
        finally:
            os.close(fd)
    except BaseException:
        _remove(file)
        raise


def _given_back(file: str, *, forget: bool) -> bool:
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


def _remove(file: str) -> None:
    try:
        os.unlink(file)
    except FileNotFoundError:
        return


def _remove_folder(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:  # others use it
        return
