"""Tasks whose results are kept: found, computed once, expired, refreshed."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, task
from hpc_flows.cache_policies import DEFAULT, FILES, INPUTS, NO_CACHE, TASK_SOURCE
from hpc_flows.exceptions import MissingResult
from hpc_flows.locking import MemoryLockManager
from hpc_flows.results import ResultStore
from hpc_flows.task_runners import ProcessPoolTaskRunner
from hpc_flows.transactions import transaction

if TYPE_CHECKING:
    from pathlib import Path

    from hpc_flows.context import TaskRunContext


class Counted:
    """Makes tasks that note each call."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def task(self, **options: Any) -> Any:
        def double(x: Any) -> Any:
            self.calls.append(x)
            return 2 * x

        return task(**options)(double)


@pytest.fixture
def counted() -> Counted:
    return Counted()


def names(states: Any) -> list[str]:
    return [state.name for state in states]


def test_equal_inputs_are_computed_once_within_a_run_and_between_runs(counted: Counted) -> None:
    double = counted.task(cache_policy=INPUTS)

    @flow
    def run() -> list[Any]:
        return [double(x, return_state=True) for x in (1, 2, 1)]

    for expected in (["Completed", "Completed", "Cached"], ["Cached"] * 3):
        states = run(return_state=True).result(raise_on_failure=False)
        assert names(states) == expected
        assert [state.result() for state in states] == [2, 4, 2]
    assert counted.calls == [1, 2]


def test_a_cached_run_calls_its_hooks_and_says_its_key(counted: Counted) -> None:
    seen = []
    double = counted.task(cache_key_fn=lambda *_: "k", on_completion=[lambda *a: seen.append(a[2])])
    double(1)
    state = double(1, return_state=True)
    assert names(seen) == ["Completed", "Cached"]
    assert state.details["cache_key"] == "k"


def test_the_default_policy_is_good_within_one_run(counted: Counted) -> None:
    double = counted.task(persist_result=True)
    assert double.cache_policy == DEFAULT

    @flow
    def run() -> list[str]:
        return names([double(1, return_state=True), double(1, return_state=True)])

    assert run() == run() == ["Completed", "Cached"]
    assert counted.calls == [1, 1]


def test_the_function_that_makes_keys_gets_the_context_and_the_parameters() -> None:
    seen: dict[str, Any] = {}

    def key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
        seen.update(parameters, name=context.task.name, run=context.task_run.task_name)
        return "key"

    @task(cache_key_fn=key)
    def add(a: int, b: int = 2) -> int:
        return a + b

    add(1)
    assert seen == {"a": 1, "b": 2, "name": "add", "run": "add"}


def test_a_result_that_has_expired_is_made_anew(counted: Counted) -> None:
    soon = counted.task(cache_key_fn=lambda *_: "soon", cache_expiration=timedelta(seconds=0.05))
    late = counted.task(cache_key_fn=lambda *_: "late", cache_expiration_seconds=60)
    soon(1)
    late(1)
    time.sleep(0.06)
    assert names([soon(1, return_state=True), late(1, return_state=True)]) == [
        "Completed",
        "Cached",
    ]


def test_refreshing_replaces_what_was_kept(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = counted.task(cache_key_fn=lambda *_: "key")
    assert double(1) == double(2) == 2
    assert double.with_options(refresh_cache=True)(3) == 6
    assert double(1) == 6
    monkeypatch.setenv("HPC_FLOWS_TASKS_REFRESH_CACHE", "1")
    assert double(4) == 8
    assert double.with_options(refresh_cache=False)(5) == 8


def test_settings_switch_caching_off(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    double = counted.task(cache_key_fn=lambda *_: "key")
    monkeypatch.setenv("HPC_FLOWS_TASKS_DISABLE_CACHING", "1")
    assert [double(1), double(2)] == [2, 4]
    monkeypatch.delenv("HPC_FLOWS_TASKS_DISABLE_CACHING")
    monkeypatch.setenv("HPC_FLOWS_TASKS_DEFAULT_NO_CACHE", "1")
    assert counted.task(persist_result=True).cache_policy == NO_CACHE


def test_a_setting_or_the_flow_has_all_tasks_keep_their_results(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    double = counted.task()

    def body() -> list[str]:
        return names([double(1, return_state=True), double(1, return_state=True)])

    assert flow(body)() == ["Completed", "Completed"]
    assert flow(persist_result=True)(body)() == ["Completed", "Cached"]
    monkeypatch.setenv("HPC_FLOWS_RESULTS_PERSIST_BY_DEFAULT", "1")
    assert flow(body)() == ["Completed", "Cached"]
    assert flow(persist_result=False)(body)() == ["Completed", "Completed"]


def test_threads_of_one_key_compute_once(counted: Counted) -> None:
    double = counted.task(cache_policy=INPUTS)

    @flow
    def run() -> list[Any]:
        futures = [double.submit(7) for _ in range(8)]
        return [future.result() for future in futures]

    assert run() == [14] * 8
    assert counted.calls == [7]


def test_read_committed_lets_each_compute(tmp_path: Path) -> None:
    both = tmp_path / "both"

    @task(cache_policy=INPUTS.configure(isolation_level="READ_COMMITTED"))
    def meet(x: int) -> int:
        mine = tmp_path / f"{time.monotonic_ns()}"
        mine.touch()
        give_up = time.monotonic() + 30
        while len(list(tmp_path.glob("[0-9]*"))) < 2 and time.monotonic() < give_up:
            time.sleep(0.01)
        both.touch()
        return x

    @flow
    def run() -> list[str]:
        futures = [meet.submit(1), meet.submit(1)]
        return [future.state.name for future in futures if future.wait() is None]

    assert run() == ["Completed", "Completed"]
    assert len(list(tmp_path.glob("[0-9]*"))) == 2


def test_locks_of_the_policy_are_used(counted: Counted) -> None:
    locks = MemoryLockManager()
    seen = []

    @task(cache_key_fn=lambda *_: "never")
    def outside() -> None:
        return

    @task(cache_policy=INPUTS.configure(lock_manager=locks))
    def inside(x: int) -> int:
        seen.append(any(locks.is_locked(key) for key in locks._locks))
        return x

    outside()
    inside(1)
    assert seen == [True]
    assert not locks._locks


def test_a_task_that_calls_itself_with_its_own_key_does_not_wait_for_itself() -> None:
    @task(cache_key_fn=lambda *_: "same")
    def down(n: int) -> int:
        return n if n == 0 else down(n - 1) + 1

    assert down(3) == 3


def test_a_nested_result_is_good_although_the_outer_task_fails(counted: Counted) -> None:
    double = counted.task(cache_policy=INPUTS)

    @task(persist_result=True, retries=1)
    def outer() -> None:
        double(1)
        raise ValueError("no")

    outer(return_state=True)
    assert counted.calls == [1]


def test_async_tasks_are_cached_and_do_not_block_each_other() -> None:
    calls = []

    @task(cache_policy=INPUTS)
    async def slow(x: int) -> int:
        calls.append(x)
        await asyncio.sleep(0.01)
        return x

    @flow
    async def run() -> list[int]:
        return list(await asyncio.gather(slow(1), slow(1), slow(2)))

    assert asyncio.run(run()) == [1, 1, 2]
    assert sorted(calls) == [1, 2]


def test_processes_compute_once(tmp_path: Path) -> None:
    @task(cache_policy=INPUTS)
    def mark(folder: str, x: int) -> int:
        open(f"{folder}/{x}", "x").close()
        return x

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def run() -> list[int]:
        return [future.result() for future in [mark.submit(str(tmp_path), 1) for _ in range(4)]]

    assert run() == run() == [1] * 4


def test_a_result_that_is_not_kept_in_memory_is_loaded_when_asked_for(home: Path) -> None:
    @task(persist_result=True, cache_result_in_memory=False, result_storage_key="big")
    def big() -> bytes:
        return bytes(100_000)

    @flow
    def run() -> Any:
        future = big.submit()
        assert future.result() == future.result() == bytes(100_000)
        return future

    state = big(return_state=True)
    assert state.result() == bytes(100_000)
    run()
    (home / "storage" / "big.pkl").unlink()
    with pytest.raises(Exception, match="not there"):
        state.result()


def test_keys_can_be_templates(home: Path) -> None:
    @task(result_storage_key="{parameters[x]}/{prefect.runtime.flow_run.name}-{task_run.name}")
    def one(x: int) -> int:
        return x

    @flow(flow_run_name="fine")
    def run() -> None:
        one.with_options(task_run_name="named")(5)

    run()
    assert (home / "storage" / "5" / "fine-named").exists()


def test_serializer_and_storage_of_the_task_are_used(tmp_path: Path) -> None:
    @task(result_serializer="json", result_storage=tmp_path / "here", result_storage_key="key")
    def one() -> dict[str, int]:
        return {"a": 1}

    one()
    assert '"{\\"a\\": 1}"' in (tmp_path / "here" / "key").read_text()
    assert ResultStore(tmp_path / "here").read("key").result == {"a": 1}


def test_the_policy_says_where_keys_lie(tmp_path: Path, counted: Counted) -> None:
    policy = INPUTS.configure(key_storage=tmp_path)
    key = policy.compute_key(task_ctx=None, inputs={"x": 1}, flow_parameters=None)
    counted.task(cache_policy=policy)(1)
    assert (tmp_path / str(key)).exists()


def test_what_no_key_can_be_made_of_runs_and_is_not_kept(
    counted: Counted, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    @task(cache_policy=INPUTS)
    def first(x: Any) -> int:
        return len(repr(x)) and 1

    assert first(n for n in "x") == 1
    assert "when computing cache key" in (said := capsys.readouterr().err)
    assert "'x'" in said
    assert not (home / "storage").exists()


def test_files_are_inputs(tmp_path: Path, counted: Counted) -> None:
    data = tmp_path / "data"
    data.write_text("one")

    @task(cache_policy=FILES + TASK_SOURCE)
    def read(path: Path) -> str:
        counted.calls.append(1)
        return path.read_text()

    assert [read(data), read(data)] == ["one", "one"]
    data.write_text("two")
    assert read(data) == "two"
    assert len(counted.calls) == 2


def test_flows_keep_their_results_too(home: Path, tmp_path: Path) -> None:
    @flow(persist_result=True, cache_result_in_memory=False)
    def run() -> bytes:
        return bytes(100_000)

    state = run(return_state=True)
    assert len(list((home / "storage").glob("*.pkl"))) == 1
    assert state.result() == bytes(100_000)

    @flow(result_storage=tmp_path / "full", persist_result=True)
    def other() -> int:
        return 1

    (tmp_path / "full").touch()
    assert other() == 1


def test_tasks_that_keep_nothing_load_none_of_this() -> None:
    import subprocess
    import sys

    code = (
        "from hpc_flows import flow, task\n"
        "@task\ndef one(): return 1\n"
        "@flow\ndef run(): return [one(), one.submit().result()]\n"
        "run()\nimport sys\n"
        "print(*[n for n in sys.modules if n.startswith(('hpc_flows.engine.recall', "
        "'hpc_flows.transactions', 'hpc_flows.cache_policies', 'hpc_flows.results.store'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ""


def test_a_kept_file_can_be_opened_by_parts_without_loading_it() -> None:
    pytest.importorskip("h5py")
    numpy = pytest.importorskip("numpy")

    @task(cache_key_fn=lambda *_: "field", result_serializer="hdf5")
    def field() -> Any:
        return {"t": numpy.arange(100.0)}

    @flow
    def run() -> list[float]:
        firsts = []
        for future in (field.submit(), field.submit()):
            future.wait()
            with future.result_handle() as handle:
                firsts.append(float(handle["t"][3]))
        return firsts

    assert run() == [3.0, 3.0]


def test_what_a_transaction_commits_can_be_opened_from_then_on() -> None:
    pytest.importorskip("h5py")
    numpy = pytest.importorskip("numpy")

    @task(result_storage_key="field", result_serializer="hdf5", persist_result=True)
    def field() -> Any:
        return {"t": numpy.arange(100.0)}

    @flow
    def run() -> float:
        with transaction():
            state = field(return_state=True)
            assert state.result()["t"][3] == 3.0
            with pytest.raises(MissingResult, match="not in a file of its own"):
                state.result_handle()
        with state.result_handle() as handle:
            return float(handle["t"][4])

    assert run() == 4.0
