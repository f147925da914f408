"""Locks on keys, in memory and by files: one suite for both."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import pickle
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows.locking import FileSystemLockManager, LockManager, MemoryLockManager, filesystem
from hpc_flows.runs import new_id

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["memory", "files"])
def locks(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return MemoryLockManager() if request.param == "memory" else FileSystemLockManager(tmp_path)


@pytest.fixture
def key() -> str:
    return f"group/{new_id()}"


def test_a_lock_has_one_holder_who_may_take_it_again(locks: Any, key: str) -> None:
    assert isinstance(locks, LockManager)
    assert locks.acquire_lock(key, "one")
    assert locks.acquire_lock(key, "one")
    assert not locks.acquire_lock(key, "two", acquire_timeout=0.05)
    assert locks.is_locked(key)
    assert locks.is_lock_holder(key, "one")
    assert not locks.is_lock_holder(key, "two")
    with pytest.raises(ValueError, match="No lock held by two"):
        locks.release_lock(key, "two")
    locks.release_lock(key, "one")
    assert not locks.is_locked(key)
    assert locks.acquire_lock(key, "two")
    locks.release_lock(key, "two")


def test_a_lock_that_is_held_for_a_time_only_is_free_after_it(locks: Any, key: str) -> None:
    assert locks.acquire_lock(key, "one", hold_timeout=0.05)
    assert locks.acquire_lock(key, "two")
    assert locks.is_lock_holder(key, "two")
    locks.release_lock(key, "two")


def test_a_wait_ends_with_the_lock_or_with_its_time(locks: Any, key: str) -> None:
    assert locks.wait_for_lock(key)
    assert locks.acquire_lock(key, "one")
    assert not locks.wait_for_lock(key, timeout=0.05)
    waiter = threading.Thread(target=locks.wait_for_lock, args=(key,))
    waiter.start()
    locks.release_lock(key, "one")
    waiter.join(timeout=150)
    assert not waiter.is_alive()


def test_threads_wait_for_each_other(locks: Any, key: str) -> None:
    inside, most = [], []

    def work(number: int) -> None:
        assert locks.acquire_lock(key, f"holder {number}")
        inside.append(number)
        most.append(len(inside))
        inside.remove(number)
        locks.release_lock(key, f"holder {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert most == [1] * 6


def test_async_code_takes_locks_too(locks: Any, key: str) -> None:
    async def use() -> None:
        assert await locks.aacquire_lock(key, "one")
        assert not await locks.aacquire_lock(key, "two", acquire_timeout=0.05)
        assert not await locks.await_for_lock(key, timeout=0.05)
        locks.release_lock(key, "one")
        assert await locks.await_for_lock(key)

    asyncio.run(use())


def test_there_is_one_manager_in_memory() -> None:
    assert MemoryLockManager() is MemoryLockManager()
    assert copy.copy(MemoryLockManager()) is MemoryLockManager()


def test_locks_in_memory_warn_when_they_are_sent_away(
    key: str, caplog: pytest.LogCaptureFixture
) -> None:
    locks = MemoryLockManager()
    locks.acquire_lock(key, "one")
    with caplog.at_level(logging.WARNING, "hpc_flows.locking"):
        pickle.dumps(locks)
    locks.release_lock(key, "one")
    assert "will not be available after deserialization" in caplog.text


def test_two_managers_of_one_folder_see_each_other(tmp_path: Path, key: str) -> None:
    one, two = FileSystemLockManager(tmp_path), FileSystemLockManager(str(tmp_path))
    assert one == two
    assert hash(one) == hash(two)
    assert one.acquire_lock(key, "a holder")
    assert two.is_lock_holder(key, "a holder")
    assert "a holder" in two.describe_holder(key)
    two.release_lock(key, "a holder")
    assert not one.is_locked(key)


def test_locks_leave_no_files(tmp_path: Path, key: str) -> None:
    locks = FileSystemLockManager(tmp_path)
    locks.acquire_lock(key, "one")
    locks.release_lock(key, "one")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_is_forked_while_a_thread_looks_at_locks_can_use_them(
    locks: Any, key: str
) -> None:
    guard = MemoryLockManager._changed if locks is MemoryLockManager() else filesystem._guard
    inside, over = threading.Event(), threading.Event()

    def look() -> None:
        with guard:
            inside.set()
            over.wait()

    thread = threading.Thread(target=look)
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        try:
            os._exit(0 if locks.try_lock(key, "child") else 2)
        finally:
            os._exit(3)
    over.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
