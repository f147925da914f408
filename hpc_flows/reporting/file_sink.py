"""The sink that is a file: the events of all runs, appended as they come."""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import TYPE_CHECKING

from hpc_flows.reporting.sink import Receipt, Sink, SinkRefusal, SinkTrouble

if TYPE_CHECKING:
    from hpc_flows.reporting.sink import Batch, RunAbout

_MENDED_BY_HAND = (PermissionError, IsADirectoryError, NotADirectoryError, FileNotFoundError)


class FileSink(Sink):
    """Appends journal lines to a file, each with its checksum, and syncs it.

    A relay that was killed may append a line twice; readers take each id (`run`, `writer`, `seq`)
    once, as with any journal. A file that was removed or rotated is begun anew, and gets what is
    new from then on.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.name = f"file {path}"
        self._path = path
        # One file, one set of cursors: another file gets everything.
        self.store = f"file-{blake2b(os.fsencode(path), digest_size=8).hexdigest()}"

    def open(self) -> str:
        """See whether the file can be written; see `Sink`."""
        os.close(self._opened())
        return ""

    def register(self, run: RunAbout) -> str:
        """Do nothing: a file needs to know nothing of a run; see `Sink`."""
        del run
        return ""

    def send(self, batch: Batch) -> Receipt:
        """Append a batch in one piece and sync it; see `Sink`."""
        fd = self._opened()
        try:
            content = batch.body
            if _is_torn(fd):
                content = b"\n" + content
            while content:
                content = content[os.write(fd, content) :]
            os.fsync(fd)
        except OSError as error:
            raise SinkTrouble(self._told(error)) from error
        finally:
            os.close(fd)
        return Receipt()

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self._path, flags, 0o600)
        except _MENDED_BY_HAND as error:
            raise SinkRefusal(self._told(error)) from error
        except OSError as error:
            raise SinkTrouble(self._told(error)) from error

    def _told(self, error: OSError) -> str:
        return (
            f"The file of events cannot be written: {self._path}: {error.strerror}. Its setting is "
            f"report_file."
        )


def _is_torn(fd: int) -> bool:
    """Tell whether the file ends in the middle of a line, as after a full disk."""
    size = os.fstat(fd).st_size
    return size > 0 and os.pread(fd, 1, size - 1) != b"\n"
