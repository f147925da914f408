"""Kept results when things go wrong: killed holders, full disks, torn, foreign and purged files."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from cache_drivers import Driver, wait_for

from hpc_flows import flow, task
from hpc_flows.exceptions import ResultError
from hpc_flows.journal.reader import read_run
from hpc_flows.results import ResultStore
from hpc_flows.serializers import base

if TYPE_CHECKING:
    from pathlib import Path

    from hpc_flows.journal.event import Event
    from hpc_flows.states import State


def counting(calls: list[int], **options: Any) -> Any:
    """Return a task whose result is kept, and that notes each time it is computed."""

    @task(cache_key_fn=lambda _, parameters: f"key-{parameters['size']}", **options)
    def compute(size: int) -> bytes:
        calls.append(size)
        return bytes(size)

    return compute


def twice(compute: Any, size: int) -> tuple[State, State]:
    @flow
    def run() -> tuple[State, State]:
        return compute(size, return_state=True), compute(size, return_state=True)

    first, second = run(return_state=True).result(raise_on_failure=False)
    return first, second


def test_two_drivers_that_hit_one_key_compute_once(tmp_path: Path) -> None:
    with Driver(tmp_path) as one:
        wait_for(one.has_begun)
        with Driver(tmp_path) as two:
            wait_for(two.waits)
            (tmp_path / "go").touch()
            assert one.answer() == f"Completed {one.pid}"
            assert two.answer() == f"Cached {one.pid}"
            assert not two.has_begun()


def test_a_holder_that_is_killed_frees_its_lock(tmp_path: Path) -> None:
    with Driver(tmp_path) as one:
        wait_for(one.has_begun)
        with Driver(tmp_path) as two:
            wait_for(two.waits)
            one.kill()
            wait_for(two.has_begun)
            (tmp_path / "go").touch()
            assert two.answer() == f"Completed {two.pid}"


def test_ctrl_c_while_a_run_waits_for_another_cancels_it(home: Path, tmp_path: Path) -> None:
    with Driver(tmp_path) as one:
        wait_for(one.has_begun)
        with Driver(tmp_path) as two:
            wait_for(two.waits)
            two.process.send_signal(signal.SIGINT)
            two.process.wait(timeout=60)
            (tmp_path / "go").touch()
            assert one.answer() == f"Completed {one.pid}"
            assert not two.has_begun()
    states = [
        {event.data["id"]: event.data["name"] for event in read_run(str(run)) if _is_of_task(event)}
        for run in home.glob("runs/*")
    ]
    assert sorted(name for run in states for name in run.values()) == ["Cancelled", "Completed"]


def _is_of_task(event: Event) -> bool:
    return event.kind == "state" and event.data["subject"] == "task"


@pytest.fixture
def kept(home: Path) -> Path:
    return home / "storage"


def test_a_purged_result_is_computed_again_and_that_is_said(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []
    compute = counting(calls)
    compute(100_000)
    (kept / "key-100000.pkl").unlink()
    assert compute(100_000) == bytes(100_000)
    assert calls == [100_000, 100_000]
    assert "is computed again" in (said := capsys.readouterr().err)
    assert "purge" in said


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_torn_record_is_computed_again_and_that_is_said(
    kept: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    calls: list[int] = []
    compute = counting(calls)
    compute(size)
    path = kept / f"key-{size}"
    path.write_bytes(path.read_bytes()[:40])
    assert compute(size) == bytes(size)
    assert calls == [size, size]
    assert "it was cut" in capsys.readouterr().err
    assert compute(size) == bytes(size)
    assert calls == [size, size]


def test_a_record_of_another_user_is_not_unpickled(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []
    compute = counting(calls)
    compute(10)
    path = kept / "key-10"
    forged = path.read_text().replace('"key-10"', '"key-10" ')
    path.write_text(forged)  # the same to people, and still ours
    compute(10)
    assert calls == [10]
    path.write_text(forged.replace('"size": ', '"size": 1'))
    compute(10)
    assert calls == [10, 10]
    assert "without this user's key" in capsys.readouterr().err


def test_a_record_under_another_name_is_not_taken(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []
    compute = counting(calls)
    compute(10)
    (kept / "key-11").write_bytes((kept / "key-10").read_bytes())
    assert compute(11) == bytes(11)
    assert calls == [10, 11]
    assert "the record of 'key-10'" in capsys.readouterr().err


def test_data_that_was_changed_without_a_change_of_size_is_not_unpickled(kept: Path) -> None:
    calls: list[int] = []
    compute = counting(calls)
    compute(100_000)
    path = kept / "key-100000.pkl"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    state = compute(100_000, return_state=True)
    assert state.name == "Cached"
    with pytest.raises(Exception, match="refresh_cache=True"):
        state.result()
    assert compute.with_options(refresh_cache=True)(100_000) == bytes(100_000)
    assert compute(100_000) == bytes(100_000)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_loses_the_kept_result_and_not_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kept: Path
) -> None:
    calls: list[int] = []
    compute = counting(calls)
    monkeypatch.setattr(base, "write_file", full)
    first, second = twice(compute, 100_000)
    assert (first.name, second.name) == ("Completed", "Completed")
    assert calls == [100_000] * 2
    said = capsys.readouterr().err
    assert "could not be kept" in said
    assert "No space left" in said
    assert not list(kept.glob("key-*"))


def test_a_result_that_is_not_in_memory_is_not_dropped_when_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compute = counting([], cache_result_in_memory=False)
    monkeypatch.setattr(base, "write_file", full)
    assert compute(100_000) == bytes(100_000)


def test_what_cannot_be_pickled_is_returned_and_not_kept(
    capsys: pytest.CaptureFixture[str], kept: Path
) -> None:
    @task(cache_key_fn=lambda *_: "generator")
    def compute() -> Any:
        return (number for number in range(3))

    @flow
    def run() -> list[int]:
        return list(compute())

    assert run() == [0, 1, 2]
    assert "cannot be pickled" in capsys.readouterr().err
    assert not list(kept.glob("generator*"))


def test_no_lock_to_be_had_does_not_stop_the_run(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept.mkdir(parents=True)
    (kept / ".locks").write_text("no folder")
    calls: list[int] = []
    compute = counting(calls)
    assert compute(3) == bytes(3)
    assert calls == [3]
    assert "others may compute it too" in capsys.readouterr().err


def test_a_write_that_is_cut_short_leaves_the_old_result(
    monkeypatch: pytest.MonkeyPatch, kept: Path
) -> None:
    one = ResultStore()
    one.write("old", "key")
    before = (kept / "key").read_bytes()
    monkeypatch.setattr(base, "write_file", full)
    with pytest.raises(ResultError, match="Free space there"):
        one.write("new", "key")
    assert (kept / "key").read_bytes() == before
    assert one.read("key").result == "old"


def test_a_key_that_others_can_read_is_refused(home: Path) -> None:
    home.mkdir(parents=True)
    path = home / "key"
    path.write_bytes(bytes(32))
    path.chmod(0o644)
    with pytest.raises(ResultError, match="chmod 600"):
        ResultStore().write(1, "key")
