"""A flow's driver that is told to end: what is recorded, and what lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_LONGEST = 300

LOCAL = """
    import sys, threading, time
    from hpc_flows import flow, task

    works = threading.Event()

    def rest(seconds):
        # In pieces: a signal that comes right before a system call does not end that call.
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.05)

    @task
    def slow():
        works.set()
        rest(300)

    @task
    def after(_):
        print("never", flush=True)

    def hook(flow, run, state):
        print(state.name, flush=True)

    @flow(on_crashed=[hook], on_cancellation=[hook])
    def main():
        after.submit(slow.submit())
        works.wait()
        print("begun", flush=True)
        rest(300)

    main()
"""


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a script, wait for the line `begun`, and return its process."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *before: str, **variables: str) -> subprocess.Popen[str]:
        script = tmp_path / "driven_flow.py"
        script.write_text(textwrap.dedent(code))
        process = subprocess.Popen(
            [*before, sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **variables},
            cwd=tmp_path,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _states(home: Path) -> dict[str, str | None]:
    """Return the messages of the last states, by the names of the flow and of its tasks."""
    (folder,) = (home / "runs").iterdir()
    view = replay(read_run(str(folder)))
    runs: list[Any] = [*view.flow_runs.values(), *view.task_runs.values()]
    names = [getattr(run, "task", None) or getattr(run, "flow", None) for run in runs]
    return {str(name): run.state_name for name, run in zip(names, runs, strict=True)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_driver_that_is_told_to_end_records_it_and_ends_by_the_signal(
    home: Path, begin: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    process = begin(LOCAL)
    process.send_signal(number)
    said, _ = process.communicate(timeout=_LONGEST)
    assert (process.returncode, said) == (-number, "Crashed\n")
    assert _states(home) == {"main": "Crashed", "slow": "Crashed", "after": "NotReady"}


def test_a_second_signal_is_not_kept_waiting_by_a_hook(
    home: Path, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    process = begin(
        LOCAL.replace("print(state.name, flush=True)", "print(1, flush=True); slow.fn()")
    )
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=_LONGEST)
    assert process.returncode == -signal.SIGTERM
    assert _states(home)["main"] == "Crashed"


ASYNC = """
    import asyncio
    from hpc_flows import flow, task

    @task
    async def slow():
        print("begun", flush=True)
        while True:  # as in `rest`
            await asyncio.sleep(0.05)

    def hook(flow, run, state):
        print(state.name, flush=True)

    @flow(on_crashed=[hook], on_cancellation=[hook])
    async def main():
        await slow()

    asyncio.run(main())
"""


def test_an_async_flow_that_is_told_to_end_has_crashed_too(
    home: Path, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    process = begin(ASYNC)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=_LONGEST)
    assert (process.returncode, said) == (-signal.SIGTERM, "Crashed\n")
    assert _states(home) == {"main": "Crashed", "slow": "Crashed"}


BUSY_LOOPS = {
    "callback": "again = lambda: loop.call_soon(again); again(); await asyncio.Event().wait()",
    "task": "busy = asyncio.create_task(spin()); await asyncio.Event().wait()",
    "gather": "await asyncio.gather(spin(), asyncio.Event().wait())",
    "code": "while True: time.sleep(0.05)",
    "group": "async with asyncio.TaskGroup() as group: group.create_task(spin())",
}


BUSY = """
    import asyncio, time
    from hpc_flows import flow

    async def spin():
        while True:
            await asyncio.sleep(0)

    def hook(flow, run, state):
        print(state.name, flush=True)

    @flow(on_crashed=[hook], on_cancellation=[hook])
    async def main():
        loop = asyncio.get_running_loop()
        print("begun", flush=True)
        BUSY

    asyncio.run(main())
"""


@pytest.mark.parametrize("busy", BUSY_LOOPS)
def test_an_async_flow_hears_that_it_is_told_to_end_whatever_runs_in_its_loop(
    home: Path, begin: Callable[..., subprocess.Popen[str]], busy: str
) -> None:
    process = begin(BUSY.replace("BUSY", BUSY_LOOPS[busy]))
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=_LONGEST)
    assert (process.returncode, said) == (-signal.SIGTERM, "Crashed\n")
    assert _states(home) == {"main": "Crashed"}


ASLEEP = {
    "waits": ("def", "future.wait()"),
    "as_completed": ("def", "list(as_completed([future]))"),
    "asyncio": ("async def", "await asyncio.Event().wait()"),
}


@pytest.mark.parametrize("asleep", ASLEEP)
def test_a_signal_that_does_not_wake_the_main_thread_is_heard_all_the_same(
    home: Path, begin: Callable[..., subprocess.Popen[str]], asleep: str
) -> None:
    """Python only notes a signal that comes to another thread, or just before a system call."""
    kind, wait = ASLEEP[asleep]
    call = "main()" if kind == "def" else "asyncio.run(main())"
    process = begin(f"""
    import asyncio, signal, threading, time
    from hpc_flows import flow, task
    from hpc_flows.futures import as_completed

    works = threading.Event()

    @task
    def slow():
        works.set()
        while True:
            time.sleep(0.05)

    @flow
    {kind} main():
        future = slow.submit()
        works.wait()
        signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM}})
        print("begun", flush=True)
        {wait}

    {call}
    """)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=_LONGEST)
    assert process.returncode == -signal.SIGTERM
    assert _states(home) == {"main": "Crashed", "slow": "Crashed"}


def test_under_nohup_a_hangup_is_nothing(
    home: Path, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    process = begin(LOCAL.replace("300", "0.5"), "nohup")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=_LONGEST)
    assert process.returncode == 0
    assert _states(home)["main"] == "Completed"


def test_a_program_that_handles_the_signal_itself_gets_it_after_the_flow(
    home: Path, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    handler = """
    import signal
    def handle(*_):
        print("handled", flush=True)
        raise SystemExit(7)
    signal.signal(signal.SIGTERM, handle)
    """
    process = begin(textwrap.dedent(handler) + textwrap.dedent(LOCAL))
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=_LONGEST)
    assert (process.returncode, said) == (7, "Crashed\nhandled\n")
    assert _states(home)["main"] == "Crashed"


ON_CLUSTER = """
    import os, sys, time
    from hpc_flows import Resources, flow, task

    def rest(seconds):
        # In pieces: a signal that comes right before a system call does not end that call.
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.05)

    @task(resources=Resources(cpus=1))
    def slow(folder):
        open(os.path.join(folder, "job-began"), "w").close()
        while not os.path.exists(os.path.join(folder, "driver-ended")):
            time.sleep(0.05)
        open(os.path.join(folder, "job-ended"), "w").close()

    @flow
    def main(folder):
        slow.submit(folder)
        while not os.path.exists(os.path.join(folder, "job-began")):
            time.sleep(0.05)
        print("begun", flush=True)
        rest(300)

    main(os.getcwd())
"""


@pytest.fixture
def left(home: Path, begin: Callable[..., subprocess.Popen[str]]) -> Iterator[None]:
    """Leave a job on the mock cluster, whose driver was ended by SIGTERM."""
    process = begin(ON_CLUSTER, HPC_FLOWS_CLUSTER="mock")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=_LONGEST)
    assert process.returncode == -signal.SIGTERM
    assert _states(home) == {"main": "Crashed", "slow": "Running"}
    yield
    stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(home)]
    subprocess.run(stop, capture_output=True, timeout=60, check=False)


@pytest.mark.usefixtures("left")
def test_the_jobs_of_a_driver_that_is_told_to_end_live_on(home: Path, tmp_path: Path) -> None:
    (tmp_path / "driver-ended").touch()
    deadline = time.monotonic() + _LONGEST
    while _states(home)["slow"] != "Completed":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert (tmp_path / "job-ended").exists()


@pytest.mark.usefixtures("left")
def test_jobs_that_were_left_can_be_cancelled_although_the_flow_has_ended(
    home: Path, tmp_path: Path
) -> None:
    cancel = [sys.executable, "-m", "hpc_flows", "runs", "cancel", "latest"]
    done = subprocess.run(cancel, capture_output=True, text=True, timeout=_LONGEST, check=False)
    assert (done.returncode, "Cancelled 1 job" in done.stdout) == (0, True), done
    assert _states(home) == {"main": "Crashed", "slow": "Cancelled"}
    assert not (tmp_path / "job-ended").exists()
    again = subprocess.run(cancel, capture_output=True, text=True, timeout=_LONGEST, check=False)
    assert "has ended already: Crashed. Nothing was cancelled" in again.stdout
