"""The process pool: values and errors travel, and what must stop is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, get_run_logger, runtime, task
from hpc_flows.exceptions import CrashedRun, TaskRunTimeoutError
from hpc_flows.journal.reader import read_run
from hpc_flows.task_runners import ProcessPoolTaskRunner

if TYPE_CHECKING:
    from pathlib import Path

one_process = ProcessPoolTaskRunner(max_workers=1)


def _events(home: Path, kind: str) -> list[dict[str, Any]]:
    (folder,) = (home / "runs").iterdir()
    return [event.data for event in read_run(str(folder)) if event.kind == kind]


def test_values_go_to_other_processes_and_come_back() -> None:
    factor = 3

    @task
    def work(x: int) -> Any:
        return os.getpid(), x * factor

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def main() -> Any:
        return work.map([1, 2, 3]).result()

    found = main()
    assert [value for _, value in found] == [3, 6, 9]
    assert os.getpid() not in {pid for pid, _ in found}


def test_logs_prints_and_facts_of_the_run_work_over_there(home: Path) -> None:
    @task(log_prints=True, task_run_name="t")
    def work(x: int) -> Any:
        print("printed", x)  # noqa: T201 - prints are what is tested
        get_run_logger().warning("logged")
        return runtime.task_run.name, runtime.task_run.parameters, runtime.flow_run.name

    @flow(task_runner=one_process, flow_run_name="f")
    def main(data: Any) -> Any:
        return work.submit(5)

    assert main(x for x in "unpicklable") == ("t", {"x": 5}, "f")
    (run,) = _events(home, "task-run")
    logs = {log["message"]: log.get("task_run") for log in _events(home, "log")}
    assert logs["printed 5"] == logs["logged"] == run["id"]


def test_an_exception_keeps_its_type_and_tells_where_it_was_raised() -> None:
    class MineError(Exception):
        pass

    @task
    def work() -> None:
        raise MineError("over there")

    @flow(task_runner=one_process)
    def main() -> None:
        future = work.submit()
        with pytest.raises(Exception, match="over there") as caught:
            future.result()
        assert type(caught.value).__name__ == "MineError"
        assert "in work" in str(caught.value.__cause__)

    main()


def test_retries_and_hooks_belong_to_the_flows_process() -> None:
    seen: list[str] = []

    def hook(_: Any, run: Any, state: Any) -> None:
        seen.append(f"{state.name} {run.run_count} {os.getpid() == here}")

    here = os.getpid()

    @task(retries=1, on_failure=[hook], on_running=[hook])
    def work() -> None:
        raise ValueError

    @flow(task_runner=one_process)
    def main() -> None:
        work.submit().wait()

    main()
    assert seen == ["Running 1 True", "Retrying 2 True", "Failed 2 True"]


def test_a_time_limit_kills_the_process_and_the_next_call_gets_another() -> None:
    @task(timeout_seconds=0.3)
    def forever() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL})
        while True:
            pass

    @flow(task_runner=one_process)
    def main() -> Any:
        stuck = forever.submit()
        with pytest.raises(TaskRunTimeoutError):
            stuck.result(timeout=60)
        return task(lambda: "next").submit()

    assert main() == "next"


def test_a_process_that_dies_is_a_crash_that_tells_how() -> None:
    @task(retries=3)
    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    @flow(task_runner=one_process)
    def main() -> Any:
        future = dies.submit()
        with pytest.raises(CrashedRun, match=r"was killed by SIGKILL.*out of memory"):
            future.result(timeout=60)
        return future.state.name, future.task_run.run_count

    assert main() == ("Crashed", 1)


def test_what_cannot_be_sent_is_named() -> None:
    @flow(task_runner=one_process)
    def main() -> Any:
        generator = (x for x in "abc")
        argument = task(lambda x: x, name="work").submit(generator)
        value = task(lambda: (x for x in "abc")).submit()
        return [f.result(raise_on_failure=False) for f in (argument, value)]

    argument, value = main()
    told = "Argument 1 of task 'work' cannot be sent to a worker process: it holds a generator"
    assert told in str(argument)
    assert "returned, but: A value of type 'generator' cannot be pickled" in str(value)


def test_submits_inside_of_a_process_run_there_and_are_waited_for() -> None:
    @task
    def inner(x: int) -> Any:
        time.sleep(0.05)
        return x, os.getpid()

    @task
    def outer() -> Any:
        return os.getpid(), inner.map([1, 2])

    @flow(task_runner=one_process)
    def main() -> Any:
        return outer.submit()

    pid, inside = main()
    assert inside == [(1, pid), (2, pid)]


def test_a_failed_flow_cancels_what_is_queued() -> None:
    futures: list[Any] = []

    @flow(task_runner=one_process)
    def main() -> None:
        futures.extend(task(lambda _: time.sleep(0.5)).map(range(2)))
        while not futures[0].state.is_running():
            time.sleep(0.01)
        raise ValueError

    main(return_state=True)
    assert [future.state.name for future in futures] == ["Completed", "Cancelled"]


def test_an_initializer_runs_once_in_each_process() -> None:
    def prepare(value: str) -> None:
        os.environ["PREPARED"] = value

    @flow(task_runner=ProcessPoolTaskRunner(1, prepare, ("yes",)))
    def main() -> Any:
        return task(lambda: os.environ.get("PREPARED")).submit()

    assert main() == "yes"


def test_an_initializer_that_fails_fails_the_call() -> None:
    def prepare() -> None:
        raise LookupError("nothing there")

    @flow(task_runner=ProcessPoolTaskRunner(1, prepare))
    def main() -> Any:
        return task(lambda _: 1).map(range(2))

    with pytest.raises(LookupError, match="nothing there"):
        main()


def test_an_initializer_that_cannot_be_sent_is_named_by_every_call() -> None:
    @task
    def double(x: int) -> int:
        return 2 * x

    @flow(task_runner=ProcessPoolTaskRunner(1, initializer=print, initargs=(threading.Lock(),)))
    def main() -> list[str]:
        states = []
        for number in range(3):
            future = double.submit(number)
            future.wait()
            states.append(future.state)
        return [f"{state.name}: {state.message}" for state in states]

    for told in main():
        assert "Failed" in told
        assert "The initializer of the process pool, or one of its initargs, cannot be sent" in told


def test_a_script_needs_no_main_guard(tmp_path: Path, home: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from dataclasses import dataclass\n"
        "from hpc_flows import flow, task\n"
        "from hpc_flows.task_runners import ProcessPoolTaskRunner\n"
        "@dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "def double(x): return Point(2 * x)\n"
        "@task\n"
        "def work(x): return double(x)\n"
        "@flow(task_runner=ProcessPoolTaskRunner(2))\n"
        "def main(): return work.map([1, 2])\n"
        "print(main())\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "HPC_FLOWS_HOME": str(home)},
    )
    assert done.stdout == "[Point(x=2), Point(x=4)]\n"


def test_the_threads_of_what_a_call_has_submitted_end_with_it() -> None:
    @task
    def inner(x: int) -> int:
        return x

    @task
    def outer(x: int) -> int:
        deadline = time.monotonic() + 60
        while threading.active_count() > 1 and time.monotonic() < deadline:
            time.sleep(0.01)  # they go when they are next given the processor
        found = threading.active_count()
        inner.map([x, x]).wait()
        return found

    @flow(task_runner=one_process)
    def main() -> list[int]:
        return outer.map([1, 2, 3]).result()

    assert main() == [1, 1, 1]


_ORPHAN = """
import socket, sys, time
from hpc_flows.task_runners.orphans import Orphanhood

ours, theirs = socket.socketpair()
orphanhood = Orphanhood(ours)
theirs.close()
time.sleep(0.5)
orphanhood.is_busy = True
time.sleep(120)
sys.exit(3)
"""


def test_a_worker_does_not_compute_what_came_just_before_its_flow_died() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _ORPHAN], start_new_session=True, check=False, timeout=300
    )
    assert ended.returncode == 1
