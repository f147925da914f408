"""How a task run gets from Pending to its end: retries, time limits, hooks, logs."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import State, flow, task
from hpc_flows.exceptions import CrashedRun, TaskRunTimeoutError, UpstreamTaskError
from hpc_flows.journal.reader import read_run
from hpc_flows.states import Completed, Failed, StoredValue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _events(home: Path, kind: str) -> list[dict[str, Any]]:
    """Return the data of the events of a kind, of all runs of the test."""
    return [
        event.data
        for folder in sorted((home / "runs").iterdir())
        for event in read_run(str(folder))
        if event.kind == kind
    ]


def _task_states(home: Path) -> list[str]:
    return [data["name"] for data in _events(home, "state") if data["subject"] == "task"]


def _failing(times: int) -> Callable[[], int]:
    """Return a function that fails some times before it returns how often it was called."""
    calls = []

    def work() -> int:
        calls.append(1)
        if len(calls) <= times:
            raise ValueError(f"attempt {len(calls)}")
        return len(calls)

    return work


def test_a_call_is_journalled_from_its_run_to_its_end(home: Path) -> None:
    task(name="work", tags=["t"])(lambda: 5)()
    (run,) = _events(home, "task-run")
    assert (run["task"], run["tags"]) == ("work", ["t"])
    states = _events(home, "state")
    assert [(s["id"], s["name"], s["attempt"]) for s in states] == [
        (run["id"], "Running", 1),
        (run["id"], "Completed", 1),
    ]


def test_a_submitted_call_is_pending_first(home: Path) -> None:
    task(name="work")(lambda: 5).submit().wait()
    assert _task_states(home)[0] == "Pending"


def test_the_end_is_logged_once_as_prefect_users_know_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task(name="work")(lambda: 5)()
    (log,) = _events(home, "log")
    assert (log["level"], log["message"]) == ("INFO", "Finished in state Completed()")
    line = capsys.readouterr().err
    clock, level, text = line.split(" | ")
    assert len(clock) == len("16:08:59.356")
    assert (level, text[:15]) == ("INFO   ", "Task run 'work-")
    assert text.endswith("' - Finished in state Completed()\n")


def test_a_failed_call_is_tried_again_as_often_as_it_may(home: Path) -> None:
    assert task(retries=2)(_failing(2))() == 3
    assert _task_states(home) == [
        "Running",
        "AwaitingRetry",
        "Retrying",
        "AwaitingRetry",
        "Retrying",
        "Completed",
    ]


def test_the_last_failure_is_what_the_caller_sees(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="attempt 2"):
        task(retries=1)(_failing(9))()
    err = capsys.readouterr().err
    assert "Retry 1/1 will start immediately" in err
    assert "Retries are exhausted" in err
    assert "hpc_flows/engine" not in err


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (0.25, [0.25, 0.25]),
        ([0.1, 0.3], [0.1, 0.3]),
        ([0.2], [0.2, 0.2]),
        (lambda n: [0.1 * n] * n, [0.2, 0.2]),
    ],
)
def test_the_pause_before_a_retry_is_a_number_a_list_or_a_function(
    delay: Any, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("hpc_flows.engine.drive.time.sleep", pauses.append)
    task(retries=2, retry_delay_seconds=delay)(_failing(2))()
    assert pauses == expected


def test_retries_that_a_task_does_not_name_come_from_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HPC_FLOWS_TASK_DEFAULT_RETRIES", "1")
    assert task(_failing(1))() == 2
    with pytest.raises(ValueError, match="attempt 1"):
        task(retries=0)(_failing(1))()


def test_a_returned_state_is_the_final_state() -> None:
    assert task(lambda: Completed("so be it"))(return_state=True).message == "so be it"
    state = task(lambda: Failed("not good"))(return_state=True)
    assert (state.is_failed(), state.message) == (True, "not good")


def _sleep() -> None:
    time.sleep(300)


def _compute() -> None:
    while True:
        pass


async def _await() -> None:
    await asyncio.sleep(300)


async def _compute_async() -> None:
    while True:
        pass


@pytest.mark.parametrize("work", [_sleep, _compute])
def test_a_time_limit_stops_sleeping_and_computing_code_in_place(work: Any) -> None:
    started = time.monotonic()
    state = task(timeout_seconds=0.2)(work)(return_state=True)
    assert time.monotonic() - started < 200
    assert (state.name, state.message) == ("TimedOut", "Task run exceeded timeout of 0.2 second(s)")
    with pytest.raises(TaskRunTimeoutError):
        state.result()


@pytest.mark.parametrize("work", [_sleep, _compute, _await, _compute_async])
def test_a_time_limit_stops_submitted_code(work: Any) -> None:
    @flow
    def main() -> Any:
        future = task(timeout_seconds=0.2)(work).submit()
        future.wait(200)
        return future.state.name

    assert main() == "TimedOut"


@pytest.mark.parametrize("work", [_await, _compute_async])
def test_a_time_limit_stops_coroutines(work: Any) -> None:
    @flow
    async def main() -> Any:
        state = await task(timeout_seconds=0.2)(work)(return_state=True)
        return state.name

    assert asyncio.run(main()) == "TimedOut"


def test_code_that_catches_every_exception_is_stopped_all_the_same() -> None:
    def stubborn() -> None:
        while True:
            try:  # noqa: SIM105 - as users write it
                time.sleep(0.01)
            except Exception:  # noqa: BLE001, S110 - that is the point
                pass

    assert task(timeout_seconds=0.2)(stubborn)(return_state=True).name == "TimedOut"


def test_a_timeout_error_of_the_users_own_is_a_failure() -> None:
    def work() -> None:
        raise TimeoutError("mine")

    assert task(timeout_seconds=60)(work)(return_state=True).name == "Failed"


def test_a_timed_out_call_is_tried_again() -> None:
    calls: list[int] = []

    def work() -> int:
        calls.append(1)
        if len(calls) == 1:
            time.sleep(300)
        return len(calls)

    assert task(timeout_seconds=1, retries=1)(work)() == 2


def test_the_time_limit_of_a_flow_also_stops_the_task_that_runs_in_it(home: Path) -> None:
    @flow(timeout_seconds=1)
    def main() -> None:
        task(timeout_seconds=250)(_sleep)()

    assert main(return_state=True).name == "TimedOut"
    assert _task_states(home)[-1] == "Cancelled"


def test_an_inner_time_limit_leaves_the_outer_one_in_force() -> None:
    @flow(timeout_seconds=0.6)
    def main() -> None:
        task(timeout_seconds=0.1)(_sleep)(return_state=True)
        time.sleep(300)

    started = time.monotonic()
    assert main(return_state=True).name == "TimedOut"
    assert time.monotonic() - started < 200


def test_a_time_limit_works_in_threads_that_get_no_signals() -> None:
    states: list[State] = []
    timed = task(timeout_seconds=0.2)(_sleep)
    thread = threading.Thread(target=lambda: states.append(timed(return_state=True)))
    thread.start()
    thread.join(200)
    assert [state.name for state in states] == ["TimedOut"]


def test_hooks_are_called_with_the_task_its_run_and_the_state() -> None:
    seen: list[Any] = []

    def hook(*args: Any) -> None:
        seen.append(args)

    async def later(*args: Any) -> None:
        seen.append(args)

    good = task(on_running=[hook], on_completion=[later], on_failure=[hook])(lambda: 1)
    good()
    assert [(t, state.name) for t, _, state in seen] == [(good, "Running"), (good, "Completed")]
    seen.clear()
    bad = task(retries=1, on_completion=[hook])(_failing(9))
    bad.on_failure(hook)
    bad(return_state=True)
    ((owner, run, state),) = seen
    assert (owner, run.run_count, state.name) == (bad, 2, "Failed")


def test_a_hook_that_raises_changes_nothing_but_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("hook trouble")

    assert task(on_completion=[broken])(lambda: 1)() == 1
    assert "while running hook 'broken': RuntimeError('hook trouble')" in capsys.readouterr().err


def test_a_task_that_exits_crashes_and_does_not_end_the_program() -> None:
    def leave() -> None:
        raise SystemExit(3)

    @flow
    def main() -> Any:
        return task(leave).submit(return_state=True).name

    assert main() == "Crashed"


def test_async_tasks_run_at_once_in_asyncio() -> None:
    at_once: list[int] = []

    @task
    async def work(x: int) -> int:
        at_once.append(x)
        await asyncio.sleep(0.05)
        assert len(at_once) == 3
        return x

    @flow
    async def main() -> Any:
        return await asyncio.gather(*(work(i) for i in range(3)))

    assert asyncio.run(main()) == [0, 1, 2]


def test_an_async_task_can_be_submitted_by_a_flow_that_is_not() -> None:
    @task
    async def work(x: int) -> int:
        await asyncio.sleep(0)
        return x

    @flow
    def main() -> Any:
        return work.map([1, 2]).result()

    assert main() == [1, 2]


def test_an_exception_keeps_its_type_and_its_traceback() -> None:
    class MineError(Exception):
        pass

    def work() -> None:
        raise MineError("x")

    with pytest.raises(MineError) as caught:
        task(work)()
    assert caught.traceback[-1].name == "work"


def test_a_task_that_exits_does_not_end_the_flow_that_asks_for_its_result() -> None:
    def leave() -> None:
        raise SystemExit

    @flow
    def main() -> Any:
        return task(leave).submit().result()

    with pytest.raises(CrashedRun, match=r"aborted by Python system exit call: SystemExit\(\)"):
        main()


def test_an_exception_whose_text_cannot_be_had_fails_the_run_all_the_same(home: Path) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    def work() -> None:
        raise MuteError

    with pytest.raises(MuteError):
        task(retries=1)(work)()
    assert _task_states(home)[-1] == "Failed"
    assert "MuteError, whose __str__ raises" in _events(home, "state")[-1]["message"]


def test_an_exception_of_many_megabytes_is_told_in_short(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise ValueError("x" * 20_000_000)

    with pytest.raises(ValueError, match="xxx"):
        task(work)()
    assert "20000000 characters in all" in _events(home, "state")[-1]["message"]
    assert len(capsys.readouterr().err) < 200_000


def test_a_state_of_the_users_own_may_say_anything(home: Path) -> None:
    odd: Any = 5
    assert task(lambda: Failed(odd))(return_state=True).message == odd
    assert task(lambda: Failed("y" * 20_000_000))(return_state=True).is_failed()
    assert len(_events(home, "state")[-1]["message"]) < 100_000


def test_an_upstream_error_that_a_job_kept_is_the_cause_of_what_did_not_start() -> None:
    class Kept(StoredValue):
        __slots__ = ()

        def get(self) -> Any:
            return ValueError("in the job")

    @flow
    def main() -> Any:
        upstream = task(lambda: Failed("x", data=Kept())).submit()
        return task(lambda x: x).submit(upstream).result()

    with pytest.raises(UpstreamTaskError) as caught:
        main()
    assert str(caught.value.__cause__) == "in the job"
