"""Serializers: what goes in comes out, and what cannot go in says what it is."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_flows import serializers
from hpc_flows.exceptions import ResultError, SettingsError
from hpc_flows.serializers import JSONSerializer, PickleSerializer, Serializer, named
from hpc_flows.serializers.base import write_file
from hpc_flows.serializers.pickle import MAGIC, dump_parts, dumps, loads, part_sizes

if TYPE_CHECKING:
    from pathlib import Path

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("serializer", [PickleSerializer(), JSONSerializer()])
@given(value=plain)
def test_plain_values_come_back_equal(serializer: Serializer, value: object) -> None:
    assert serializer.loads(serializer.dumps(value)) == value


@pytest.mark.parametrize("serializer", [PickleSerializer(), JSONSerializer()])
def test_a_value_comes_back_from_a_file(serializer: Serializer, tmp_path: Path) -> None:
    path = str(tmp_path / f"value{serializer.suffix}")
    serializer.dump({"a": [1, 2.5, "x"]}, path)
    assert serializer.load(path) == {"a": [1, 2.5, "x"]}


def test_small_values_are_plain_pickles() -> None:
    assert pickle.loads(dumps({"a": 1})) == {"a": 1}  # noqa: S301 - our own bytes


def test_large_arrays_are_not_copied_into_the_pickle() -> None:
    array = np.arange(100_000, dtype=float)
    parts = dump_parts({"array": array, "small": np.arange(3)})
    assert len(parts) == 2
    assert len(parts[0]) < 2000
    assert np.shares_memory(np.frombuffer(parts[1], dtype=float), array)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(50_000.0),
        np.asfortranarray(np.arange(60_000.0).reshape(200, 300)),
        np.arange(100_000.0)[::3],
        np.zeros((0, 5)),
        np.array(["a", None], dtype=object),
    ],
    ids=["plain", "fortran", "strided", "empty", "objects"],
)
def test_arrays_of_every_layout_come_back_writable(array: Any) -> None:
    again = loads(dumps(array))
    assert np.array_equal(again, array)
    assert again.dtype == array.dtype
    assert again.flags.writeable


def test_several_arrays_keep_their_own_memory() -> None:
    first, second = loads(dumps([np.ones(50_000), np.zeros(50_000)]))
    assert first.base is not second.base
    first[0] = 7
    assert second[0] == 0


def test_lambdas_and_closures_come_back() -> None:
    step = 3
    assert loads(dumps(lambda value: value + step))(4) == 7


def test_what_main_defines_can_be_loaded_by_another_main(tmp_path: Path) -> None:
    maker = textwrap.dedent(
        """
        import sys
        from hpc_flows.serializers.pickle import dumps
        class Point:
            def __init__(self, x): self.x = x
        sys.stdout.buffer.write(dumps({"points": [Point(4)]}))
        """
    )
    script = tmp_path / "maker.py"
    script.write_text(maker)
    made = subprocess.run([sys.executable, script], capture_output=True, check=True)
    (point,) = loads(made.stdout)["points"]
    assert (type(point).__name__, point.x) == ("Point", 4)


def test_what_cannot_be_pickled_is_named() -> None:
    with pytest.raises(ResultError, match=r"'list'.*lock.*return its path"):
        PickleSerializer().dumps([threading.Lock()])


def test_what_cannot_be_unpickled_says_what_is_missing() -> None:
    with pytest.raises(ResultError, match="no_such_module"):
        PickleSerializer().loads(b"cno_such_module\nthing\n.")


@pytest.mark.parametrize(
    "data", [MAGIC, MAGIC + b"\xff" * 8, MAGIC + (3).to_bytes(8, "little") + b"\1" * 10]
)
def test_a_damaged_header_is_an_error_and_not_an_allocation(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"parts|header"):
        part_sizes(data)
    with pytest.raises(ResultError):
        PickleSerializer().loads(data)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, {2}]}, r"the value\['a'\]\[1\]"),
        ((1, 2), "the value"),
        ({"a": {1: 2}}, r"the key 1 of the value\['a'\]"),
        ([np.float64(3)], r"the value\[0\]"),
    ],
)
def test_json_refuses_what_would_not_come_back_equal_and_says_where(
    value: object, where: str
) -> None:
    with pytest.raises(ResultError, match=where):
        JSONSerializer().dumps(value)


def test_what_is_not_json_is_told() -> None:
    with pytest.raises(ResultError, match="not JSON"):
        JSONSerializer().loads(b"{")


def test_serializers_are_found_by_name_with_a_close_match_for_typos() -> None:
    assert isinstance(named("pickle"), PickleSerializer)
    assert isinstance(named("json"), JSONSerializer)
    with pytest.raises(SettingsError, match=r"Did you mean 'pickle'\?"):
        named("pickel")
    with pytest.raises(AttributeError, match="YAMLSerializer"):
        serializers.YAMLSerializer  # noqa: B018 - the look-up is what is tested


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "value"
    write_file(str(path), [b"old"])

    def parts() -> Any:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(str(path), parts())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["value"]
    write_file(str(path), [b"n", memoryview(b"ew")])
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
