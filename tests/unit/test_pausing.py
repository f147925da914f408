"""A paused flow run begins nothing new until somebody lets it go on."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from paused_runs import PATIENCE, Background, ask, folder, is_paused, names, root, step, until, view

from hpc_flows import flow, pause_flow_run, task
from hpc_flows.context import current
from hpc_flows.engine import cancelling
from hpc_flows.engine.requests import ask as ask_run
from hpc_flows.task_runners import ProcessPoolTaskRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "PERIOD", 0.02)


@pytest.fixture
def steps() -> list[int]:
    return []


def _paused_after(home: Path, body: Callable[[], Any], begun: threading.Event) -> Background:
    """Start a flow and ask it to pause once it says so; return when it is paused."""
    running = Background(body)
    assert begun.wait(PATIENCE)
    ask(home, "pause", by="ada")
    until(lambda: is_paused(home))
    return running


@pytest.mark.parametrize("way", ["call", "submit", "map"])
def test_no_task_run_begins_while_the_run_is_paused(home: Path, steps: list[int], way: str) -> None:
    begun, go = threading.Event(), threading.Event()

    @flow
    def main() -> int:
        step(0, steps)
        begun.set()
        assert go.wait(PATIENCE)
        if way == "call":
            return step(1, steps)
        if way == "submit":
            return step.submit(1, steps).result()
        return sum(step.map([1], steps=[steps]).result())

    running = _paused_after(home, main, begun)
    go.set()
    time.sleep(0.3)
    assert steps == [0]
    ask(home, "resume", by="ada")
    assert running.end() == 1
    assert steps == [0, 1]
    run = root(view(home))
    assert names(run) == ["Pending", "Running", "Paused", "Running", "Completed"]
    messages = [change.data.get("message") for change in run._changes]
    assert messages[2:4] == ["Paused by ada: lunch", "Resumed by ada: lunch"]


def test_what_runs_goes_on_to_its_end_while_the_run_is_paused(home: Path) -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    @task
    def long() -> None:
        begun.set()
        assert go.wait(PATIENCE)
        ended.set()

    @flow
    def main() -> None:
        long.submit().wait()

    running = _paused_after(home, main, begun)
    go.set()
    assert ended.wait(PATIENCE)
    assert running.end() is None
    assert root(view(home)).state_name == "Completed"


def test_calls_that_wait_in_a_pool_do_not_begin_either(
    home: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_FLOWS_THREAD_WORKERS", "1")
    begun, go = threading.Event(), threading.Event()

    @task
    def long() -> None:
        begun.set()
        assert go.wait(PATIENCE)

    @flow
    def main() -> list[int]:
        first = long.submit()
        others = step.map(range(3), steps=[steps] * 3)
        first.wait()
        return others.result()

    running = _paused_after(home, main, begun)
    go.set()
    time.sleep(0.3)
    assert steps == []
    ask(home, "resume")
    assert running.end() == [0, 1, 2]


def test_a_retry_waits_too(home: Path) -> None:
    begun, go = threading.Event(), threading.Event()
    tries: list[int] = []

    @task(retries=1)
    def shaky() -> int:
        tries.append(1)
        begun.set()
        assert go.wait(PATIENCE)
        if len(tries) == 1:
            raise OSError("not yet")
        return len(tries)

    @flow
    def main() -> int:
        return shaky()

    running = _paused_after(home, main, begun)
    go.set()
    time.sleep(0.3)
    assert len(tries) == 1
    ask(home, "resume")
    assert running.end() == 2


def _square(number: int) -> int:
    return number * number


def test_worker_processes_are_given_nothing_while_the_run_is_paused(home: Path) -> None:
    begun, go = threading.Event(), threading.Event()
    square = task(_square)

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def main() -> int:
        square.map(range(200)).result()  # quick calls, that go several at once from now on
        begun.set()
        assert go.wait(PATIENCE)
        return sum(square.map(range(50)).result())

    running = _paused_after(home, main, begun)
    go.set()
    time.sleep(0.3)
    counts = view(home).counts["_square"]
    assert (counts["Completed"], counts["Pending"]) == (200, 50)
    ask(home, "resume")
    assert running.end() == sum(n * n for n in range(50))


def test_a_subflow_does_not_begin_and_a_running_one_is_paused_too(
    home: Path, steps: list[int]
) -> None:
    begun, go = threading.Event(), threading.Event()

    @flow
    def inner(number: int) -> int:
        if number == 0:
            begun.set()
            assert go.wait(PATIENCE)
        return step(number, steps)

    @flow
    def outer() -> list[int]:
        return [inner(0), inner(1)]

    running = _paused_after(home, outer, begun)
    go.set()
    time.sleep(0.3)
    assert steps == []
    ask(home, "resume")
    assert running.end() == [0, 1]
    for run in view(home).flow_runs.values():
        first = run.name == root(view(home)).name or "Paused" in names(run)
        assert run.state_name == "Completed"
        assert first or names(run) == ["Pending", "Running", "Completed"]
    paused = [run for run in view(home).flow_runs.values() if "Paused" in names(run)]
    assert len(paused) == 2


def test_an_async_flow_is_paused_and_others_run_meanwhile(home: Path, steps: list[int]) -> None:
    begun, go = threading.Event(), threading.Event()
    ticks: list[int] = []

    @task
    async def astep(number: int) -> int:
        steps.append(number)
        return number

    @flow
    async def main() -> int:
        ticking = asyncio.create_task(tick())
        begun.set()
        while not go.is_set():  # noqa: ASYNC110 - the test sets it, in another thread
            await asyncio.sleep(0.01)
        value = await astep(1)
        ticking.cancel()
        return value

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0.01)

    running = _paused_after(home, lambda: asyncio.run(main()), begun)
    go.set()
    time.sleep(0.1)
    seen = len(ticks)
    time.sleep(0.3)
    assert (steps, len(ticks) > seen) == ([], True)
    ask(home, "resume")
    assert running.end() == 1


@pytest.mark.parametrize("way", ["call", "map", "pause_flow_run"])
def test_a_paused_run_can_be_cancelled(home: Path, steps: list[int], way: str) -> None:
    begun, go = threading.Event(), threading.Event()

    @flow
    def main() -> None:
        begun.set()
        assert go.wait(PATIENCE)
        if way == "call":
            step(1, steps)
        elif way == "map":
            step.map(range(20), steps=[steps] * 20).wait()
        else:
            pause_flow_run()

    running = _paused_after(home, main, begun)
    go.set()
    time.sleep(0.2)
    ask(home, "cancel")
    assert isinstance(running.end(), KeyboardInterrupt)
    seen = view(home)
    assert steps == []
    assert root(seen).state_name == "Cancelled"
    assert all(run.state_name in ("Cancelled", None) for run in seen.task_runs.values())


def test_a_request_that_a_person_made_with_touch_is_understood(home: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    @flow
    def main() -> None:
        begun.set()
        assert go.wait(PATIENCE)

    running = Background(main)
    assert begun.wait(PATIENCE)
    control = folder(home) / "control"
    (control / "pause").touch()
    until(lambda: is_paused(home))
    assert not (control / "pause").exists()
    (control / "resume").write_text("[]")
    until(lambda: not is_paused(home))
    go.set()
    assert running.end() is None


def test_of_a_pause_and_a_resumption_that_come_together_the_later_counts(home: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    @flow
    def main() -> str:
        begun.set()
        assert go.wait(PATIENCE)
        context: Any = current()
        ask_run(context.root.run_dir, "resume", "first")
        time.sleep(0.02)
        ask_run(context.root.run_dir, "pause", "second")
        until(lambda: bool(context.root.pauses))
        ask_run(context.root.run_dir, "resume", "third")
        until(lambda: not context.root.pauses)
        return "ok"

    running = Background(main)
    assert begun.wait(PATIENCE)
    go.set()
    assert running.end() == "ok"


def _many_events(count: int) -> Iterator[None]:
    context: Any = current()
    for number in range(count):
        context.root.journal.write("log", {"level": 20, "message": f"{number} " + "x" * 200})
        yield


def test_a_long_journal_hides_no_pause_and_no_resumption(home: Path) -> None:
    @flow
    def main() -> tuple[bool, bool]:
        context: Any = current()
        list(_many_events(1000))
        ask_run(context.root.run_dir, "pause", "long")
        until(lambda: bool(context.root.pauses))
        list(_many_events(1000))
        held = is_paused(home)
        ask_run(context.root.run_dir, "resume", "long")
        until(lambda: not context.root.pauses)
        list(_many_events(1000))
        return held, is_paused(home)

    assert main() == (True, False)


def test_a_subflow_alone_is_paused_by_its_id_and_one_that_is_not_there_changes_nothing(
    home: Path, steps: list[int]
) -> None:
    begun, go = threading.Event(), threading.Event()

    @flow
    def inner() -> int:
        begun.set()
        assert go.wait(PATIENCE)
        return step(1, steps)

    @task
    def in_thread() -> int:
        return inner()

    @flow
    def outer() -> list[int]:
        first = in_thread.submit()
        assert go.wait(PATIENCE)
        return [step(0, steps), first.result()]

    running = Background(outer)
    assert begun.wait(PATIENCE)
    seen = view(home)
    (subflow,) = set(seen.flow_runs) - {seen.run_id}
    ask(home, "pause", flow_run="nobody")
    until(lambda: not list((folder(home) / "control").glob("*pause*")))
    assert not (folder(home) / "control" / "paused").exists()
    ask(home, "pause", flow_run=subflow)
    until(lambda: view(home).flow_runs[subflow].state_name == "Paused")
    assert not is_paused(home)
    go.set()
    until(lambda: steps == [0])
    time.sleep(0.3)
    assert steps == [0]
    ask(home, "resume", flow_run=subflow)
    assert running.end() == [0, 1]
