"""`concurrency` and `rate_limit`: slots over threads, coroutines and processes."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows.concurrency import asyncio as aio
from hpc_flows.concurrency.limits import (
    Limit,
    create_limit,
    delete_limit,
    find_limit,
    get_limit,
    list_limits,
    reset_limit,
    update_limit,
)
from hpc_flows.concurrency.sync import concurrency, rate_limit
from hpc_flows.concurrency.taking import Wanted, give_back, taking
from hpc_flows.exceptions import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    LimitError,
    SlotLost,
    UnknownLimit,
)

if TYPE_CHECKING:
    from pathlib import Path

    from hpc_flows.leases import Lease


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


# limits


def test_a_limit_is_read_as_it_was_written() -> None:
    create_limit("comsol 6.2/β", 4, slot_decay_per_second=0.5, active=False)
    found = get_limit("comsol 6.2/β")
    assert found.to_dict() == {
        "name": "comsol 6.2/β",
        "limit": 4,
        "active": False,
        "slot_decay_per_second": 0.5,
    }
    assert [limit.name for limit in list_limits()] == ["comsol 6.2/β"]


@pytest.mark.parametrize("name", ["", " ", "x" * 81, "two\nlines"])
def test_names_that_make_no_folder_are_refused(name: str) -> None:
    with pytest.raises(LimitError):
        create_limit(name, 1)


@pytest.mark.parametrize(("limit", "decay"), [(-1, 0.0), (1, -1.0), (1, float("nan"))])
def test_values_that_make_no_sense_are_refused(limit: int, decay: float) -> None:
    with pytest.raises(LimitError, match="neither may be negative"):
        create_limit("a", limit, slot_decay_per_second=decay)


def test_a_limit_is_created_once_and_updated_in_parts() -> None:
    create_limit("a", 1)
    with pytest.raises(LimitError, match=r"There is a concurrency limit 'a' already\."):
        create_limit("a", 2)
    assert update_limit("a", active=False).limit == 1
    assert update_limit("a", limit=5).active is False
    with pytest.raises(UnknownLimit, match="Did you mean"):
        update_limit("A1", limit=2) if create_limit("A12", 1) else None


def test_a_file_that_is_broken_is_named(home: Path) -> None:
    create_limit("a", 1)
    (home / "concurrency" / "a" / "limit").write_text("limit=many\n")
    with pytest.raises(LimitError, match=r"concurrency/a/limit does not say"):
        find_limit("a")


def test_a_deleted_limit_holds_nobody_back() -> None:
    create_limit("a", 1)
    with concurrency("a"):
        delete_limit("a")
        with concurrency("a", timeout_seconds=0.1):
            assert find_limit("a") is None


# slots


def test_slots_are_held_for_the_block_and_given_back_after_it() -> None:
    create_limit("a", 4)
    with concurrency("a", occupy=3):
        assert _held("a") == 3
    assert _held("a") == 0
    with pytest.raises(ValueError, match="mine"), concurrency("a"):
        raise ValueError("mine")
    assert _held("a") == 0


def test_slots_are_held_for_each_call_of_a_decorated_function() -> None:
    create_limit("a", 2)

    @concurrency("a", occupy=2)
    def held(word: str) -> str:
        return f"{word} {_held('a')}"

    @aio.concurrency("a")
    async def awaited(word: str) -> str:
        return f"{word} {_held('a')}"

    assert [held("both"), held("again")] == ["both 2", "again 2"]
    assert asyncio.run(awaited("one")) == "one 1"
    assert held.__name__ == "held"


def test_slots_of_several_limits_are_held_together() -> None:
    create_limit("a", 1)
    create_limit("b", 2)
    with concurrency(["b", "a", "b"]):
        assert (_held("a"), _held("b")) == (1, 1)
    with concurrency([]):
        assert (_held("a"), _held("b")) == (0, 0)


def test_what_cannot_be_had_in_time_is_a_time_out_that_names_the_holders() -> None:
    create_limit("a", 1)
    create_limit("b", 1)
    with concurrency("b", holder={"type": "flow_run", "id": "77"}):
        with (
            pytest.raises(AcquireConcurrencySlotTimeoutError, match=r"pid \d+ .*flow_run 77"),
            concurrency(["a", "b"], timeout_seconds=0.1),
        ):
            pass
        assert _held("a") == 0, "what was had of the others is given back"


def test_the_number_of_looks_may_be_limited() -> None:
    create_limit("a", 1)
    with (
        concurrency("a"),
        pytest.raises(ConcurrencySlotAcquisitionError, match="within 2 retries"),
        concurrency("a", max_retries=2),
    ):
        pass


def test_more_slots_than_there_are_is_an_error_at_once() -> None:
    create_limit("a", 2)
    with pytest.raises(ConcurrencySlotAcquisitionError, match="can never be had: it has 2"):
        concurrency("a", occupy=3).__enter__()
    with pytest.raises(ConcurrencySlotAcquisitionError, match="occupy must be at least 1"):
        concurrency("a", occupy=0).__enter__()


def test_an_unknown_limit_is_skipped_with_a_warning_or_an_error_if_strict(
    caplog: pytest.LogCaptureFixture,
) -> None:
    create_limit("comsol", 1)
    with concurrency("consol"):
        pass
    assert "Concurrency limits ['consol'] do not exist - skipping acquisition." in caplog.text
    with pytest.raises(ConcurrencySlotAcquisitionError, match="Did you mean 'comsol'"):
        concurrency("consol", strict=True).__enter__()


def test_a_limit_that_is_switched_off_holds_nobody_back() -> None:
    create_limit("a", 1, active=False)
    with concurrency("a"), concurrency("a", timeout_seconds=0.1):
        assert _held("a") == 0


def test_who_waits_goes_by_what_the_limit_has_become() -> None:
    create_limit("a", 1)
    with concurrency("a"):
        waiting = threading.Thread(target=lambda: concurrency("a").__enter__())
        waiting.start()
        update_limit("a", limit=2)
        waiting.join(150)
        assert _held("a") == 2
    reset_limit("a")


def test_a_smaller_limit_counts_what_is_held_beyond_it() -> None:
    create_limit("a", 3)
    first = concurrency("a", occupy=3)
    first.__enter__()
    update_limit("a", limit=2)
    folder = get_limit("a")
    os.rename(f"{folder.slot(0)}.1", f"{folder.slot(0)}.1.free")
    with (
        pytest.raises(AcquireConcurrencySlotTimeoutError),
        concurrency("a", timeout_seconds=0.1),
    ):
        pass
    first.__exit__(None, None, None)
    with concurrency("a", occupy=2):
        assert _held("a") == 2


def test_one_that_wants_three_is_not_starved_by_many_that_want_one() -> None:
    create_limit("a", 3)
    gauge, done = Gauge(), threading.Event()

    def small() -> None:
        while not done.is_set():
            with concurrency("a"):
                gauge.add(1)
                time.sleep(0.005)
                gauge.add(-1)

    others = [threading.Thread(target=small) for _ in range(6)]
    for other in others:
        other.start()
    try:
        for _ in range(3):
            with concurrency("a", occupy=3, timeout_seconds=60):
                gauge.add(3)
                gauge.add(-3)
    finally:
        done.set()
        for other in others:
            other.join(150)
    assert gauge.most == 3


@pytest.mark.parametrize("seed", range(4))
def test_the_sum_of_held_slots_never_exceeds_the_limit(seed: int, tmp_path: Path) -> None:
    """A schedule by chance of contenders that wait, give up, give back, die, and take over."""
    chance = random.Random(seed)
    limit = create_limit("a", 4)
    waiting: list[tuple[Any, int]] = []
    holding: list[tuple[list[Lease], int]] = []
    for _ in range(150):
        act = chance.random()
        if act < 0.3 and len(waiting) < 8:
            occupy = chance.choice([1, 1, 2, 3, 4])
            waiting.append((taking(Wanted("a", occupy)), occupy))
        elif act < 0.4 and waiting:
            waiting.pop(chance.randrange(len(waiting)))[0].close()
        elif act < 0.6 and holding:
            give_back(holding.pop(chance.randrange(len(holding)))[0])
        elif act < 0.65 and holding:
            _die(limit, holding.pop(chance.randrange(len(holding)))[0])
        elif waiting:
            steps, occupy = entry = chance.choice(waiting)
            taken = _stepped(steps)
            if taken is not None:
                waiting.remove(entry)
                assert len(taken) == occupy
                holding.append((taken, occupy))
        paths = [lease.path for leases, _ in holding for lease in leases]
        assert len(paths) == len(set(paths)) <= 4
        assert all(lease.renew() for leases, _ in holding for lease in leases)
    for steps, _ in waiting:
        steps.close()
    for leases, _ in holding:
        give_back(leases)
    assert os.listdir(tmp_path) == ["hpc_flows_home"]


def _stepped(steps: Any) -> list[Lease] | None:
    """Let a contender look once; return what it has taken, or None while it waits."""
    try:
        next(steps)
    except StopIteration as end:
        taken: list[Lease] = end.value
        return taken
    return None


def _die(limit: Limit, leases: list[Lease]) -> None:
    """Leave slots as their holder's death leaves them: held by a process that is not there."""
    del limit
    for lease in leases:
        number = lease.number
        lease.release()
        with open(f"{lease.path}.{number + 1}", "w", encoding="utf-8") as file:
            text = lease.holder.text().replace(f"pid={os.getpid()}\n", f"pid={2**22 + 1}\n")
            file.write(text)


def test_a_lost_slot_is_logged_and_the_work_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    create_limit("a", 1)
    with concurrency("a", lease_duration=0.15):
        reset_limit("a")
        _wait(lambda: "Lease renewal failed" in caplog.text)
    assert "the work goes on" in caplog.text


@pytest.mark.parametrize("options", [{"strict": True}, {"raise_on_lease_renewal_failure": True}])
def test_a_lost_slot_ends_the_work_if_asked(options: dict[str, Any]) -> None:
    create_limit("a", 1)

    def lose() -> None:
        with concurrency("a", lease_duration=0.15, **options):
            reset_limit("a")
            _wait(lambda: False)

    with pytest.raises(SlotLost, match="the process is stopped, or somebody has freed it"):
        lose()


def _wait(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# rates


def test_a_rate_gives_slots_back_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("hpc_flows.concurrency.spending.server_time", lambda _: now[0])
    create_limit("api", 2, slot_decay_per_second=0.5)
    rate_limit("api", occupy=2)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        rate_limit("api", timeout_seconds=0.05)
    now[0] += 2
    rate_limit("api")
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        rate_limit("api", timeout_seconds=0.05)
    now[0] += 1000
    rate_limit("api", occupy=2)


def test_a_rate_and_held_slots_share_a_limit() -> None:
    create_limit("api", 2, slot_decay_per_second=0.001)
    rate_limit("api")
    with concurrency("api", timeout_seconds=20):
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            rate_limit("api", timeout_seconds=0.05)
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            concurrency("api", timeout_seconds=0.05).__enter__()


def test_a_limit_whose_slots_do_not_come_back_is_no_rate() -> None:
    create_limit("a", 1)
    with pytest.raises(ConcurrencySlotAcquisitionError, match="it is no rate"):
        rate_limit("a")


# asyncio


def test_coroutines_hold_slots_and_wait_without_holding_up_others() -> None:
    create_limit("a", 2)
    gauge, ticks = Gauge(), [0]

    async def one() -> None:
        async with aio.concurrency("a"):
            gauge.add(1)
            await asyncio.sleep(0.01)
            gauge.add(-1)

    async def tick() -> None:
        while True:
            ticks[0] += 1
            await asyncio.sleep(0.001)

    async def all_of_them() -> None:
        ticking = asyncio.ensure_future(tick())
        await asyncio.gather(*(one() for _ in range(6)))
        ticking.cancel()

    asyncio.run(all_of_them())
    assert gauge.most == 2
    assert ticks[0] > 6


def test_a_coroutine_that_is_cancelled_while_it_waits_leaves_nothing() -> None:
    create_limit("a", 2)

    async def late() -> None:
        async with aio.concurrency("a", occupy=2):
            pytest.fail("there was only one slot")

    async def cancelled() -> None:
        async with aio.concurrency("a"):
            waiting = asyncio.ensure_future(late())
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert _held("a") == 1
            async with aio.concurrency("a"):
                assert _held("a") == 2

    asyncio.run(cancelled())
    assert _held("a") == 0


def test_a_coroutine_that_lost_its_slot_is_ended_if_asked() -> None:
    create_limit("a", 1)

    async def lose() -> None:
        async with aio.concurrency("a", lease_duration=0.15, strict=True):
            reset_limit("a")
            await asyncio.sleep(60)

    async def losing() -> str:
        with pytest.raises(SlotLost):
            await lose()
        await asyncio.sleep(0)
        return "and goes on after that"

    assert asyncio.run(losing()) == "and goes on after that"


def test_coroutines_wait_for_a_rate() -> None:
    create_limit("api", 1, slot_decay_per_second=50)

    async def calls() -> None:
        for _ in range(3):
            await aio.rate_limit("api", timeout_seconds=30)

    asyncio.run(calls())
    with pytest.raises(ConcurrencySlotAcquisitionError):
        asyncio.run(aio.rate_limit("nothing", strict=True))
