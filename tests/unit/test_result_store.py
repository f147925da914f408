"""Results that are kept for other runs: records, data, keys, serializers and locks."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hpc_flows import flow, task
from hpc_flows.exceptions import ForeignRecord, MissingResult, ResultError, TransactionError
from hpc_flows.locking import FileSystemLockManager, MemoryLockManager
from hpc_flows.locking.names import safe_name
from hpc_flows.results import (
    ResultRecord,
    ResultRecordMetadata,
    ResultStore,
    get_result_store,
)
from hpc_flows.results.signature import user_key
from hpc_flows.serializers import HDF5Serializer, JSONSerializer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def store(folder: Path) -> ResultStore:
    return ResultStore(folder)


def test_what_is_written_is_read_and_known_to_exist(store: ResultStore) -> None:
    store.write({"a": [1, (2, 3)]}, "key")
    assert store.exists("key")
    assert not store.exists("other")
    assert store.read("key").result == {"a": [1, (2, 3)]}
    with pytest.raises(MissingResult, match="'other'"):
        store.read("other")


def test_small_results_lie_inside_of_their_record_and_large_ones_beside_it(
    store: ResultStore, folder: Path
) -> None:
    store.write("small", "one")
    store.write(np.arange(10_000), "two")
    assert sorted(os.listdir(folder)) == ["one", "two", "two.pkl"]
    record = json.loads((folder / "two").read_text())
    assert record["file"] == "two.pkl"
    assert record["size"] == (folder / "two.pkl").stat().st_size
    assert store.read("two").result.sum() == sum(range(10_000))


def test_json_stays_readable_in_the_record(folder: Path) -> None:
    ResultStore(folder, serializer="json").write({"rate": 0.5}, "key")
    assert json.loads((folder / "key").read_text())["text"] == '{"rate": 0.5}'


def test_hdf5_stays_a_file_that_other_programs_open(folder: Path) -> None:
    h5py = pytest.importorskip("h5py")
    one = ResultStore(folder, serializer="hdf5")
    one.write({"t": np.arange(5.0)}, "runs/1")
    with h5py.File(folder / "runs" / "1.h5") as file:
        assert file["t"][2] == 2.0
    assert list(one.read("runs/1").result["t"]) == [0, 1, 2, 3, 4]
    assert one.read("runs/1").handle()["t"][1:3].tolist() == [1.0, 2.0]


def test_a_key_with_the_ending_of_a_data_file_names_that_file(folder: Path) -> None:
    one = ResultStore(folder, serializer=HDF5Serializer())
    one.write({"t": np.arange(3)}, "field.h5")
    assert sorted(os.listdir(folder)) == ["field.h5", "field.h5.record"]
    assert one.exists("field.h5")
    assert one.read("field.h5").result["t"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "key", ["a/b/c", "../../etc/passwd", "/abs", ".hidden", "a b;rm *", "ü" * 300, "a//b", ".."]
)
def test_no_key_leads_out_of_the_folder(store: ResultStore, folder: Path, key: str) -> None:
    store.write(key, key)
    assert store.read(key).result == key
    found = [path for path in folder.parent.rglob("*") if path.is_file()]
    inside = [path for path in found if path.is_relative_to(folder)]
    assert len(inside) == 1
    assert {path.name for path in found} - {inside[0].name} == {"key"}


def test_different_keys_have_different_names() -> None:
    keys = ["a/b", "a%2Fb", "a b", "a%20b", "..", "%2E%2E", "", "%", "x" * 200, "x" * 201, "a//b"]
    assert len({safe_name(key) for key in keys}) == len(keys)


def test_a_record_that_has_expired_is_there_no_more(store: ResultStore) -> None:
    store.write(1, "gone", datetime.now(UTC) - timedelta(seconds=1))
    store.write(2, "there", datetime.now(UTC) + timedelta(hours=1))
    assert [store.exists(key) for key in ("gone", "there")] == [False, True]
    record, why = store.find("gone")
    assert record is None
    assert "expired" in str(why)


def test_records_can_lie_apart_from_their_data(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results", tmp_path / "metadata")
    store.write("value", "key")
    record = store.read("key")
    assert record.result == "value"
    assert isinstance(record.metadata, ResultRecordMetadata)
    assert record.metadata.storage_key == "key"
    assert store.serializer.loads((tmp_path / "results" / "key").read_bytes()) == "value"
    assert (tmp_path / "metadata" / "key").read_text() == record.metadata.model_dump_json()
    (tmp_path / "metadata" / "key").unlink()
    assert not store.exists("key")


def test_any_object_with_two_methods_is_a_storage() -> None:
    class Bucket:
        def __init__(self) -> None:
            self.held: dict[str, bytes] = {}

        def write_path(self, path: str, content: bytes) -> None:
            self.held[path] = content

        async def read_path(self, path: str) -> bytes:
            return self.held[path]

    bucket = Bucket()
    store = ResultStore(bucket)
    store.write(bytes(10_000), "big")
    assert sorted(bucket.held) == ["big", "big.pkl"]
    assert store.read("big").result == bytes(10_000)
    assert not store.exists("other")
    bucket.held["big.pkl"] = b"x" + bucket.held["big.pkl"][1:]
    with pytest.raises(ForeignRecord):
        _ = store.read("big").result


def test_what_cannot_hold_results_is_refused() -> None:
    with pytest.raises(ResultError, match="read_path"):
        ResultStore(3).write(1, "key")


def test_an_old_result_of_another_serializer_leaves_no_file_behind(folder: Path) -> None:
    ResultStore(folder).write(np.arange(10_000), "key")
    ResultStore(folder, serializer="json").write("x" * 10_000, "key")
    assert sorted(os.listdir(folder)) == ["key", "key.json"]
    assert ResultStore(folder).read("key").result == "x" * 10_000


def test_a_record_travels_without_its_value(store: ResultStore) -> None:
    store.write(bytes(100_000), "key")
    data = pickle.dumps(store.read("key"))
    assert len(data) < 2000
    assert pickle.loads(data).result == bytes(100_000)  # noqa: S301 - what is tested


def test_a_record_can_be_read_from_its_file_alone(store: ResultStore, folder: Path) -> None:
    store.write(bytes(100_000), "key")
    assert ResultRecord.deserialize((folder / "key").read_bytes()).result == bytes(100_000)
    whole = store.read("key").serialize()
    (folder / "key.pkl").unlink()
    assert ResultRecord.deserialize(whole).result == bytes(100_000)


def test_a_store_is_what_task_and_flow_ask_for(tmp_path: Path) -> None:
    seen = {}

    @task(result_storage=tmp_path / "task", result_serializer="json")
    def inner() -> None:
        seen["task"] = get_result_store()

    @flow(result_storage=str(tmp_path / "flow"), persist_result=True)
    def outer() -> None:
        seen["flow"] = get_result_store()
        inner()

    outer()
    assert str(seen["flow"].place) == str(tmp_path / "flow")
    assert str(seen["task"].place) == str(tmp_path / "task")
    assert isinstance(seen["task"].serializer, JSONSerializer)


def test_the_setting_says_where_results_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_FLOWS_RESULTS_STORAGE", str(tmp_path / "scratch"))
    ResultStore().write(1, "key")
    assert (tmp_path / "scratch" / "key").exists()


def test_who_does_not_hold_the_lock_cannot_write(folder: Path) -> None:
    store = ResultStore(folder, lock_manager=FileSystemLockManager(folder / "locks"))
    assert store.acquire_lock("key", "one")
    with pytest.raises(TransactionError, match="locked by another holder"):
        store.write(1, "key", holder="two")
    store.write(1, "key", holder="one")
    store.release_lock("key", "one")
    store.write(2, "key", holder="two")
    assert store.read("key").result == 2


def test_without_a_lock_manager_there_are_no_locks(store: ResultStore) -> None:
    assert store.supports_isolation_level("READ_COMMITTED")
    assert not store.supports_isolation_level("SERIALIZABLE")
    with pytest.raises(TransactionError, match="FileSystemLockManager"):
        store.acquire_lock("key")
    assert ResultStore(lock_manager=MemoryLockManager()).supports_isolation_level("SERIALIZABLE")


def test_every_method_has_a_form_for_async_code(store: ResultStore) -> None:
    async def use() -> Any:
        await store.awrite({"x": 1}, "key")
        assert await store.aexists("key")
        return (await store.aread("key")).result

    assert asyncio.run(use()) == {"x": 1}


def test_the_key_of_the_user_is_made_once_by_many(home: Path) -> None:
    code = "from hpc_flows.results.signature import user_key; import os; "
    code += "print(user_key(os.environ['HPC_FLOWS_HOME']).hex())"
    many = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert {one.communicate(timeout=60)[0].strip() for one in many} == {user_key(str(home)).hex()}
    assert (home / "key").stat().st_mode & 0o777 == 0o600
    assert os.listdir(home) == ["key"]
