"""`pause_flow_run` and `resume_flow_run`, as flows and people call them."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest
from paused_runs import PATIENCE, Background, folder, is_paused, names, root, step, until, view

from hpc_flows import flow, pause_flow_run, resume_flow_run, suspend_flow_run, task
from hpc_flows.engine import cancelling
from hpc_flows.exceptions import (
    FlowPauseTimeout,
    MissingContextError,
    NotPausedError,
    OptionValueError,
    SuspendError,
)
from hpc_flows.flow_runs import apause_flow_run, aresume_flow_run, asuspend_flow_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "PERIOD", 0.02)


@pytest.fixture
def steps() -> list[int]:
    return []


def test_a_flow_pauses_itself_and_is_resumed_by_its_id(home: Path, steps: list[int]) -> None:
    @flow
    def main() -> int:
        step(0, steps)
        pause_flow_run()
        return step(1, steps)

    running = Background(main)
    until(lambda: steps == [0] and is_paused(home))
    assert (folder(home) / "control" / "paused").exists()
    time.sleep(0.2)
    assert steps == [0]
    resume_flow_run(folder(home).name)
    assert running.end() == 1
    assert not (folder(home) / "control" / "paused").exists()


def test_an_async_flow_pauses_itself_and_lets_others_run(home: Path) -> None:
    async def resume_soon() -> None:
        while not is_paused(home):  # noqa: ASYNC110 - known from the journal alone
            await asyncio.sleep(0.01)
        await aresume_flow_run(folder(home).name)

    @flow
    async def main() -> str:
        resuming = asyncio.create_task(resume_soon())
        await pause_flow_run(timeout=30)
        await resuming
        resuming = asyncio.create_task(resume_soon())
        await apause_flow_run(timeout=30)
        await resuming
        return "done"

    assert asyncio.run(main()) == "done"
    assert names(root(view(home))).count("Paused") == 2


def test_a_pause_that_nobody_ends_fails_the_flow_in_time(home: Path) -> None:
    @flow
    def main() -> None:
        pause_flow_run(timeout=0.2)

    began = time.monotonic()
    with pytest.raises(FlowPauseTimeout, match=r"nobody resumed it within 0\.2 seconds"):
        main()
    assert time.monotonic() - began >= 0.2
    assert root(view(home)).state_name == "Failed"


def test_a_flow_may_go_on_after_the_pause_was_too_long(home: Path, steps: list[int]) -> None:
    @flow
    def main() -> int:
        with pytest.raises(FlowPauseTimeout):
            pause_flow_run(timeout=0.05)
        return step(5, steps)

    assert main() == 5


def test_a_paused_subflow_does_not_hold_its_siblings(home: Path, steps: list[int]) -> None:
    done = threading.Event()

    @flow
    def pausing() -> int:
        pause_flow_run(timeout=30)
        return 1

    @task
    def in_thread() -> int:
        return pausing()

    @flow
    def main() -> list[int]:
        first = in_thread.submit()
        until((folder(home) / "control" / "paused").exists)
        value = step(2, steps)
        done.set()
        return [first.result(), value]

    running = Background(main)
    assert done.wait(PATIENCE)
    assert not is_paused(home)
    resume_flow_run(folder(home).name)
    assert running.end() == [1, 2]


def test_a_pause_with_a_key_is_made_once_however_often_the_flow_is_tried(home: Path) -> None:
    tries: list[int] = []

    @flow(retries=1)
    def main() -> int:
        pause_flow_run(key="look at it", timeout=30)
        tries.append(1)
        if len(tries) == 1:
            raise OSError("again")
        return len(tries)

    running = Background(main)
    until(lambda: is_paused(home))
    resume_flow_run(folder(home).name)
    assert running.end() == 2
    assert names(root(view(home))).count("Paused") == 1


def test_what_is_not_paused_cannot_go_on(home: Path) -> None:
    told: list[str] = []

    @flow(flow_run_name="mine")
    def main() -> None:
        with pytest.raises(NotPausedError) as caught:
            resume_flow_run("mine")
        told.append(str(caught.value))

    main()
    assert "'mine' is not paused; it is in state Running" in told[0]
    with pytest.raises(NotPausedError, match="has ended: Completed"):
        resume_flow_run("mine")


def test_pauses_where_they_make_no_sense_are_refused(home: Path) -> None:
    with pytest.raises(MissingContextError, match="only be paused from within a flow run"):
        pause_flow_run()

    @task
    def of_task() -> None:
        pause_flow_run()

    @flow
    def main() -> None:
        of_task()

    with pytest.raises(MissingContextError, match="A task run cannot be paused"):
        main()
    for wrong in (0, -1, float("nan"), "soon", True):
        with pytest.raises(OptionValueError, match="timeout of pause_flow_run"):
            pause_flow_run(timeout=wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionValueError, match="wait_for_input is not taken"):
        pause_flow_run(int)
    with pytest.raises(OptionValueError, match="run_input is not taken"):
        resume_flow_run("x", {"a": 1})
    with pytest.raises(SuspendError, match=r"pause_flow_run\(\) keeps the process"):
        suspend_flow_run(timeout=5)
    with pytest.raises(SuspendError):
        asyncio.run(asuspend_flow_run())
