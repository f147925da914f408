"""Files of HDF5: how they lie on the disk, what becomes of half-written ones, who reads them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from hpc_flows.exceptions import ResultError, SettingsError
from hpc_flows.serializers import Described, HDF5Serializer

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = HDF5Serializer()


def test_other_programs_see_arrays_groups_and_attributes(tmp_path: Path) -> None:
    path = str(tmp_path / "value.h5")
    times = np.array(["2020-01-01", "2020-01-02"], "M8[D]")
    PLAIN.dump({"grid": {"x": np.arange(4.0)}, "steps": 7, "name": "run ü", "when": times}, path)
    with h5py.File(path) as file:
        assert list(file["grid/x"]) == [0, 1, 2, 3]
        assert file.attrs["steps"] == 7
        assert file.attrs["name"] == "run ü"
        assert file["when"].attrs["hpc_flows_units"] == "days since 1970-01-01"
        assert "hpc_flows" not in file["grid/x"].attrs


def test_files_of_other_programs_are_read(tmp_path: Path) -> None:
    path = str(tmp_path / "foreign.h5")
    with h5py.File(path, "w") as file:
        file["a/b"] = np.arange(3)
        file["a/b"].attrs["units"] = "m"
        file["texts"] = ["x", "y"]
        file.attrs["title"] = "theirs"
        file["a/b"].make_scale("b")
    found = PLAIN.load(path)
    assert found["title"] == "theirs"
    assert found["a"]["b"] == Described(np.arange(3), units="m")
    assert found["texts"].tolist() == ["x", "y"]


def test_compression_is_chosen_by_what_it_brings(tmp_path: Path) -> None:
    path = str(tmp_path / "sizes.h5")
    random = np.random.default_rng(1).random(400_000)
    PLAIN.dump({"noise": random, "ramp": np.arange(400_000), "small": np.zeros(1000)}, path)
    with h5py.File(path) as file:
        assert file["noise"].chunks is None
        assert file["ramp"].compression == "gzip"
        assert file["ramp"].shuffle
        assert file["ramp"].id.get_storage_size() < 400_000
        assert file["small"].chunks is None
    always = HDF5Serializer(compression="gzip", level=9)
    never = HDF5Serializer(compression=None)
    for serializer, expected in ((always, "gzip"), (never, None)):
        serializer.dump({"ramp": np.arange(400_000)}, path)
        with h5py.File(path) as file:
            assert file["ramp"].compression == expected
        assert np.array_equal(serializer.load(path)["ramp"], np.arange(400_000))


def test_chunks_are_whole_rows_of_about_a_mebibyte(tmp_path: Path) -> None:
    path = str(tmp_path / "chunks.h5")
    PLAIN.dump({"wide": np.zeros((3, 5, 1_000_000), "i1"), "tall": np.zeros((500_000, 3))}, path)
    with h5py.File(path) as file:
        assert file["wide"].chunks == (1, 1, 1_000_000)
        assert file["tall"].chunks == (43690, 3)


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(SettingsError, match="'auto', 'gzip' or None, not 'lzf'"):
        HDF5Serializer(compression="lzf")
    with pytest.raises(SettingsError, match=r"1 \(quick\) to 9"):
        HDF5Serializer(level=0)


@pytest.mark.parametrize("data", [b"", b"not HDF5", PLAIN.dumps(np.arange(1000))[:3000]])
def test_what_is_no_file_of_hdf5_is_told(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no HDF5 file"):
        PLAIN.loads(data)
    (tmp_path / "x.h5").write_bytes(data)
    with pytest.raises(ResultError, match=r"x\.h5 is no HDF5 file, or it was cut"):
        PLAIN.load(str(tmp_path / "x.h5"))
    with pytest.raises(FileNotFoundError):
        PLAIN.load(str(tmp_path / "missing.h5"))


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "later.h5"
    PLAIN.dump([1], str(path))
    with h5py.File(path, "a") as file:
        file.attrs["hpc_flows_hdf5"] = 2
    with pytest.raises(ResultError, match="version 2 of the form, this hpc_flows knows 1"):
        PLAIN.load(str(path))


def test_a_file_is_written_once_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "value.h5"
    PLAIN.dump({"x": 1}, str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    with pytest.raises(ResultError):
        PLAIN.dump({"x": np.ones(3), "y": object()}, str(path))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["value.h5"]


def test_a_full_disk_is_an_error_of_the_disk_and_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
        import resource, numpy as np
        from hpc_flows.serializers import HDF5Serializer
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, resource.RLIM_INFINITY))
        for value in (np.ones(2_000_000), [np.ones(90_000)] * 20):
            try:
                HDF5Serializer(compression=None).dump(value, {str(tmp_path / "x.h5")!r})
            except OSError as error:
                print(error.errno, error.filename)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"27 {tmp_path}/x.h5\n" * 2, done.stderr
    assert os.listdir(tmp_path) == []


def test_a_writer_that_is_killed_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "value.h5"
    PLAIN.dump([1], str(path))
    code = f"""
        import numpy as np
        from hpc_flows.serializers import HDF5Serializer
        value = np.random.default_rng(1).random(20_000_000)
        print("ready", flush=True)
        HDF5Serializer(compression=None).dump({{"x": value, "y": value, "z": value}}, {str(path)!r})
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        while writer.poll() is None and len(os.listdir(tmp_path)) < 2:
            time.sleep(0.001)
        writer.kill()
    assert PLAIN.load(str(path)) == [1] or writer.returncode == 0


def test_files_are_read_and_written_where_locks_do_not_work(tmp_path: Path) -> None:
    path = str(tmp_path / "locked.h5")
    PLAIN.dump([1], path)
    with open(path, "rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="unable to lock file"):
            h5py.File(path, locking=True)
        assert PLAIN.load(path) == [1]
        PLAIN.dump([2], path)
    assert PLAIN.load(path) == [2]


def test_a_file_can_be_read_while_the_same_process_has_it_open_with_h5py(tmp_path: Path) -> None:
    path = str(tmp_path / "open.h5")
    PLAIN.dump([1], path)
    with h5py.File(path, locking=True):
        assert PLAIN.load(path) == [1]


def test_without_h5py_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SettingsError, match=r"pip install 'hpc-flows\[hdf5\]'"):
        PLAIN.dumps([1])
