"""A paused flow run begins nothing new until somebody lets it go on."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, pause_flow_run, resume_flow_run, suspend_flow_run, task
from hpc_flows.context import current
from hpc_flows.engine import cancelling
from hpc_flows.engine.requests import ask
from hpc_flows.exceptions import (
    FlowPauseTimeout,
    MissingContextError,
    NotPausedError,
    OptionValueError,
    SuspendError,
)
from hpc_flows.flow_runs import apause_flow_run, aresume_flow_run, asuspend_flow_run
from hpc_flows.journal.index import summarise
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import RunView, replay
from hpc_flows.task_runners import ProcessPoolTaskRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("quick_looks")


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "PERIOD", 0.02)


def _folder(home: Path) -> Path:
    (folder,) = (home / "runs").iterdir()
    return folder


def _view(home: Path) -> RunView:
    return replay(read_run(str(_folder(home))))


def _root(view: RunView) -> Any:
    return view.flow_runs[view.run_id]


def _names(run: Any) -> list[str]:
    return [name for _, _, name in run.history]


def _until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def _is_paused(home: Path) -> bool:
    return summarise(str(_folder(home))).state_type == "PAUSED"


def _ask(home: Path, action: Any, **more: Any) -> None:
    ask(str(_folder(home)), action, "lunch", **more)


class _Background:
    """A flow in a thread of its own, and what became of it."""

    def __init__(self, body: Callable[[], Any]) -> None:
        self.value: Any = None
        self._body = body
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.value = self._body()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.value = error

    def end(self) -> Any:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.value


@pytest.fixture
def steps() -> list[int]:
    return []


def _step(number: int, steps: list[int]) -> int:
    steps.append(number)
    return number


step: Any = task(name="step")(_step)


def _paused_after(home: Path, body: Callable[[], Any], begun: threading.Event) -> _Background:
    """Start a flow and ask it to pause once it says so; return when it is paused."""
    running = _Background(body)
    assert begun.wait(30)
    _ask(home, "pause", by="ada")
    _until(lambda: _is_paused(home))
    return running


@pytest.mark.parametrize("way", ["call", "submit", "map"])
def test_no_task_run_begins_while_the_run_is_paused(home: Path, steps: list[int], way: str) -> None:
    begun, go = threading.Event(), threading.Event()

    @flow
    def main() -> int:
        step(0, steps)
        begun.set()
        assert go.wait(30)
        if way == "call":
            return step(1, steps)
        if way == "submit":
            return step.submit(1, steps).result()
        return sum(step.map([1], steps=[steps]).result())

    running = _paused_after(home, main, begun)
    go.set()
    time.sleep(0.3)
    assert steps == [0]
    _ask(home, "resume", by="ada")
    assert running.end() == 1
    assert steps == [0, 1]
    root = _root(_view(home))
    assert _names(root) == ["Pending", "Running", "Paused", "Running", "Completed"]
    messages = [change.data.get("message") for change in root._changes]
    assert messages[2:4] == ["Paused by ada: lunch", "Resumed by ada: lunch"]


def test_what_runs_goes_on_to_its_end_while_the_run_is_paused(home: Path) -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    @task
    def long() -> None:
        begun.set()
        assert go.wait(30)
        ended.set()

    @flow
    def main() -> None:
        long.submit().wait()

    running = _paused_after(home, main, begun)
    go.set()
    assert ended.wait(30)
    assert running.end() is None
    assert _root(_view(home)).state_name == "Completed"


def test_calls_that_wait_in_a_pool_do_not_begin_either(
    home: Path, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_FLOWS_THREAD_WORKERS", "1")
    begun, go = threading.Event(), threading.Event()

    @task
    def long() -> None:
        begun.set()
        assert go.wait(30)

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
    _ask(home, "resume")
    assert running.end() == [0, 1, 2]


def test_a_retry_waits_too(home: Path) -> None:
    begun, go = threading.Event(), threading.Event()
    tries: list[int] = []

    @task(retries=1)
    def shaky() -> int:
        tries.append(1)
        begun.set()
        assert go.wait(30)
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
    _ask(home, "resume")
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
        assert go.wait(30)
        return sum(square.map(range(50)).result())

    running = _paused_after(home, main, begun)
    go.set()
    time.sleep(0.3)
    counts = _view(home).counts["_square"]
    assert (counts["Completed"], counts["Pending"]) == (200, 50)
    _ask(home, "resume")
    assert running.end() == sum(n * n for n in range(50))


def test_a_subflow_does_not_begin_and_a_running_one_is_paused_too(
    home: Path, steps: list[int]
) -> None:
    begun, go = threading.Event(), threading.Event()

    @flow
    def inner(number: int) -> int:
        if number == 0:
            begun.set()
            assert go.wait(30)
        return step(number, steps)

    @flow
    def outer() -> list[int]:
        return [inner(0), inner(1)]

    running = _paused_after(home, outer, begun)
    go.set()
    time.sleep(0.3)
    assert steps == []
    _ask(home, "resume")
    assert running.end() == [0, 1]
    for run in _view(home).flow_runs.values():
        first = run.name == _root(_view(home)).name or "Paused" in _names(run)
        assert run.state_name == "Completed"
        assert first or _names(run) == ["Pending", "Running", "Completed"]
    paused = [run for run in _view(home).flow_runs.values() if "Paused" in _names(run)]
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
    _ask(home, "resume")
    assert running.end() == 1


@pytest.mark.parametrize("way", ["call", "map", "pause_flow_run"])
def test_a_paused_run_can_be_cancelled(home: Path, steps: list[int], way: str) -> None:
    begun, go = threading.Event(), threading.Event()

    @flow
    def main() -> None:
        begun.set()
        assert go.wait(30)
        if way == "call":
            step(1, steps)
        elif way == "map":
            step.map(range(20), steps=[steps] * 20).wait()
        else:
            pause_flow_run()

    running = _paused_after(home, main, begun)
    go.set()
    time.sleep(0.2)
    _ask(home, "cancel")
    assert isinstance(running.end(), KeyboardInterrupt)
    view = _view(home)
    assert steps == []
    assert _root(view).state_name == "Cancelled"
    assert all(run.state_name in ("Cancelled", None) for run in view.task_runs.values())


def test_a_flow_pauses_itself_and_is_resumed_by_its_id(home: Path, steps: list[int]) -> None:
    @flow
    def main() -> int:
        step(0, steps)
        pause_flow_run()
        return step(1, steps)

    running = _Background(main)
    _until(lambda: steps == [0] and _is_paused(home))
    assert (_folder(home) / "control" / "paused").exists()
    time.sleep(0.2)
    assert steps == [0]
    resume_flow_run(_folder(home).name)
    assert running.end() == 1
    assert not (_folder(home) / "control" / "paused").exists()


def test_an_async_flow_pauses_itself_and_lets_others_run(home: Path) -> None:
    async def resume_soon() -> None:
        while not _is_paused(home):  # noqa: ASYNC110 - known from the journal alone
            await asyncio.sleep(0.01)
        await aresume_flow_run(_folder(home).name)

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
    assert _names(_root(_view(home))).count("Paused") == 2


def test_a_pause_that_nobody_ends_fails_the_flow_in_time(home: Path) -> None:
    @flow
    def main() -> None:
        pause_flow_run(timeout=0.2)

    began = time.monotonic()
    with pytest.raises(FlowPauseTimeout, match=r"nobody resumed it within 0\.2 seconds"):
        main()
    assert 0.2 <= time.monotonic() - began < 20
    assert _root(_view(home)).state_name == "Failed"


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
        _until((_folder(home) / "control" / "paused").exists)
        value = step(2, steps)
        done.set()
        return [first.result(), value]

    running = _Background(main)
    assert done.wait(30)
    assert not _is_paused(home)
    resume_flow_run(_folder(home).name)
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

    running = _Background(main)
    _until(lambda: bool((home / "runs").exists() and _is_paused(home)))
    resume_flow_run(_folder(home).name)
    assert running.end() == 2
    assert _names(_root(_view(home))).count("Paused") == 1


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
    with pytest.raises(MissingContextError, match="Only a flow can pause itself"):
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


def test_a_request_that_a_person_made_with_touch_is_understood(home: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    @flow
    def main() -> None:
        begun.set()
        assert go.wait(30)

    running = _Background(main)
    assert begun.wait(30)
    control = _folder(home) / "control"
    (control / "pause").touch()
    _until(lambda: _is_paused(home))
    assert not (control / "pause").exists()
    (control / "resume").write_text("[]")
    _until(lambda: not _is_paused(home))
    go.set()
    assert running.end() is None


def test_of_a_pause_and_a_resumption_that_come_together_the_later_counts(home: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    @flow
    def main() -> str:
        begun.set()
        assert go.wait(30)
        context: Any = current()
        ask(context.root.run_dir, "resume", "first")
        time.sleep(0.02)
        ask(context.root.run_dir, "pause", "second")
        _until(lambda: bool(context.root.pauses))
        ask(context.root.run_dir, "resume", "third")
        _until(lambda: not context.root.pauses)
        return "ok"

    running = _Background(main)
    assert begun.wait(30)
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
        ask(context.root.run_dir, "pause", "long")
        _until(lambda: bool(context.root.pauses))
        list(_many_events(1000))
        held = _is_paused(home)
        ask(context.root.run_dir, "resume", "long")
        _until(lambda: not context.root.pauses)
        list(_many_events(1000))
        return held, _is_paused(home)

    assert main() == (True, False)
