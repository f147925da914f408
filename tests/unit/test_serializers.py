"""Serializers: what goes in comes out, and what cannot go in says what it is."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_flows import serializers
from hpc_flows.exceptions import ResultError, SettingsError
from hpc_flows.runs import TaskRun
from hpc_flows.serializers import (
    CompressedJSONSerializer,
    CompressedPickleSerializer,
    CompressedSerializer,
    JSONSerializer,
    PickleSerializer,
    Serializer,
    named,
    prefect_json_object_decoder,
    prefect_json_object_encoder,
    resolved,
    restored,
)
from hpc_flows.serializers.base import write_file
from hpc_flows.serializers.pickle import MAGIC, dump_parts, dumps, loads, part_sizes

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


STRICT = JSONSerializer(object_encoder=None, object_decoder=None)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, {2}]}, r"the value\['a'\]\[1\]"),
        ((1, 2), "the value"),
        ({"a": {1: 2}}, r"the key 1 of the value\['a'\]"),
        ([np.float64(3)], r"the value\[0\]"),
    ],
)
def test_json_without_encoder_refuses_what_would_not_come_back_equal_and_says_where(
    value: object, where: str
) -> None:
    with pytest.raises(ResultError, match=where):
        STRICT.dumps(value)
    assert_same(JSONSerializer().loads(JSONSerializer().dumps(value)), value)


def assert_same(again: object, value: object) -> None:
    assert again == value
    assert type(again) is type(value)


class Model(pydantic.BaseModel):
    x: int
    y: uuid.UUID


@dataclass
class Point:
    x: float
    when: dt.datetime


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [
        Model(x=1, y=uuid.UUID(int=7)),
        Point(1.5, dt.datetime(2026, 5, 4, tzinfo=dt.UTC)),
        dt.date(2026, 5, 4),
        dt.timedelta(hours=3),
        decimal.Decimal("1.10"),
        Path("/scratch/data"),
        Colour.RED,
        b"text",
        b"\xff\x00",
        {"a", "b"},
        frozenset({1}),
        1 + 2j,
        (1, (2, [3, ()])),
        {1: "one", None: (2,), ("a", 1): {}},
        {"__class__": "builtins.int", "data": 4},
        {"__exc_type__": "builtins.OSError"},
        np.float32(0.5),
        np.int64(2**40),
        np.datetime64("2026-01-02T03:04:05.678901234"),
        np.timedelta64(5, "h"),
        np.timedelta64(5, ("s", 25)),
        decimal.Decimal("-Infinity"),
    ],
    ids=str,
)
def test_json_brings_back_what_json_has_no_word_for(value: object) -> None:
    serializer = JSONSerializer()
    assert_same(serializer.loads(serializer.dumps({"in": [value]}))["in"][0], value)
    assert_same(serializer.loads(serializer.dumps(value)), value)


def test_json_brings_back_exceptions_but_never_calls_what_is_none() -> None:
    serializer = JSONSerializer()
    again = serializer.loads(serializer.dumps(ValueError("wrong")))
    assert_same(again.args, ("wrong",))
    assert isinstance(again, ValueError)
    for name in ("builtins.print", "os.system", "int", "no_such_module.Error"):
        with pytest.raises(ResultError, match="Invalid exception type"):
            serializer.loads(json.dumps({"__exc_type__": name, "message": "x"}).encode())


def test_json_calls_no_function_that_a_text_names(tmp_path: Path) -> None:
    for name in ("os.makedirs", "subprocess.getoutput", "numpy.save", "pathlib.Path.touch"):
        said = {"__class__": name, "data": [str(tmp_path / "made")]}
        assert JSONSerializer().loads(json.dumps(said).encode()) == said
    assert not (tmp_path / "made").exists()


class Measured(Point):
    """No dataclass itself: what makes it again knows nothing of `unit`."""

    def __init__(self, unit: str) -> None:
        super().__init__(1.0, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        self.unit = unit


@pytest.mark.parametrize(
    "value",
    [
        np.arange(3),
        np.array(5),
        np.zeros(2, "i4,f8")[0],
        threading.Lock(),
        [1, (2, threading.Lock())],
        collections.defaultdict(list),
        Measured("m"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_json_refuses_what_it_cannot_bring_back(value: object) -> None:
    with pytest.raises(ResultError, match="HDF5Serializer for arrays"):
        JSONSerializer().dumps(value)


def test_json_takes_an_encoder_a_decoder_and_keywords() -> None:
    serializer = JSONSerializer(
        object_encoder="builtins.repr", object_decoder="builtins.len", dumps_kwargs={"indent": 1}
    )
    assert serializer.dumps([Colour]) == b"[\n \"<enum 'Colour'>\"\n]"
    assert serializer.loads(b'[{"a": 1, "b": 2}]') == [2]
    for wrong in ({"dumps_kwargs": {"default": 1}}, {"loads_kwargs": {"object_hook": 1}}):
        with pytest.raises(ValueError, match=r"give (an )?`object_"):
            JSONSerializer(**wrong)


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


class Shouting(Serializer):
    type = "shouting"
    suffix = ".txt"
    options = ("mark",)

    def __init__(self, mark: str = "!") -> None:
        self.mark = mark

    def dumps(self, value: Any) -> bytes:
        return f"{value}{self.mark}".upper().encode()

    def loads(self, data: bytes) -> Any:
        return data.decode()


def test_a_serializer_of_ones_own_is_found_by_its_type_and_by_its_place() -> None:
    assert named("shouting").dumps("hi") == b"HI!"
    assert Serializer(type="shouting", mark="?").dumps("hi") == b"HI?"
    assert named(f"{__name__}:Shouting") == Shouting()
    with pytest.raises(SettingsError, match="cannot be imported"):
        named("no_such_package:Thing")
    with pytest.raises(SettingsError, match="no subclass"):
        named("collections:OrderedDict")


@pytest.mark.parametrize(
    "serializer",
    [
        PickleSerializer(),
        PickleSerializer(picklelib="pickle"),
        JSONSerializer(dumps_kwargs={"indent": 2}),
        CompressedSerializer("json", compressionlib="zlib"),
        named("compressed/pickle"),
        named("hdf5"),
        Shouting("?"),
    ],
    ids=repr,
)
def test_a_serializer_is_restored_from_its_description(serializer: Serializer) -> None:
    description = json.loads(json.dumps(serializer.model_dump()))
    assert restored(description) == serializer
    assert Serializer(**description) == serializer
    assert restored(description) != named("json")


def test_options_of_serializers_that_do_not_exist_are_refused() -> None:
    with pytest.raises(SettingsError, match="levl"):
        restored({"type": "pickle", "levl": 3})
    with pytest.raises(TypeError, match="levl"):
        PickleSerializer(levl=3)  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match="has the type 'pickle', not 'json'"):
        PickleSerializer(type="json")  # type: ignore[call-arg]
    with pytest.raises(SettingsError, match="not 3"):
        resolved(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["compressed/pickle", "compressed/json"])
@given(value=plain)
def test_compressed_values_come_back_equal(name: str, value: object) -> None:
    serializer = CompressedSerializer(named(name.split("/")[1]), compressionlib="zlib")
    assert serializer.loads(serializer.dumps(value)) == value
    assert named(name).loads(named(name).dumps(value)) == value


def test_compressed_serializers_name_the_one_inside() -> None:
    assert type(named("compressed/pickle")) is CompressedPickleSerializer
    assert CompressedPickleSerializer().serializer == PickleSerializer()
    assert CompressedJSONSerializer(compressionlib="bz2").serializer == JSONSerializer()
    assert CompressedSerializer({"type": "json"}).serializer == JSONSerializer()


def test_the_functions_of_the_json_serializer_serve_other_libraries_too() -> None:
    text = json.dumps({"at": uuid.UUID(int=7)}, default=prefect_json_object_encoder)
    found = json.loads(text, object_hook=prefect_json_object_decoder)
    assert found == {"at": uuid.UUID(int=7)}
    unknown = {"__class__": "no_such.Thing", "data": {}}
    assert prefect_json_object_decoder(unknown) == unknown


def test_compressed_bytes_are_smaller_and_of_the_library_that_was_asked_for() -> None:
    serializer = CompressedSerializer(serializer="json", compressionlib="zlib")
    data = serializer.dumps(["word"] * 1000)
    assert len(data) < 200
    assert json.loads(zlib.decompress(data)) == ["word"] * 1000
    with pytest.raises(ResultError, match="zlib cannot decompress"):
        serializer.loads(data[:-20])


def test_libraries_that_lack_what_is_needed_are_refused() -> None:
    with pytest.raises(ValueError, match="does not have a 'compress' method"):
        CompressedSerializer("pickle", compressionlib="json")
    with pytest.raises(ValueError, match="Failed to import requested pickle library: 'no_such'"):
        PickleSerializer(picklelib="no_such")
    with pytest.raises(ValueError, match="name of a module"):
        PickleSerializer(picklelib=pickle)  # type: ignore[arg-type]


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


def test_runs_of_a_script_are_pickled_without_cloudpickle_and_its_functions_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each call of a process pool sends its run, which has the task's key, `__main__:add`."""
    asked: list[object] = []

    def thorough(value: object, **_: object) -> bytes:
        asked.append(value)
        return b""

    monkeypatch.setattr("cloudpickle.dumps", thorough)
    run = TaskRun("add", "__main__:add")
    assert pickle.loads(dump_parts((run, (1,), {}))[0])[0].task_key == "__main__:add"  # noqa: S301 - our own
    assert asked == []

    def add() -> None: ...

    add.__module__, add.__qualname__ = "__main__", "add"
    monkeypatch.setattr(sys.modules["__main__"], "add", add, raising=False)
    dump_parts((run, add))
    assert asked == [(run, add)]
