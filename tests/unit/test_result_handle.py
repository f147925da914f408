"""Handles of results: what is asked for is read, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import pytest

from hpc_flows.exceptions import MissingResult, ResultError
from hpc_flows.results.handle import ResultHandle
from hpc_flows.serializers import Described, HDF5Serializer, PickleSerializer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Run:
    field: Any
    steps: int


VALUE = {
    "fields": {"t": Described(np.arange(20.0).reshape(4, 5), units="K"), "mask": None},
    "when": np.array(["2020-01-01", "2020-01-02"], "M8[D]"),
    "words": np.array(["a", "ü"]),
    "masked": np.ma.MaskedArray([1, 2, 3], [False, True, False]),
    "list": [np.arange(3), {"deep": np.arange(4)}],
    "table": pd.DataFrame({"x": [1.5, 2.5, 3.5], 3: [1, 2, 3]}),
    "run": Run(np.arange(5), 7),
    "a/b": np.arange(2),
    7: np.arange(3),
    "steps": 12,
    "name": "run",
}


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[ResultHandle]:
    path = str(tmp_path / "value.h5")
    HDF5Serializer().dump(VALUE, path)
    with ResultHandle(path, "hdf5") as opened:
        yield opened


def test_parts_are_found_by_the_names_that_the_task_gave(handle: ResultHandle) -> None:
    assert handle.keys() == list(VALUE)
    assert list(handle) == list(VALUE)
    assert len(handle) == len(VALUE)
    assert handle["steps"] == 12
    assert type(handle["steps"]) is int
    assert handle["name"] == "run"
    assert handle["fields/mask"] is None
    assert handle["a/b"][1] == 1
    assert handle[7][-1] == 2
    assert handle["list"][1]["deep"][1:3].tolist() == [1, 2]
    assert handle["list/0"][2] == 2
    assert handle["run/field"][2:].tolist() == [2, 3, 4]
    assert handle["run"]["steps"] == 7
    assert "fields/t" in handle
    assert "fields/u" not in handle


def test_slices_have_the_types_of_the_array(handle: ResultHandle) -> None:
    field = handle["fields/t"]
    assert field[1:3, ::2].tolist() == [[5, 7, 9], [10, 12, 14]]
    assert (field.shape, field.dtype, field.attrs) == ((4, 5), np.dtype(float), {"units": "K"})
    assert len(field) == 4
    assert [row[0] for row in field] == [0, 5, 10, 15]
    assert np.array_equal(np.asarray(field), VALUE["fields"]["t"].value)  # type: ignore[index]
    assert handle["when"][1] == np.datetime64("2020-01-02")
    assert handle["when"].dtype == np.dtype("M8[D]")
    assert handle["words"][:].tolist() == ["a", "ü"]
    assert handle["words"][1] == "ü"
    assert handle["masked"][1:].mask.tolist() == [True, False]
    assert handle["masked"].shape == (3,)


def test_tables_are_read_by_column(handle: ResultHandle) -> None:
    table = handle["table"]
    assert table.keys() == ["x", 3]
    assert table["x"][1:].tolist() == [2.5, 3.5]
    assert table[3][0] == 1
    pd.testing.assert_frame_equal(table.load(), VALUE["table"])


def test_all_of_it_can_be_loaded(handle: ResultHandle) -> None:
    assert handle.load()["fields"]["t"] == VALUE["fields"]["t"]  # type: ignore[index]
    assert handle["run"].load().steps == 7


def test_what_is_not_there_gets_the_close_match(handle: ResultHandle) -> None:
    with pytest.raises(KeyError, match="Did you mean 'fields'"):
        handle["field"]
    with pytest.raises(KeyError, match="'u' is not in /fields"):
        handle["fields"]["u"]
    with pytest.raises(ResultError, match="is a dict and cannot be sliced"):
        handle["fields"][1:2]
    with pytest.raises(ResultError, match="only arrays have shape"):
        len(handle["fields"].shape)


def test_a_single_array_is_its_own_handle(tmp_path: Path) -> None:
    path = str(tmp_path / "array.h5")
    HDF5Serializer().dump(Described(np.arange(10), units="m"), path)
    with ResultHandle(path) as handle:
        assert handle.shape == (10,)
        assert handle.dtype == np.dtype(int)
        assert handle.attrs == {"units": "m"}
        assert handle[2:4].tolist() == [2, 3]
        assert handle.keys() == []


def test_a_file_of_another_program_is_read_by_part(tmp_path: Path) -> None:
    path = str(tmp_path / "foreign.h5")
    with h5py.File(path, "w") as file:
        file["group/x"] = np.arange(5)
        file["group/x"].attrs["units"] = "s"
    with ResultHandle(path) as handle:
        assert handle["group/x"][1] == 1
        assert handle["group/x"].attrs == {"units": "s"}


def test_a_closed_handle_opens_again_and_its_old_parts_are_dead(handle: ResultHandle) -> None:
    field = handle["fields/t"]
    assert "not open" not in repr(handle)
    handle.close()
    handle.close()
    assert "not open" in repr(handle)
    with pytest.raises(ValueError, match="identifier"):
        field[0]
    assert handle["fields/t"][0, 1] == 1


def test_pickled_results_are_loaded_whole_and_not_sliced(tmp_path: Path) -> None:
    path = str(tmp_path / "value.pkl")
    PickleSerializer().dump([1, 2], path)
    handle = ResultHandle(path)
    assert handle.load() == [1, 2]
    with pytest.raises(ResultError, match=r"written as 'pickle'.*result_serializer='hdf5'"):
        handle[0]
    assert ResultHandle(path, "pickle", load=lambda: "checked").load() == "checked"


def test_a_missing_result_is_told(tmp_path: Path) -> None:
    for name in ("gone.h5", "gone.pkl"):
        with pytest.raises(MissingResult, match="Run the task again"):
            ResultHandle(tmp_path / name).load()
    with pytest.raises(MissingResult, match="Run the task again"):
        ResultHandle(tmp_path / "gone.h5").keys()


def test_a_slice_of_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    path = str(tmp_path / "large.h5")
    compressible, noise = np.arange(12_500_000.0), np.random.default_rng(1).random(12_500_000)
    HDF5Serializer(fsync=False).dump({"ramp": compressible, "noise": noise}, path)
    code = f"""
        import resource
        from hpc_flows.results.handle import ResultHandle
        with ResultHandle({path!r}) as handle:
            handle["ramp"][:10], handle["noise"][:10]
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert handle["ramp"][6_000_000:6_001_000].sum() > 0
            assert handle["noise"][9_000_000:9_001_000].sum() > 0
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20_000, "kilobytes beyond what h5py itself takes"
