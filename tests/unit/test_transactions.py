"""Transactions: hooks, nesting, commit modes, isolation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, task
from hpc_flows.exceptions import TransactionError
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import replay
from hpc_flows.locking import MemoryLockManager
from hpc_flows.results import ResultStore
from hpc_flows.task_runners import ProcessPoolTaskRunner
from hpc_flows.transactions import (
    AsyncTransaction,
    BaseTransaction,
    CommitMode,
    IsolationLevel,
    Transaction,
    TransactionState,
    atransaction,
    get_transaction,
    transaction,
)

if TYPE_CHECKING:
    from pathlib import Path


class Trace:
    """Tasks whose hooks note what becomes of them."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def task(self, name: str, **options: Any) -> Any:
        @task(name=name, **options)
        def step(value: Any = None) -> Any:
            if isinstance(value, Exception):
                raise value
            return value

        step.on_commit(lambda _: self.seen.append(f"commit {name}"))
        step.on_rollback(lambda _: self.seen.append(f"undo {name}"))
        return step


def fail() -> None:
    raise ValueError("no")


def test_hooks_run_at_the_end_of_the_block_in_order() -> None:
    trace = Trace()
    one, two = trace.task("one"), trace.task("two")

    @flow
    def run() -> list[str]:
        with transaction():
            one()
            two()
            return list(trace.seen)

    assert run() == []
    assert trace.seen == ["commit one", "commit two"]


def test_what_was_done_is_undone_in_reverse_order() -> None:
    trace = Trace()
    one, two, bad = (trace.task(name) for name in ("one", "two", "bad"))

    @flow
    def run() -> None:
        with transaction():
            one()
            two()
            bad(ValueError("no"))

    with pytest.raises(ValueError, match="no"):
        run()
    assert trace.seen == ["undo two", "undo one"]


def test_an_exception_in_the_block_undoes_it_too_and_goes_on() -> None:
    trace = Trace()
    one = trace.task("one")

    @flow
    def run() -> str:
        try:
            with transaction() as txn:
                one()
                fail()
        except ValueError:
            return str(txn.state)
        return "went on"

    assert run() == "ROLLED_BACK"
    assert trace.seen == ["undo one"]


def test_a_task_that_failed_undoes_the_rest_also_when_its_error_was_caught() -> None:
    trace = Trace()
    one, bad, late = (trace.task(name) for name in ("one", "bad", "late"))

    @flow
    def run() -> bool:
        with transaction() as txn:
            one()
            bad(ValueError("no"), return_state=True)
            late()
        return txn.is_rolled_back()

    assert run()
    assert trace.seen == ["undo one", "undo late"]


def test_submitted_tasks_are_waited_for_and_take_part() -> None:
    trace = Trace()
    one, bad = trace.task("one"), trace.task("bad")

    @flow
    def run() -> None:
        with transaction():
            one.submit()
        assert trace.seen == ["commit one"]
        with transaction():
            one.submit().wait()
            bad.submit(ValueError("no"))

    run(return_state=True)
    assert trace.seen == ["commit one", "undo one"]


def test_tasks_in_processes_take_part_and_their_hooks_run_here() -> None:
    trace = Trace()
    one = trace.task("one")

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def run() -> None:
        with transaction():
            one.submit(1)

    run()
    assert trace.seen == ["commit one"]


def test_results_are_kept_when_the_transaction_commits(home: Path) -> None:
    keeps = task(result_storage_key="kept")(lambda: "value")

    @flow
    def run(*, fails: bool) -> bool:
        with transaction():
            keeps()
            inside = (home / "storage" / "kept").exists()
            if fails:
                fail()
        return inside

    run(fails=True, return_state=True)
    assert not (home / "storage" / "kept").exists()
    assert run(fails=False) is False
    assert ResultStore().read("kept").result == "value"


def test_a_task_is_cached_by_its_own_transaction_before_it_commits() -> None:
    calls: list[int] = []
    keeps = task(result_storage_key="kept")(calls.append)

    @flow
    def run() -> str:
        with transaction():
            keeps(1)
            return str(keeps(2, return_state=True).name)

    assert run() == "Cached"
    assert calls == [1]


def test_runs_that_were_undone_are_seen_to_be(home: Path) -> None:
    one = Trace().task("one")
    ends: list[Any] = []

    @flow
    def run() -> None:
        with transaction():
            future = one.submit()
            future.wait()
            ends.append(future)
            fail()

    run(return_state=True)
    ends = [future.task_run.state for future in ends]
    (folder,) = home.glob("runs/*")
    view = replay(read_run(str(folder)))
    assert view.counts == {"one": {"RolledBack": 1}}
    assert [state.name for state in ends] == ["RolledBack"]


def test_values_are_shared_with_hooks_and_inner_transactions() -> None:
    found = {}

    @task
    def inner() -> None:
        found["outer"] = get_transaction().get("place")  # type: ignore[union-attr]
        get_transaction().set("number", [1])  # type: ignore[union-attr]

    inner.on_commit(lambda txn: found.update(hook=txn.get("number")))

    @flow
    def run() -> None:
        with transaction() as txn:
            txn.set("place", "here")
            inner()
            with pytest.raises(ValueError, match="unknown key: number"):
                txn.get("number")
            assert txn.get("number", None) is None

    run()
    assert found == {"outer": "here", "hook": [1]}


def test_values_are_copies() -> None:
    with transaction() as txn:
        txn.set("list", [1])
        txn.get("list").append(2)
        assert txn.get("list") == [1]


def test_every_task_has_a_transaction_if_it_asks() -> None:
    @task
    def plain() -> bool:
        mine = get_transaction()
        assert mine is not None
        mine.set("a", 1)
        with transaction(key="inside") as inner:
            inner.stage("value")
            assert inner.get("a") == 1
        return ResultStore().exists("inside")

    assert plain()
    assert get_transaction() is None
    with transaction() as txn:
        assert get_transaction() is BaseTransaction.get_active() is txn


def test_nested_blocks_commit_with_the_outermost() -> None:
    store = ResultStore()
    with transaction(key="outer", store=store) as outer:
        with transaction(key="inner", store=store) as inner:
            inner.stage("value")
        assert not store.exists("inner")
        assert inner.is_staged()
        outer.stage(1)
    assert store.exists("inner")
    assert store.exists("outer")
    assert (outer.state, inner.state) == (TransactionState.COMMITTED,) * 2


def test_commit_modes() -> None:
    store = ResultStore()
    with transaction() as outer, transaction("eager", store, CommitMode.EAGER) as eager:
        eager.stage(1)
    assert outer.is_committed()
    assert store.exists("eager")
    with transaction("off", store, "OFF") as off:
        off.stage(1)
    assert off.is_rolled_back()
    assert not store.exists("off")
    with transaction("off", store, CommitMode.OFF) as off:
        off.stage(1)
        assert off.commit()
    assert store.exists("off")


def test_what_is_committed_already_is_seen_unless_it_is_to_be_overwritten() -> None:
    store = ResultStore()
    store.write("old", "key")
    with transaction("key", store) as txn:
        assert txn.is_committed()
        assert txn.read().result == "old"
        txn.stage("new")
    assert store.read("key").result == "old"
    with transaction("key", store, overwrite=True) as txn:
        assert txn.is_active()
        txn.stage("new")
    assert store.read("key").result == "new"
    with transaction("key", store, overwrite=True, write_on_commit=False) as txn:
        txn.stage("newest")
    assert store.read("key").result == "new"


def test_a_hook_that_fails_rolls_back_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    trace = Trace()
    one = trace.task("one")

    @task
    def bad() -> None:
        return

    @bad.on_commit
    def explode(_: Any) -> None:
        fail()

    @flow
    def run() -> str:
        with transaction() as txn:
            bad()
            one()
        return str(txn.state)

    # As in Prefect: each task's part commits or rolls back by itself once the whole commits.
    assert run() == "COMMITTED"
    assert "An error was encountered while running commit hook 'explode'" in capsys.readouterr().err
    assert trace.seen == ["commit one"]


def test_a_rollback_hook_that_fails_neither_commits_nor_keeps_others_from_being_undone(
    home: Path,
) -> None:
    store = ResultStore(result_storage=home / "kept")
    seen: list[str] = []

    def broken(_: Any) -> None:
        seen.append("broken")
        raise OSError("cannot be removed")

    def work() -> None:
        with transaction("key", store) as txn:
            with transaction() as inner:
                inner.stage(1, on_rollback_hooks=[lambda _: seen.append("undo inner")])
            undo = [lambda _: seen.append("undo first"), broken]
            txn.stage("half", undo, [lambda _: seen.append("commit")])
            found.append(txn)
            fail()

    found: list[Transaction] = []
    with pytest.raises(ValueError, match="no"):
        work()
    assert seen == ["broken", "undo first", "undo inner"]
    assert found[0].is_rolled_back()
    assert not store.exists("key")


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_while_it_commits_or_waits_undoes_it_and_gives_back_its_lock(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(home / "kept", lock_manager=MemoryLockManager())
    seen: list[str] = []

    def locked() -> Transaction:
        return transaction("key", store, isolation_level="SERIALIZABLE")

    def undo(txn: Any) -> None:
        seen.append(f"undo {txn.staged}")

    with pytest.raises(KeyboardInterrupt), locked() as txn:
        txn.stage("commits", [undo], [interrupt])
    assert seen == ["undo commits"]
    assert not store.is_locked("key")
    with monkeypatch.context() as patched:
        patched.setattr(BaseTransaction, "_wait_for_runs", interrupt)
        with pytest.raises(KeyboardInterrupt), locked() as txn:
            txn.stage("waits", [undo])
    assert seen == ["undo commits", "undo waits"]
    assert not store.is_locked("key")
    with monkeypatch.context() as patched:
        patched.setattr(ResultStore, "exists", interrupt)
        with pytest.raises(KeyboardInterrupt), locked():
            pytest.fail("It was entered.")
    assert not store.is_locked("key")


def test_an_interrupt_in_async_code_undoes_it_too(home: Path) -> None:
    store = ResultStore(home / "kept", lock_manager=MemoryLockManager())
    seen: list[str] = []

    async def cancelled(_: Any) -> None:
        raise asyncio.CancelledError

    async def work() -> None:
        async with atransaction("key", store, isolation_level="SERIALIZABLE") as txn:
            txn.stage("half", [lambda _: seen.append("undo")], [cancelled])

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(work())
    assert seen == ["undo"]
    assert not store.is_locked("key")


def test_hooks_may_be_coroutine_functions_also_in_async_flows() -> None:
    seen = []

    @task
    def one() -> None:
        return

    @one.on_commit
    async def commit(_: Any) -> None:
        await asyncio.sleep(0)
        seen.append(1)

    @flow
    def run() -> None:
        with transaction():
            one()

    @flow
    async def arun() -> None:
        async with atransaction() as txn:
            assert isinstance(txn, AsyncTransaction)
            one()
        with transaction():
            one()

    run()
    asyncio.run(arun())
    assert seen == [1, 1, 1]


def test_async_transactions_keep_and_find() -> None:
    async def use() -> list[bool]:
        store = ResultStore(lock_manager=MemoryLockManager())
        async with atransaction("a", store, isolation_level="SERIALIZABLE") as txn:
            txn.stage("value")
            locked = store.is_locked("a")
        async with atransaction("a", store) as again:
            return [locked, again.is_committed(), (await again.read()).result == "value"]

    assert asyncio.run(use()) == [True, True, True]


def test_serializable_transactions_of_one_key_wait_for_each_other() -> None:
    store = ResultStore(lock_manager=MemoryLockManager())
    with transaction("key", store, isolation_level=IsolationLevel.SERIALIZABLE):
        assert store.is_locked("key")
    assert not store.is_locked("key")
    with pytest.raises(ValueError, match="no"), transaction("key", store, None, "SERIALIZABLE"):
        fail()
    assert not store.is_locked("key")


def test_isolation_without_locks_is_refused() -> None:
    with pytest.raises(TransactionError, match="SERIALIZABLE isolation level"):
        transaction("key", ResultStore(), isolation_level="SERIALIZABLE").__enter__()


def test_a_transaction_is_entered_once() -> None:
    txn = Transaction()
    with txn, pytest.raises(TransactionError, match="cannot be nested"):
        txn.__enter__()
    with pytest.raises(TransactionError, match="without an enter"):
        txn.__exit__()
