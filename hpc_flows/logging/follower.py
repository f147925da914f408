"""A reader that makes log records of the lines of a file while it is being written.

A file, and not a pipe: whoever writes never waits for the reader (compiled code that holds
Python's lock would wait for ever), a child that lives on hurts nobody, and what a killed process
has written is still there.
"""

from __future__ import annotations

import os
from _thread import RLock, allocate_lock, start_new_thread

from hpc_flows.logging.lines import Allowance, Lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two looks at the file.
PERIOD = 0.2

#: Bytes that are read at a time.
_CHUNK = 1 << 18


class Follower:
    """Follows one file from where it ends now.

    Args:
        descriptor: of the file, for reading; it is closed at the end.
        emit: called with each line, in order, by whichever thread reads.
        warn: called with a sentence when lines had to be left out.
        allowance: how much may be emitted.
        select: returns what of a line counts as output, or None for nothing of it.
    """

    def __init__(
        self,
        descriptor: int,
        emit: Callable[[str], object],
        warn: Callable[[str], object],
        allowance: Allowance | None = None,
        select: Callable[[str], str | None] | None = None,
    ) -> None:
        self._descriptor = descriptor
        self._emit = emit
        self._warn = warn
        self._select = select
        self._allowance = allowance or Allowance()
        self._offset = os.fstat(descriptor).st_size
        self._lines = Lines()
        self._left_out = self._left_out_bytes = 0
        #: Whether any line was left out.
        self.is_cut = False
        self._lock = RLock()
        self._reading = self._ended = False
        self._halt = allocate_lock()

    def start(self) -> None:
        """Look at the file every now and then, in a thread."""
        self._halt.acquire()
        start_new_thread(self._follow, ())

    def catch_up(self) -> None:
        """Emit every line that is complete by now."""
        with self._lock:
            if self._reading or self._ended:  # a signal handler's call, inside of another
                return
            self._reading = True
            try:
                self._read()
            finally:
                self._reading = False

    def finish(self) -> None:
        """Emit what is there, the last line also where it has no end."""
        self.catch_up()
        with self._lock:
            if not self._reading:
                self._pass_on(self._lines.last())
                self._tell_left_out()

    def end(self) -> None:
        """Emit what is there, and follow the file no more."""
        self.finish()
        with self._lock:
            if self._ended:
                return
            self._ended = True
            os.close(self._descriptor)
        if self._halt.locked():
            self._halt.release()

    def _follow(self) -> None:
        while not self._halt.acquire(timeout=PERIOD):
            try:
                self.catch_up()
            except Exception:  # noqa: BLE001 - a journal that cannot be written tells the engine
                return

    def _read(self) -> None:
        end = os.fstat(self._descriptor).st_size  # as of now: a writer may be faster than we are
        self._offset = min(self._offset, end)  # somebody has emptied it
        while self._offset < end:
            data = os.pread(self._descriptor, min(_CHUNK, end - self._offset), self._offset)
            if not data:
                return
            self._offset += len(data)
            self._pass_on(self._lines.feed(data))

    def _pass_on(self, lines: list[str]) -> None:
        for line in lines:
            text = line if self._select is None else self._select(line)
            if text is None:
                continue
            if not self._allowance.take(text):
                self.is_cut = True
                self._left_out += 1
                self._left_out_bytes += len(text) + 1
                continue
            self._tell_left_out()
            self._emit(text)

    def _tell_left_out(self) -> None:
        count, size = self._left_out, self._left_out_bytes
        if not count:
            return
        self._left_out = self._left_out_bytes = 0
        lines = "1 line" if count == 1 else f"{count} lines"
        self._warn(f"{lines} of output ({size} characters) came too fast to be logged")
