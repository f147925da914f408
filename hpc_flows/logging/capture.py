"""Everything that a task's process writes to its standard output and error, as log records.

It works on the descriptors 1 and 2, so it takes what subprocesses, C, Fortran and MPI libraries
write as much as what Python does. A process has only one pair of them, so this is for processes
that run one task at a time: jobs, and the workers of a process pool. docs/how-to/capture-output.md
says what is exact where.
"""

from __future__ import annotations

import os
import stat
import sys

from hpc_flows import logging
from hpc_flows.logging.follower import Follower
from hpc_flows.logging.lines import Lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hpc_flows.context import RunContext

_OUT, _ERR = 1, 2

#: Lines of ours in the followed file that may wait to be met there.
_MOST_OWN = 1000


def begin(context: RunContext, name: str, *, quiet: bool) -> Capture | None:
    """Begin to log what the process writes, if `log_prints` and the settings want it.

    Args:
        context: the task run that gets the records.
        name: of the file for output that has none of its own to be followed.
        quiet: whether what is written reaches people without us, as the output file of a job does;
            then the records go to the journal only.
    """
    root = context.root
    wanted = context.log_prints and root.settings.log_output and root.log_level <= logging.INFO
    if not wanted or logging.active_capture() is not None:
        return None
    try:
        capture = Capture(context, name, quiet=quiet)
    except OSError as error:  # no /proc, no room, a descriptor that is closed
        logging.run_log(context, logging.WARNING, f"Output is not captured: {error}")
        return None
    logging.set_capture(capture)
    return capture


class Capture:
    """What is written to the descriptors 1 and 2 of this process makes records of one task run.

    Where both are one regular file, as in a job, that file is followed and nothing is changed.
    Elsewhere they are put upon a file of ours, and what comes there is copied to where they led if
    `quiet`.
    """

    def __init__(self, context: RunContext, name: str, *, quiet: bool) -> None:
        self._context = context
        self._quiet = quiet
        self._own: list[str] = []
        self._saved: list[int] = []
        self._path = ""
        flush()
        descriptor = _followed() if quiet else None
        self._follows = descriptor is not None
        if descriptor is None:
            descriptor = self._redirect(os.path.join(context.root.run_dir, "output"), name)
        self._follower = Follower(descriptor, self._line, self._warn, select=self._not_own)
        self._follower.start()

    def _redirect(self, folder: str, name: str) -> int:
        """Put the descriptors upon a new file and return one for reading it."""
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._path = os.path.join(folder, name + ".log")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        written = os.open(self._path, flags, 0o600)
        self._saved = [os.dup(_OUT), os.dup(_ERR)]
        for standard in (_OUT, _ERR):
            os.dup2(written, standard)
        os.close(written)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)
        return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    def show(self, line: str) -> None:
        """Show a line of our own log where people look, without taking it for output."""
        if self._saved:
            _write_all(self._saved[1], line.encode("utf-8", "backslashreplace"))
            return
        self._own += Lines().feed(line.encode("utf-8", "backslashreplace"))
        del self._own[:-_MOST_OWN]
        sys.stderr.write(line)

    def catch_up(self) -> None:
        """Log what has been written so far, so that records stand in the order of events."""
        self._follower.catch_up()

    def sync(self) -> None:
        """Log all that has been written, also what C's buffers hold and a line without an end."""
        flush()
        self._follower.finish()

    def end(self) -> None:
        """Log the rest and leave the descriptors as they were."""
        try:
            self.sync()
        finally:
            logging.set_capture(None)
            for standard, saved in zip((_OUT, _ERR), self._saved, strict=False):
                os.dup2(saved, standard)
                os.close(saved)
            self._saved = []
            self._follower.end()
        if self._path and not self._follower.is_cut:
            os.unlink(self._path)

    def _line(self, text: str) -> None:
        if self._quiet and self._saved:
            _write_all(self._saved[0], text.encode() + b"\n")
        logging.output_log(self._context, logging.INFO, text, shown=not self._quiet)

    def _not_own(self, text: str) -> str | None:
        """Return a line without one of our own at its end; None if it is nothing else."""
        for own in self._own:
            if text.endswith(own):
                self._own.remove(own)
                return text.removesuffix(own) or None
        return text

    def _warn(self, text: str) -> None:
        where = f"; all of it is in {self._path or _path_of(_OUT)}."
        logging.output_log(self._context, logging.WARNING, text + where, shown=not self._quiet)


def _followed() -> int | None:
    """Return a descriptor for reading the file that 1 and 2 both write to, or None."""
    try:
        out, err = os.fstat(_OUT), os.fstat(_ERR)
        if stat.S_ISREG(out.st_mode) and os.path.samestat(out, err):
            return os.open(f"/proc/self/fd/{_OUT}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    return None


def _path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return "the output of the process"


def _write_all(descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        return  # nobody listens; the journal has the record


def flush() -> None:
    """Empty the buffers of Python's streams and of C's, which are full-size for files."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # the user's code has closed or replaced it
    try:
        import ctypes  # noqa: PLC0415 - only where output is captured

        ctypes.CDLL(None).fflush(None)
    except (ImportError, OSError, AttributeError):
        return  # a Python without it: C's buffers come when they are full


def _after_fork() -> None:
    """Leave the capture to the parent: a forked child writes to its descriptors plainly."""
    if logging.active_capture() is not None:
        logging.set_capture(None)
        logging.release_prints()


os.register_at_fork(after_in_child=_after_fork)
