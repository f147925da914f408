"""Cache policies: their keys, their algebra, and FILES."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import hashlib
import os
import pathlib
import subprocess
import sys
import threading
import time
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic
import pytest

from hpc_flows import task
from hpc_flows.cache_policies import (
    DEFAULT,
    FILES,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    NONE,
    RUN_ID,
    STABLE_TRANSFORMS,
    TASK_SOURCE,
    CacheKeyFnPolicy,
    CachePolicy,
    CompoundCachePolicy,
    Files,
    FlowParameters,
    Inputs,
    RunId,
    TaskSource,
    files,
    hash_objects,
    policy_of,
    source_of,
    stable_hash,
    task_input_hash,
)
from hpc_flows.exceptions import HashError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def key_of(policy: CachePolicy, **inputs: Any) -> str | None:
    return policy.compute_key(task_ctx=None, inputs=inputs, flow_parameters=None)


# Hashing ------------------------------------------------------------------------------------------


class Model(pydantic.BaseModel):
    name: str
    values: list[int] = []


@dataclasses.dataclass
class Point:
    x: int
    labels: set[str]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Plain:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def adder(amount: int) -> Callable[[int], int]:
    return lambda value: value + amount


MAKERS: dict[str, Callable[[int], Any]] = {
    "dict": lambda n: {"b": {1, "x", n}, "a": [n]},
    "dataclass": lambda n: Point(n, {"a", "b", "c"}),
    "model": lambda n: Model(name="x", values=[n]),
    "array": lambda n: np.full((3, 2), n),
    "array of objects": lambda n: np.array([{"n": n}, {"x", "y"}], dtype=object),
    "structured array": lambda n: np.array([(n, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "numpy number": np.float32,
    "closure": adder,
    "partial": lambda n: functools.partial(max, n),
    "object": lambda n: Plain(value={n, "a"}, other=None),
    "path": lambda n: pathlib.Path(f"/data/{n}"),
    "moment": lambda n: dt.datetime(2020, 1, n + 1, tzinfo=dt.UTC),
    "decimal": lambda n: decimal.Decimal(n) / 3,
    "uuid": lambda n: uuid.UUID(int=n),
    "enum": lambda n: list(Colour)[n % 2],
    "counter": lambda n: collections.Counter({"a": n, "b": 2}),
    "ordered": lambda n: collections.OrderedDict(a=n, b=2),
    "bytes": lambda n: bytes([n]),
    "complex": lambda n: complex(n, 1),
    "exception": ValueError,
    "generator of random numbers": np.random.default_rng,
}


@pytest.mark.parametrize("name", MAKERS)
def test_equal_values_have_one_hash_and_others_another(name: str) -> None:
    make = MAKERS[name]
    assert hash_objects(make(1)) == hash_objects(make(1))
    assert hash_objects(make(1)) != hash_objects(make(2))


def test_data_frames_are_hashed_by_content() -> None:
    pandas = pytest.importorskip("pandas")
    one = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    two = pandas.DataFrame({"b": ["x", "y"], "a": [1, 2]})
    assert hash_objects(one) == hash_objects(two[["a", "b"]])
    assert hash_objects(one) != hash_objects(two)  # another result of one.iloc[:, 0]
    assert hash_objects(one) != hash_objects(one.assign(a=[1, 3]))
    assert hash_objects(one["a"]) == hash_objects(one["a"].copy())


def test_types_count() -> None:
    values = [1, 1.0, True, "1", b"1", [1], (1,), {1}, np.int64(1), np.int32(1), None, {1: 1}]
    assert len({hash_objects(value) for value in values}) == len(values)


def test_hashes_are_the_same_in_every_session() -> None:
    code = (
        "from hpc_flows.cache_policies import hash_objects\n"
        "def f(x, y={'q', 'r'}): return x in {'a', 'b', 'c'}\n"
        "class C:\n    def __init__(self): self.names = {'x', 'y', 'z'}\n"
        "class Names(set): pass\n"
        "own = Names(['a', 'b', 'c', 'd', 'e'])\n"
        "values = {'a': {'x', 'y', (1, 2)}, 'f': f, 'c': C()}\n"
        "print(*[hash_objects(each, raise_on_failure=True) for each in (values, C, own)])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


def test_values_that_hold_themselves_end() -> None:
    one: list[Any] = [1]
    one.append(one)
    two: list[Any] = [1]
    two.append(two)
    assert hash_objects(one) == hash_objects(two)


def test_what_cannot_be_hashed_is_named_with_what_to_do() -> None:
    with pytest.raises(HashError) as caught:
        key_of(INPUTS, good=1, bad=[threading.Lock()])
    assert "'bad'" in str(caught.value)
    assert 'INPUTS - "bad"' in str(caught.value)
    assert "NO_CACHE" in str(caught.value)
    assert hash_objects(threading.Lock()) is None
    assert key_of(INPUTS - "bad", good=1, bad=threading.Lock()) == key_of(INPUTS, good=1)


# Policies -----------------------------------------------------------------------------------------


def test_keys_change_with_what_a_policy_looks_at() -> None:
    context = SimpleNamespace(task_run=SimpleNamespace(flow_run_id="f", id="t"))
    assert key_of(INPUTS, x=1) == key_of(INPUTS, x=1)
    assert key_of(INPUTS, x=1) != key_of(INPUTS, x=2)
    assert key_of(INPUTS, x=1) != key_of(INPUTS, y=1)
    assert RUN_ID.compute_key(task_ctx=context, inputs={}, flow_parameters={}) == "f"
    one, two = (
        FLOW_PARAMETERS.compute_key(task_ctx=None, inputs={}, flow_parameters={"p": p})
        for p in (1, 2)
    )
    assert one != two
    assert key_of(NO_CACHE, x=1) is key_of(NONE, x=1) is None


def test_source_counts_and_comments_elsewhere_do_not() -> None:
    @task
    def one() -> int:
        return 1

    @task
    def two() -> int:
        return 2

    keys = [
        TASK_SOURCE.compute_key(task_ctx=SimpleNamespace(task=each), inputs={}, flow_parameters={})
        for each in (one, one, two)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_policies_are_added_and_inputs_taken_out() -> None:
    both = INPUTS + TASK_SOURCE
    assert isinstance(both, CompoundCachePolicy)
    assert key_of(both - "debug", x=1, debug=1) == key_of(both - "debug", x=1, debug=2)
    assert RUN_ID - "x" is RUN_ID
    assert INPUTS + NO_CACHE is INPUTS
    assert NO_CACHE + INPUTS is INPUTS
    assert DEFAULT == INPUTS + TASK_SOURCE + RUN_ID
    merged = CompoundCachePolicy([Inputs(["x"]), TaskSource(), Inputs(["y"])]) - "z"
    assert isinstance(merged, CompoundCachePolicy)
    assert [p.exclude for p in merged.policies if isinstance(p, Inputs)] == [["x", "y", "z"]]
    with pytest.raises(ParameterError):
        INPUTS - 3  # type: ignore[operator]


def test_a_policy_is_configured_as_a_copy() -> None:
    made = INPUTS.configure(key_storage="/keys", isolation_level="SERIALIZABLE")
    assert (INPUTS.key_storage, made.key_storage) == (None, "/keys")
    assert INPUTS.configure() == INPUTS
    assert (TASK_SOURCE + made).key_storage == "/keys"
    with pytest.raises(ValueError, match="storage locations"):
        made + TASK_SOURCE.configure(key_storage="/others")
    with pytest.raises(ParameterError, match="SERIALIZABLE"):
        INPUTS.configure(isolation_level="SERIALISABLE")


def test_a_function_of_the_users_is_a_policy() -> None:
    policy = CachePolicy.from_cache_key_fn(lambda context, parameters: f"{context}-{parameters}")
    assert policy.compute_key(task_ctx="c", inputs={"x": 1}, flow_parameters=None) == "c-{'x': 1}"


def test_the_hash_of_inputs_depends_on_the_task_and_its_code() -> None:
    @task
    def one(x: int) -> int:
        return x

    @task
    def two(x: int) -> int:
        return x

    keys = [
        task_input_hash(SimpleNamespace(task=each), {"x": x})
        for each, x in ((one, 1), (one, 1), (one, 2), (two, 1))
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_the_classes_behind_the_names() -> None:
    made = CachePolicy.from_cache_key_fn(lambda *_: "k")
    assert isinstance(made, CacheKeyFnPolicy)
    assert isinstance(RUN_ID, RunId)
    assert isinstance(FLOW_PARAMETERS, FlowParameters)
    assert isinstance(FILES, Files)


def test_inputs_can_be_changed_before_they_are_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STABLE_TRANSFORMS, Plain, lambda value: value.name)
    one, two = Plain(name="same", noise=1), Plain(name="same", noise=2)
    assert key_of(INPUTS, x=one) == key_of(INPUTS, x=two)


def test_the_policy_of_a_task_follows_its_options() -> None:
    def fn() -> None:
        return

    assert task(fn).cache_policy == DEFAULT
    assert task(cache_policy=TASK_SOURCE)(fn).cache_policy is TASK_SOURCE
    assert task(cache_policy=INPUTS, persist_result=False)(fn).cache_policy == NO_CACHE
    assert task(result_storage_key="key")(fn).cache_policy is None
    both = task(cache_policy=INPUTS, cache_key_fn=lambda *_: "k")(fn)
    assert isinstance(both.cache_policy, CacheKeyFnPolicy)
    assert policy_of(both, {"cache_policy": INPUTS}) == both.cache_policy


def test_code_without_source_has_a_key() -> None:
    space: dict[str, Any] = {}
    exec("def one(): return 1\ndef two(): return 2", space)  # noqa: S102 - what is tested
    one, two = (source_of(SimpleNamespace(fn=space[name])) for name in ("one", "two"))
    assert one != two
    assert one == source_of(SimpleNamespace(fn=space["one"]))


def test_texts_and_bytes_have_a_hash_with_the_algorithm_that_is_wanted() -> None:
    assert stable_hash("a", b"b") == stable_hash("ab")
    assert stable_hash("a", hash_algo=hashlib.sha256) == hashlib.sha256(b"a").hexdigest()
    assert len(str(hash_objects(1, hash_algo=hashlib.sha256))) == 64


# FILES --------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_text("one")
    return path


def make_old(path: Path, seconds: float = 1000.0) -> None:
    """Give a file times that lie in the past, both, as far as programs can."""
    when = path.stat().st_mtime - seconds
    os.utime(path, (when, when))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which files are read, and take all changes for old ones."""
    found: list[str] = []
    real = files._read

    def read(path: str) -> Any:
        found.append(path)
        return real(path)

    monkeypatch.setattr(files, "_read", read)
    return found


def test_files_count_by_content_not_by_name(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "copy.txt"
    other.write_text("one")
    before = key_of(FILES, path=data)
    assert before == key_of(FILES, path=other)
    data.write_text("two")
    assert key_of(FILES, path=data) != before


def test_a_change_within_the_same_moment_is_seen(data: Path) -> None:
    status = data.stat()
    before = key_of(FILES, path=data)
    data.write_text("two")
    os.utime(data, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert data.stat().st_mtime_ns == status.st_mtime_ns
    assert key_of(FILES, path=data) != before


def test_a_file_that_was_written_just_now_is_read_each_time(data: Path, reads: list[str]) -> None:
    key_of(FILES, path=data)
    key_of(FILES, path=data)
    assert len(reads) == 2


def test_a_file_that_has_not_changed_for_long_is_read_once(
    data: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time() + 3600
    monkeypatch.setattr("hpc_flows.cache_policies.files.time.time", lambda: later)
    first = key_of(FILES, path=data)
    assert key_of(FILES, path=data) == first
    assert len(reads) == 1
    make_old(data, 5)
    assert key_of(FILES, path=data) == first
    assert len(reads) == 2


def test_a_memory_that_was_cut_is_made_anew(
    data: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time() + 3600
    monkeypatch.setattr("hpc_flows.cache_policies.files.time.time", lambda: later)
    first = key_of(FILES, path=data)
    (memory,) = home.glob("hashes/*/*.json")
    memory.write_text(memory.read_text()[:20])
    assert key_of(FILES, path=data) == first


def test_folders_count_with_all_that_is_in_them(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a").write_text("x")
    first = key_of(FILES, path=folder)
    assert key_of(FILES, path=folder) == first
    (folder / "inner" / "b").write_text("y")
    second = key_of(FILES, path=folder)
    (folder / "inner" / "b").rename(folder / "inner" / "c")
    assert len({first, second, key_of(FILES, path=folder)}) == 3


def test_texts_are_paths_only_where_that_is_said(data: Path) -> None:
    assert key_of(FILES, path="no file", factor=2, word="none\0such") is None
    with pytest.raises(HashError, match=r"'path' is a text that names a file.*FILES\('path'\)"):
        key_of(FILES, path=str(data), factor=2)
    before = key_of(FILES("path"), path=str(data))
    data.write_text("two")
    assert key_of(FILES("path"), path=str(data)) != before
    with pytest.raises(HashError, match="Did you mean 'path'"):
        key_of(FILES("pat"), path=str(data))


def test_paths_in_lists_and_dicts_count(data: Path) -> None:
    before = key_of(FILES, many={"a": [data]})
    data.write_text("two")
    assert key_of(FILES, many={"a": [data]}) != before


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HashError, match=r"input 'mesh' is not there: .*none\.msh"):
        key_of(FILES, mesh=tmp_path / "none.msh")
