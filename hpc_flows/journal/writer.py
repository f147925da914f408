"""The writer of a journal, and the folder of a run that it writes to.

What `write` returned from survives a `kill -9` of the process: it is with the kernel. What was
written with `durable=True` survives a power cut as well; of the rest, a power cut takes at most
the last `LAG` seconds where a background thread looks after it.
"""

from __future__ import annotations

import os
from _thread import RLock, allocate_lock, start_new_thread
from _weakref import ref
from errno import EINVAL, ENOSPC, ENOSYS, ENOTSUP, ESTALE
from time import monotonic, sleep

from hpc_flows.exceptions import JournalError, JournalTaken
from hpc_flows.journal.event import LONGEST_MESSAGE, MAX_LINE, Lines, encode, shortened
from hpc_flows.journal.folder import check_name, create_run, read_key
from hpc_flows.journal.reserve import NO_ROOM, release, restore
from hpc_flows.journal.trouble import log_record, loss, shut_message, too_long, trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Any, Self

__all__ = ["LAG", "LONGEST_MESSAGE", "JournalWriter", "create_run", "read_key"]

#: Seconds for which an event that nobody waits for may stay out of the disk's reach.
LAG = 0.05

#: Seconds between two looks at a disk that was full.
_LOOK_AGAIN = 1.0

#: Seconds before each further attempt to write what must be kept; the last one repeats.
_PAUSES = (0.0, 0.01, 0.05, 0.2, 0.5)

#: Records that may wait for a sync; one more brings them all to the disk.
_MOST_UNSYNCED = 16384

#: Seconds that a thread which mends a failed sync waits for the others to let go of the file.
_TURN = 5.0

# The two system calls that matter; tests put failing ones in their place.
_write = os.write
_sync_file = getattr(os, "fdatasync", os.fsync)


class JournalWriter:
    """The one writer of one journal file; safe for threads and signal handlers.

    Args:
        run_dir: folder of the run, as `create_run` made it.
        run_id: id of the root flow run.
        writer: name of this writer, unique within the run: letters, digits, `.`, `_` and `-`.
        background: start a thread, at the first need, that brings events to the disk within
            `LAG` seconds. Without it only `durable=True`, `flush` and `close` do. Jobs, whose
            driver watches over them, go without.
        fsync: whether to ask for the disk at all (setting `journal_fsync`).
        patience: seconds to go on trying to write an event that must be kept.

    Raises:
        JournalTaken: the run has a journal of that writer already. This makes the file a lease:
            of several processes that are started for the same work one gets it.
        JournalError: the file cannot be made.
    """

    def __init__(
        self,
        run_dir: str,
        run_id: str,
        writer: str,
        *,
        background: bool = True,
        fsync: bool = True,
        patience: float = 10.0,
    ) -> None:
        check_name(writer)
        self.run_dir = os.fspath(run_dir)
        self.run_id = run_id
        self.writer = writer
        self.path = os.path.join(self.run_dir, "journal", writer + ".jsonl")
        #: How many log records were dropped because the disk was full.
        self.dropped = 0
        self.disowned = False  # true in a forked child, which must not write under this name
        self._lines = Lines(run_id, writer)
        self._patience = patience
        self._background = background and fsync
        self._fsync = fsync
        self._callbacks: tuple[Callable[[str], object], ...] = ()
        # Reentrant, because a signal handler may write while its thread is writing.
        self._lock = RLock()
        self._sync_lock = RLock()
        self._written = self._synced = 0  # counts of records, for the group commit
        self._unsynced: list[bytes] = []  # what must be written again should the disk refuse it
        self._settled = self._syncing = False
        self._torn = False  # the file ends in a part of a record
        self._ailing = False  # the last write failed: drop logs, keep states
        self._looked = 0.0
        self._unreported = 0
        self._awake = self._threaded = self._closed = False
        self._wake = allocate_lock()  # the background thread parks here while all is synced
        self._halt = allocate_lock()  # ... and here for LAG seconds
        self._fd = _open_new(self.path)
        _living[id(self)] = ref(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, kind: str, data: dict[str, Any], *, durable: bool = False) -> int:
        """Append one event and return its number, or 0 for a log record that was dropped.

        Args:
            kind: the kind of event.
            data: its facts; what JSON cannot say is put in words.
            durable: return only when the event is on the disk. Threads that ask for this at
                the same time share one sync of the file.

        Raises:
            JournalError: the event could not be written or, if durable, not brought to the
                disk; never for records of kind `log`, which a full disk makes it drop.
        """
        if kind == "log":
            data = _shortened(data)
        text = encode(data)
        with self._lock:
            seq = self._append(kind, text)
            mark = self._written
        if durable or len(self._unsynced) > _MOST_UNSYNCED:
            self._sync(mark)
        elif not self._awake and self._background:
            self._rouse()
        for callback in self._callbacks:
            self._tell(callback, kind)
        return seq

    def write_together(self, *events: tuple[str, dict[str, Any]]) -> None:
        """Append some events, none of them a log record, in one step; it fails as `write` does."""
        self.write_texts(*[(kind, encode(data)) for kind, data in events])

    def write_texts(self, *events: tuple[str, str]) -> int:
        """Append events whose facts are ASCII JSON already, in one step; it fails as `write` does.

        Returns how many log records among them a full disk made it drop.
        """
        with self._lock:
            if self._torn or self._ailing or len(events) == 1:
                dropped = sum(not self._append(kind, text) for kind, text in events)
            else:
                dropped = self._append_together(events)
        if len(self._unsynced) > _MOST_UNSYNCED:
            self._sync(self._written)
        elif not self._awake and self._background:
            self._rouse()
        if self._callbacks:
            for callback in self._callbacks:
                for kind, _ in events:
                    self._tell(callback, kind)
        return dropped

    def subscribe(self, callback: Callable[[str], object]) -> None:
        """Have `callback(kind)` called after every event, in the thread that wrote it.

        One that raises is called no more, and the journal says so.
        """
        self._callbacks = (*self._callbacks, callback)

    def flush(self) -> None:
        """Return when everything that was written is on the disk.

        Raises:
            JournalError: it could not be brought there.
        """
        self._sync(self._written)

    def close(self) -> None:
        """Bring everything to the disk and close the file; a second call does nothing.

        Raises:
            JournalError: something could not be brought to the disk.
        """
        if self._closed:
            return
        with self._lock:
            if self._unreported and restore(self.run_dir):
                self._recover()
        try:
            self._sync(self._written)
        finally:
            self._shut()

    def _append(self, kind: str, text: str) -> int:
        if self._ailing and kind == "log" and not self._is_well():
            return self._drop()
        seq, line = self._lines.make(kind, text)
        self._check(kind, line)
        return seq if self._sent(kind, line) else 0

    def _append_together(self, events: Sequence[tuple[str, str]]) -> int:
        """Append events in one write; return how many log records among them were dropped."""
        lines = self._lines.make_all(events)
        sent = self._put_together(events, lines)
        if self._fsync:
            kept = zip(lines[:sent], events, strict=False)
            self._unsynced.extend([line for line, (kind, _) in kept if kind != "log"])
        self._written += sent
        dropped = 0
        if sent < len(lines):
            for line, (kind, _) in zip(lines[sent:], events[sent:], strict=True):
                # Once one has failed, what room is made is for states, not for log records.
                refused = self._ailing and kind == "log"
                dropped += not (self._drop() if refused else self._sent(kind, line))
        return dropped

    def _sent(self, kind: str, line: bytes) -> bool:
        return self._keep(kind, line, self._put(line))

    def _keep(self, kind: str, line: bytes, error: OSError | None) -> bool:
        """Count a line that was written, insist on one that failed; False for a dropped record."""
        if kind == "log":
            if error is not None:
                self._ailing = True
                self._drop()
                return False
        else:
            if error is not None:
                self._ailing = True
                self._insist(line, error)
            if self._fsync:
                self._unsynced.append(line)
        self._written += 1
        return True

    def _put(self, line: bytes) -> OSError | None:
        if self._torn:  # ends the torn record, so that readers can skip it
            line = b"\n" + line
        try:
            sent = _write(self._fd, line)
        except OSError as error:
            return error
        if sent == len(line):
            self._torn = False
            return None
        self._torn = self._torn or sent > 0
        return OSError(ENOSPC, os.strerror(ENOSPC))

    def _check(self, kind: str, line: bytes) -> None:
        if len(line) > MAX_LINE:
            raise JournalError(too_long(self.path, kind, len(line)))

    def _put_together(self, events: Sequence[tuple[str, str]], lines: list[bytes]) -> int:
        """Write the lines of events at once; return how many of them are whole."""
        whole = b"".join(lines)
        if len(whole) > MAX_LINE:
            for (kind, _), line in zip(events, lines, strict=True):
                self._check(kind, line)
        try:
            sent = _write(self._fd, whole)
        except OSError:
            return 0
        if sent == len(whole):
            return len(lines)
        for number, line in enumerate(lines):
            if sent < len(line):
                self._torn = sent > 0
                return number
            sent -= len(line)
        return len(lines)

    def _insist(self, line: bytes, error: OSError) -> None:
        """Write a line that must be kept, with the help of the reserve."""
        give_up = monotonic() + self._patience
        failed: OSError | None = error
        for pause in _pauses():
            if self._closed:
                raise JournalError(shut_message(self.path)) from failed
            if failed is None:
                return
            if monotonic() > give_up:
                raise JournalError(trouble(self.path, failed)) from failed
            self._ease(failed)
            sleep(pause)
            failed = self._put(line)

    def _ease(self, error: OSError) -> None:
        if error.errno in NO_ROOM:
            release(self.run_dir)
        elif error.errno == ESTALE:  # the NFS server forgot the file's handle
            self._reopen()

    def _reopen(self) -> None:
        try:
            fresh = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return  # the write that follows fails, and says why
        stale, self._fd = self._fd, fresh
        os.close(stale)

    def _drop(self) -> int:
        self.dropped += 1
        self._unreported += 1
        return 0

    def _is_well(self) -> bool:
        """Look, at most once a second, whether there is room again, and say what was dropped."""
        now = monotonic()
        if now - self._looked < _LOOK_AGAIN or self._closed:
            return False
        self._looked = now
        return restore(self.run_dir) and self._recover()

    def _recover(self) -> bool:
        self._ailing = False
        lost, self._unreported = self._unreported, 0
        if lost and not self._append("log", encode(loss(self.path, lost))):
            self._unreported += lost - 1  # -1: the report itself was counted as dropped
            self.dropped -= 1
        return not self._ailing

    def _sync(self, mark: int) -> None:
        """Bring the first `mark` records to the disk; one sync serves all who wait for it."""
        with self._sync_lock:
            if self._synced >= mark:
                return
            nested, self._syncing = self._syncing, True
            reached = self._written
            held = len(self._unsynced)
            try:
                self._reach_disk()
            finally:
                self._syncing = nested
            self._synced = max(self._synced, reached)
            if not nested:  # a signal handler's sync leaves the list to the one it interrupted
                del self._unsynced[:held]

    def _reach_disk(self) -> None:
        if not self._fsync:
            return
        if not self._settled:
            self._settled = True
            _settle(self.run_dir, whole=self._background)
        try:
            _sync_file(self._fd)
        except OSError as error:
            if error.errno in (EINVAL, ENOSYS, ENOTSUP):  # a file system that cannot sync
                self._fsync = False
            else:
                self._mend(error)

    def _mend(self, error: OSError) -> None:
        """Write again what a sync refused, as a full NFS does: ids make a copy harmless."""
        give_up = monotonic() + self._patience
        failed: OSError | None = error
        for pause in _pauses():
            if failed is None:
                return
            if self._closed or monotonic() > give_up:
                raise JournalError(trouble(self.path, failed)) from failed
            self._ease(failed)
            sleep(pause)
            failed = self._write_again()

    def _write_again(self) -> OSError | None:
        # A thread that is stopped in a signal handler inside `write` never lets go of the lock.
        mine = self._lock.acquire(timeout=_TURN)
        self._ailing = self._torn = True
        try:
            errors = (self._put(line) for line in tuple(self._unsynced))
            error = next((error for error in errors if error is not None), None)
        finally:
            if mine:
                self._lock.release()
        if error is None:
            try:
                _sync_file(self._fd)
            except OSError as again:
                return again
        return error

    def _rouse(self) -> None:
        with self._lock:
            if self._awake or self._closed:
                return
            self._awake = True
            if self._threaded:
                self._wake.release()
                return
            self._threaded = True
            self._wake.acquire()
            self._halt.acquire()
            start_new_thread(self._keep_up, ())

    def _keep_up(self) -> None:
        """Sync what was written, a little later than it was written; runs in a thread."""
        while not self._closed:
            self._halt.acquire(timeout=LAG)
            self._awake = False
            try:
                self._sync(self._written)
            except JournalError:
                self._rouse()  # the next durable write, or `close`, tells; try again
            self._wake.acquire()

    def _shut(self) -> None:
        with self._lock:
            self._closed = True
            fd, self._fd = self._fd, -1
            for lock in (self._halt, self._wake):
                if lock.locked():
                    lock.release()
            _living.pop(id(self), None)
        os.close(fd)

    def _disown(self) -> None:
        """Let go of the file in a forked child, which must not write under this name."""
        self._closed = self.disowned = True
        self._callbacks = ()
        self._lock, self._sync_lock = RLock(), RLock()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _tell(self, callback: Callable[[str], object], kind: str) -> None:
        try:
            callback(kind)
        except Exception as error:  # noqa: BLE001 - a broken display must not break the run
            self._callbacks = tuple(other for other in self._callbacks if other is not callback)
            message = f"A subscriber of the journal raised {error!r} and is not called any more."
            self.write("log", log_record("ERROR", message))


#: Writers that are open, so that a forked child can let go of them.
_living: dict[int, ref[JournalWriter]] = {}


def _after_fork() -> None:
    for writer in list(_living.values()):
        found = writer()
        if found is not None:
            found._disown()  # noqa: SLF001 - same module
    _living.clear()


os.register_at_fork(after_in_child=_after_fork)


def _open_new(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError as error:
        msg = (
            f"Another process writes this journal, or wrote it: {path}. Each process of a run "
            f"needs a writer's name of its own."
        )
        raise JournalTaken(msg) from error
    except OSError as error:
        if error.errno in NO_ROOM and release(os.path.dirname(os.path.dirname(path))):
            return _open_new(path)
        raise JournalError(trouble(path, error)) from error


def _settle(run_dir: str, *, whole: bool) -> None:
    """Make the names of the run's first files as durable as their content."""
    names = ("run.json", "key", "journal", ".", "..") if whole else ("journal",)
    for name in names:
        try:
            fd = os.open(os.path.join(run_dir, name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            os.fsync(fd)
        except OSError:
            continue  # some network file systems cannot sync a folder; they need not
        finally:
            os.close(fd)


def _pauses() -> Iterator[float]:
    yield from _PAUSES
    while True:
        yield _PAUSES[-1]


def _shortened(data: dict[str, Any]) -> dict[str, Any]:
    message = data.get("message")
    if not isinstance(message, str) or len(message) <= LONGEST_MESSAGE:
        return data
    return {**data, "message": shortened(message)}
