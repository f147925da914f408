"""Tag limits: how many task runs with a tag are at work at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from hpc_flows import flow, task
from hpc_flows.concurrency.limits import create_tag_limit, get_limit
from hpc_flows.journal.reader import read_run

if TYPE_CHECKING:
    from pathlib import Path


def _held(name: str) -> int:
    return len(get_limit(name).held_slots())


class Gauge:
    """Counts who is at work at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        with self._lock:
            self.now += number
            self.most = max(self.most, self.now)


def test_runs_with_a_tag_wait_for_its_slots(home: Path) -> None:
    create_tag_limit("solver", 2)
    gauge = Gauge()

    @task(tags={"solver"})
    def solve(number: int) -> int:
        gauge.add(1)
        time.sleep(0.03)
        gauge.add(-1)
        return number

    @flow
    def all_of_them() -> list[int]:
        return list(solve.map(range(6)).result())

    assert all_of_them() == list(range(6))
    assert gauge.most == 2
    (run,) = home.glob("runs/*")
    names = {event.data["name"] for event in read_run(str(run)) if event.kind == "state"}
    assert "AwaitingConcurrencySlot" in names


def test_nested_runs_with_the_same_tag_neither_deadlock_nor_exceed_it() -> None:
    create_tag_limit("solver", 1)
    gauge = Gauge()

    @task(tags={"solver"})
    def inner() -> int:
        gauge.add(1)
        time.sleep(0.01)
        gauge.add(-1)
        return 1

    @task(tags={"solver"})
    def outer() -> int:
        return int(inner() + inner.submit().result())

    @flow
    def nested() -> list[int]:
        return [outer.submit().result() for _ in range(2)]

    assert nested() == [2, 2]
    assert gauge.most == 1
    assert _held("tag:solver") == 0


def test_runs_that_outlive_the_one_that_submitted_them_take_slots_of_their_own() -> None:
    create_tag_limit("solver", 2)
    gauge = Gauge()

    @task(tags={"solver"})
    def inner() -> None:
        gauge.add(1)
        time.sleep(0.02)
        gauge.add(-1)

    @task(tags={"solver"})
    def outer() -> None:
        for _ in range(6):
            inner.submit()

    @flow
    def nested() -> None:
        outer.submit().wait()

    nested()
    assert gauge.most == 2


def test_runs_that_wait_for_slots_hold_no_thread() -> None:
    create_tag_limit("solver", 1)

    @task(tags={"solver"})
    def solve() -> int:
        time.sleep(0.002)
        return threading.active_count()

    @task
    def other() -> str:
        return "done"

    @flow
    def many() -> int:
        futures = [solve.submit() for _ in range(60)]
        assert other.submit().result() == "done"
        return int(max(future.result() for future in futures))

    before = threading.active_count()
    assert many() - before < 10


def test_a_flow_that_ends_early_cancels_runs_that_wait_for_slots() -> None:
    create_tag_limit("solver", 1)
    begun: list[int] = []

    @task(tags={"solver"})
    def solve(number: int) -> None:
        begun.append(number)
        time.sleep(0.2)

    @flow
    def failing() -> None:
        solve.map(range(5))
        while not begun:
            time.sleep(0.001)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing()
    assert len(begun) == 1
    assert _held("tag:solver") == 0


def test_coroutine_tasks_take_slots_too() -> None:
    create_tag_limit("solver", 1)
    gauge = Gauge()

    @task(tags={"solver"})
    async def solve() -> None:
        gauge.add(1)
        await asyncio.sleep(0.01)
        gauge.add(-1)

    @flow
    async def all_of_them() -> None:
        await asyncio.gather(*(solve() for _ in range(3)))

    asyncio.run(all_of_them())
    assert gauge.most == 1


def test_a_tag_with_a_limit_of_nothing_fails_its_runs_with_a_reason() -> None:
    create_tag_limit("solver", 0)

    @task(tags={"solver"})
    def solve() -> None:
        pytest.fail("it has no slot")

    @flow
    def failing() -> str:
        state = solve(return_state=True)
        return f"{state.type.name} {state.message}"

    assert failing().startswith("FAILED Task run did not get its concurrency slots: 1 slots of")


def test_a_failed_run_gives_its_slot_back() -> None:
    create_tag_limit("solver", 1)

    @task(tags={"solver"})
    def fail() -> None:
        raise ValueError("mine")

    @flow
    def failing() -> None:
        for _ in range(2):
            fail(return_state=True)

    failing()
    assert _held("tag:solver") == 0


def test_runs_whose_tags_have_no_limit_load_nothing_of_it() -> None:
    program = (
        "import sys\n"
        "from hpc_flows import flow, task\n"
        "@task(tags={'a'})\n"
        "def one(): return 1\n"
        "@flow\n"
        "def all_of_them(): return one()\n"
        "assert all_of_them() == 1\n"
        "assert not [name for name in sys.modules if 'concurrency' in name or 'leases' in name]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
