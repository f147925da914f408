"""How a flow run gets from its call to its end: final states, retries, cancellation, journal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, task
from hpc_flows.exceptions import CancelledRun, FailedRun, FlowRunTimeoutError
from hpc_flows.journal.reader import read_run
from hpc_flows.states import Cancelled, Completed, Failed
from hpc_flows.task_runners import ThreadPoolTaskRunner

if TYPE_CHECKING:
    from pathlib import Path


@task
def add(x: int, y: int = 1) -> int:
    return x + y


@task
def fail() -> None:
    raise ValueError("no")


def _runs(home: Path) -> list[Path]:
    return sorted((home / "runs").iterdir())


def _events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event.data for event in read_run(str(folder)) if event.kind == kind]


# Final states ---------------------------------------------------------------------------------


def test_a_value_completes_the_flow_whatever_became_of_its_tasks() -> None:
    @flow
    def main() -> int:
        fail.submit()
        return 3

    assert main() == 3
    assert main(return_state=True).is_completed()


def test_an_exception_fails_the_flow_and_is_raised() -> None:
    @flow
    def main() -> None:
        fail()

    with pytest.raises(ValueError, match="no"):
        main()
    state = main(return_state=True)
    assert state.message == "Flow run encountered an exception: ValueError: no"


def test_a_returned_state_is_the_final_state() -> None:
    assert flow(lambda: Completed("fine", data=4))() == 4
    with pytest.raises(FailedRun, match="bad"):
        flow(lambda: Failed("bad"))()
    with pytest.raises(CancelledRun):
        flow(lambda: Cancelled("enough"))()


def test_returned_futures_become_values_wherever_they_lie() -> None:
    @flow
    def main() -> Any:
        return {"one": add.submit(1), "many": [add.map([1, 2]), 5]}

    assert main() == {"one": 2, "many": [[2, 3], 5]}


def test_a_returned_future_that_failed_fails_the_flow_with_its_error() -> None:
    @flow
    def one() -> Any:
        return fail.submit()

    @flow
    def several() -> Any:
        return add.submit(1), fail.submit(), fail.submit()

    with pytest.raises(ValueError, match="no"):
        one()
    state = several(return_state=True)
    assert (state.name, state.message) == ("Failed", "2/3 states failed.")
    with pytest.raises(ValueError, match="no"):
        state.result()


def test_returned_states_decide_together() -> None:
    def of(*states: Any) -> Any:
        return flow(lambda: list(states))(return_state=True)

    assert of(Completed(), Completed()).message == "All states completed."
    assert of(Completed(), Failed("x")).message == "1/2 states failed."
    assert of(Failed("x"), Cancelled("y")).is_cancelled()


def test_a_run_that_never_started_fails_the_flow_that_returns_it() -> None:
    @flow
    def main() -> Any:
        return add.submit(fail.submit())

    state = main(return_state=True)
    assert state.is_failed()
    assert "Upstream task run" in str(state.message)


def test_a_flow_ends_after_everything_that_it_submitted() -> None:
    ended: list[int] = []

    @task
    def slow() -> None:
        time.sleep(0.1)
        ended.append(1)

    @task
    def submits() -> None:
        slow.submit()

    @flow
    def main() -> None:
        submits.submit()
        slow.submit()

    main()
    assert ended == [1, 1]


def test_a_failed_flow_does_not_start_what_waits() -> None:
    ran: list[str] = []

    @task
    def slow() -> None:
        time.sleep(0.2)
        ran.append("slow")

    @task
    def after(_: Any) -> None:
        ran.append("after")

    futures: list[Any] = []

    @flow
    def main() -> None:
        first = slow.submit()
        time.sleep(0.1)
        futures.extend([first, after.submit(first)])
        raise ValueError("stop")

    assert main(return_state=True).is_failed()
    assert ran == ["slow"]
    assert [future.state.name for future in futures] == ["Completed", "Cancelled"]


# Retries, time limits, parameters ---------------------------------------------------------------


def test_a_flow_is_tried_again() -> None:
    attempts: list[int] = []

    @flow(retries=2, retry_delay_seconds=[0, 0.01])
    def main() -> int:
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError(len(attempts))
        return len(attempts)

    assert main() == 3


def test_a_flow_that_takes_too_long_is_stopped_with_its_tasks() -> None:
    @flow(timeout_seconds=0.3)
    def main() -> None:
        task(lambda: time.sleep(300)).submit().result()

    started = time.monotonic()
    state = main(return_state=True)
    assert time.monotonic() - started < 200
    assert state.name == "TimedOut"
    with pytest.raises(FlowRunTimeoutError):
        state.result()


def test_an_async_flow_that_takes_too_long_is_stopped() -> None:
    @flow(timeout_seconds=0.2)
    async def main() -> None:
        await asyncio.sleep(300)

    assert asyncio.run(main(return_state=True)).name == "TimedOut"


def test_futures_as_parameters_are_waited_for() -> None:
    @flow
    def inner(x: int) -> int:
        return x * 10

    @flow
    def main() -> Any:
        late = add.submit(1)
        return inner(late), inner(3, wait_for=[late])

    assert main() == (20, 30)


# Subflows and journal ---------------------------------------------------------------------------


def test_a_subflow_shares_the_roots_folder_and_names_its_parents(home: Path) -> None:
    @flow
    def inner() -> int:
        return add(1)

    @task
    def calls() -> int:
        return inner()

    @flow(name="outer")
    def main() -> Any:
        return inner(), calls()

    assert main() == (2, 2)
    (folder,) = _runs(home)
    outer, first, second = _events(folder, "flow-run")
    assert outer["id"] == folder.name
    assert (outer["parent_flow_run"], outer["parent_task_run"]) == (None, None)
    assert (first["parent_flow_run"], first["parent_task_run"]) == (outer["id"], None)
    calls_run = next(r for r in _events(folder, "task-run") if r["task"] == "calls")
    assert second["parent_task_run"] == calls_run["id"]
    assert json.loads((folder / "run.json").read_text())["flow"] == "outer"


def test_a_flows_life_is_journalled_with_previews_of_its_parameters(home: Path) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    @flow
    def main(x: Any, y: Any, z: Any) -> None:
        pass

    main("text", range(3), Odd())
    (folder,) = _runs(home)
    (run,) = _events(folder, "flow-run")
    assert (run["parameters"]["x"], run["parameters"]["y"]) == ("'text'", "range(0, 3)")
    assert "repr raised RuntimeError" in run["parameters"]["z"]
    assert [s["name"] for s in _events(folder, "state")] == ["Pending", "Running", "Completed"]


def test_async_flows_may_call_each_other_and_sync_tasks() -> None:
    @flow
    async def inner(x: int) -> int:
        await asyncio.sleep(0)
        return add(x)

    @flow
    async def main() -> Any:
        first, second = await asyncio.gather(inner(1), inner(2))
        return first, second, add.submit(5)

    assert asyncio.run(main()) == (2, 3, 6)


# Hooks and cancellation -------------------------------------------------------------------------


def test_flow_hooks_are_called_with_flow_run_and_state() -> None:
    seen: list[Any] = []

    def hook(owner: Any, run: Any, state: Any) -> None:
        seen.append((owner.name, run.flow_name, state.name))

    flow(name="good", on_running=[hook], on_completion=[hook])(lambda: 1)()
    bad = flow(name="bad")(lambda: fail())  # noqa: PLW0108 - a task is no function
    bad.on_failure(hook)
    bad(return_state=True)
    stopped = flow(name="stopped", on_cancellation=[hook])(lambda: Cancelled())  # noqa: PLW0108 - of a flow's own
    stopped(return_state=True)
    assert seen == [
        ("good", "good", "Running"),
        ("good", "good", "Completed"),
        ("bad", "bad", "Failed"),
        ("stopped", "stopped", "Cancelled"),
    ]


def test_a_system_exit_crashes_the_flow_and_still_ends_the_program(home: Path) -> None:
    seen: list[str] = []

    @flow(on_crashed=[lambda *args: seen.append(args[2].name)])
    def main() -> None:
        sys.exit(3)

    with pytest.raises(SystemExit):
        main()
    assert seen == ["Crashed"]
    (folder,) = _runs(home)
    assert _events(folder, "state")[-1]["name"] == "Crashed"


def test_a_second_interrupt_cuts_the_waiting_short_and_leaves_nothing_uncancelled(
    home: Path,
) -> None:
    requests: list[str] = []

    class Slow(ThreadPoolTaskRunner):
        """A runner that is interrupted while it cancels, and that does not end the calls."""

        def cancel(self, calls: Any, reason: str) -> None:
            requests.append(reason)
            if len(requests) == 1:
                raise KeyboardInterrupt

        def duplicate(self) -> Slow:
            return self

    begun, gate = threading.Event(), threading.Event()

    @flow(task_runner=Slow())
    def main() -> None:
        task(lambda: begun.set() or gate.wait(60)).submit()
        begun.wait(60)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        main()
    gate.set()
    assert len(requests) == 2
    (folder,) = _runs(home)
    states = _events(folder, "state")
    task_end, flow_end = states[-2:]
    assert (task_end["name"], flow_end["name"]) == ("Cancelled", "Cancelled")
    assert task_end["message"].endswith("Its end was not waited for.")


def test_an_interrupt_cancels_everything_and_reaches_the_caller(home: Path) -> None:
    seen: list[str] = []

    @task
    def sleeps() -> None:
        time.sleep(300)

    @flow(on_cancellation=[lambda *args: seen.append(args[2].name)])
    def main() -> None:
        running, waiting = sleeps.submit(), None
        waiting = add.submit(running)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        waiting.result()

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        main()
    assert time.monotonic() - started < 200
    assert seen == ["Cancelled"]
    (folder,) = _runs(home)
    last = {data["id"]: data["name"] for data in _events(folder, "state")}
    assert set(last.values()) == {"Cancelled"}
    assert len(last) == 3


def test_a_request_in_the_runs_folder_cancels_a_flow_that_sleeps(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpc_flows.engine.cancelling.PERIOD", 0.05)

    @flow
    def main() -> None:
        (folder,) = _runs(home)
        (folder / "control" / "cancel").write_text('{"reason": "enough of it"}')
        time.sleep(300)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        main()
    assert time.monotonic() - started < 200
    (folder,) = _runs(home)
    assert _events(folder, "state")[-1]["message"] == "Cancelled: enough of it"


def test_a_cancelled_async_flow_ends_cancelled(home: Path) -> None:
    @flow
    async def main() -> None:
        await asyncio.sleep(300)

    async def program() -> None:
        running = asyncio.create_task(main())
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(program())
    (folder,) = _runs(home)
    assert _events(folder, "state")[-1]["name"] == "Cancelled"


def test_neither_the_flow_nor_the_programs_exit_waits_for_a_thread_that_was_written_off(
    tmp_path: Path, home: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import time\n"
        "from hpc_flows import flow, task\n"
        "@task(timeout_seconds=0.2)\n"
        "def work(): time.sleep(600)\n"
        "@flow\n"
        "def main(): return work.submit().state.name, work.submit(return_state=True).name\n"
        "print(main())\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=150,
        check=True,
        env={**os.environ, "HPC_FLOWS_HOME": str(home)},
    )
    assert "'TimedOut')" in done.stdout
