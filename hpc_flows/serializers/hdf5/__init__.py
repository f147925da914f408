"""HDF5: arrays and tables as every program of the field reads them.

`form` says what a file looks like. h5py, numpy and pandas are loaded when a value needs them.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress

from hpc_flows.exceptions import ResultError, SettingsError
from hpc_flows.serializers.base import Serializer, draft_name, remove_quietly, sync_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_LEVELS = range(1, 10)


class HDF5Serializer(Serializer):
    """HDF5 through h5py: arrays are datasets, containers groups, scalars attributes.

    Args:
        compression: `auto`: arrays of 1 MiB and more are compressed when three samples of them
            shrink to less than a half; `gzip`: arrays of 1 MiB and more always; None: never.
        level: how hard gzip tries, 1 (quick) to 9.
        pickle_rest: keep what HDF5 has no form for as pickles inside of the file, and load pickles
            from it, which runs code of whoever wrote the file.
        fsync: whether `dump` returns only when the file is on the disk.

    Raises:
        SettingsError: an option has another value.
    """

    type = "hdf5"
    suffix = ".h5"
    options = ("compression", "level", "pickle_rest", "fsync")

    def __init__(
        self,
        compression: str | None = "auto",
        level: int = 1,
        *,
        pickle_rest: bool = False,
        fsync: bool = True,
    ) -> None:
        if compression not in ("auto", "gzip", None):
            raise SettingsError(f"compression is 'auto', 'gzip' or None, not {compression!r}.")
        if level not in _LEVELS:
            raise SettingsError(f"level is from 1 (quick) to 9 (small), not {level!r}.")
        self.compression = compression
        self.level = level
        self.pickle_rest = pickle_rest
        self.fsync = fsync

    def dumps(self, value: Any) -> bytes:
        """Return `value` as the bytes of an HDF5 file. `dump` needs half the memory."""
        h5py = _h5py()
        with h5py.File("value.h5", "w", driver="core", backing_store=False) as file:
            self._write(file, value)
            file.flush()
            data: bytes = file.id.get_file_image()
        return data

    def loads(self, data: bytes) -> Any:
        """Return the value that the bytes of an HDF5 file hold."""
        h5py = _h5py()
        try:
            file = h5py.File(h5py.h5f.open_file_image(bytes(data)))
        except (OSError, ValueError, RuntimeError) as error:
            raise ResultError(f"This is no HDF5 file: {error}.") from error
        with file:
            return self._read(file)

    def dump(self, value: Any, path: str) -> None:
        """Write `value` to the file `path`, whole or not at all, of mode 0600."""
        h5py = _h5py()
        path = os.fspath(path)
        # A folder of its own, since h5py cannot be told the mode of a new file, and ext4 flushes a
        # file that was made empty and truncated when it is closed, which halves the speed.
        folder = draft_name(path)
        draft = os.path.join(folder, "value.h5")
        os.mkdir(folder, 0o700)
        try:
            # Network file systems refuse or fake locks; nobody else can reach the draft.
            with _told(path), _closed(h5py.File(draft, "x", locking=False)) as file:
                os.chmod(draft, 0o600)
                self._write(file, value)
            if self.fsync:
                _sync(draft)
            os.rename(draft, path)
        finally:
            remove_quietly(draft)
            os.rmdir(folder)
        if self.fsync:
            sync_folder(os.path.dirname(path) or ".")

    def load(self, path: str) -> Any:
        """Return the value of the HDF5 file `path`, ours or anybody's."""
        with open_file(path) as file:
            return self._read(file)

    def _write(self, file: Any, value: Any) -> None:
        from hpc_flows.serializers.hdf5.arrays import Layout  # noqa: PLC0415 - they load h5py
        from hpc_flows.serializers.hdf5.writer import Writer  # noqa: PLC0415

        writer = Writer(Layout(self.compression, self.level), pickle_rest=self.pickle_rest)
        try:
            writer.write_root(file, value)
        except RecursionError as error:
            raise ResultError(
                "The value cannot be written as HDF5: it contains itself, or is nested too deeply."
            ) from error

    def _read(self, file: Any) -> Any:
        from hpc_flows.serializers.hdf5.reader import Reader  # noqa: PLC0415 - it loads h5py

        return Reader(pickles=self.pickle_rest).read_root(file)


def open_file(path: str) -> Any:
    """Open an HDF5 file for reading, without a lock, and return h5py's object.

    Raises:
        FileNotFoundError: it is not there.
        ResultError: it is no HDF5 file, or was cut.
    """
    h5py = _h5py()
    # Without a lock, unless this process has the file open already: then with its kind of lock.
    for locking in (False, None, True, "best-effort"):
        try:
            return h5py.File(os.fspath(path), "r", locking=locking)
        except FileNotFoundError:
            raise
        except OSError as error:
            problem = error
        if "flag values don't match" not in str(problem):
            break
    if problem.errno is not None:
        raise problem
    raise ResultError(f"{path} is no HDF5 file, or it was cut: {problem}.") from problem


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Let errors of the disk be errors of the disk: HDF5 says them in words only."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = re.search(r"errno = (\d+)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), path) from error


@contextmanager
def _closed(file: Any) -> Iterator[Any]:
    """Close a file, without hiding why it was not written: closing it then fails too."""
    try:
        yield file
    except BaseException:
        with suppress(OSError, RuntimeError):
            file.close()
        raise
    file.close()


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _h5py() -> Any:
    try:
        import h5py  # noqa: PLC0415 - 200 ms, and not everybody has it
    except ImportError as error:
        raise SettingsError(
            "Results in HDF5 need h5py: pip install 'hpc-flows[hdf5]' where the driver and the "
            "tasks run."
        ) from error
    return h5py
