"""`hpc-flows runs`, on runs that were really made."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from cli_process import Shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FLOWS = """
import time
from hpc_flows import Resources, flow, task

@task(resources=Resources(cpus=1, memory="100MB", walltime="5m"))
def nap(n, seconds=300.0):
    time.sleep(seconds)
    return n

@task(resources=Resources(cpus=1, memory="200MB", walltime="5m"), retries=0)
def fail(n):
    raise OSError(f"no file number {n}")

@flow
def naps(count: int = 3, seconds: float = 300.0):
    nap.map(range(count), seconds).result()

@flow
def fails():
    fail.map(range(2)).result()
"""


@pytest.fixture
def shell(home: Path, tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, {"HPC_FLOWS_HOME": str(home)}) as shell:
        shell.write("napping.py", FLOWS)
        yield shell


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def jobs(shell: Shell, states: str) -> int:
    done = shell.run("mock", "shell", "mock", "squeue", "-h", "-r", "-t", states)
    return len(done.stdout.splitlines()) if done.returncode == 0 else -1


def test_a_run_on_the_cluster_is_shown_with_its_jobs(shell: Shell, mock_cluster: str) -> None:
    shell.good("run", "napping.py:naps", "-p", "seconds=1.2")
    told = shell.good("runs", "show", "latest")
    assert "Completed" in told
    row = next(line for line in told.splitlines() if line.startswith("nap "))
    assert row.split()[:3] == ["nap", "3", "3"]
    assert "of 100M" in told
    assert "of 5 m" in told
    assert "░" in told
    assert "█" in told


def test_failures_are_shown_with_their_message(shell: Shell, mock_cluster: str) -> None:
    assert shell.run("run", "napping.py:fails").returncode == 1
    told = shell.good("runs", "show", "latest")
    assert "no file number 0" in told
    assert "no file number 1" in told
    assert "Failures" in told
    assert "no file number 1" in shell.good("runs", "logs", "latest", "--task", "fail")


def test_cancel_asks_the_driver_which_cancels_its_jobs(shell: Shell, mock_cluster: str) -> None:
    driver = shell.start("run", "napping.py:naps")
    wait_for(lambda: jobs(shell, "R") == 3)
    told = shell.good("runs", "cancel", "latest", "--reason", "wrong data")
    assert f"process {driver.pid} on this machine" in told
    assert "3 cancelled" in told
    _, err = driver.communicate(timeout=150)
    assert driver.returncode == 130
    assert "cancelled" in err
    assert jobs(shell, "R,PD") == 0
    assert "wrong data" in shell.good("runs", "logs", "latest")


def test_cancel_finds_the_jobs_of_a_driver_that_was_killed(shell: Shell, mock_cluster: str) -> None:
    driver = shell.start("run", "napping.py:naps")
    wait_for(lambda: jobs(shell, "R") == 3)
    driver.send_signal(signal.SIGKILL)
    driver.communicate(timeout=150)
    assert "driver gone" in shell.good("runs", "ls")
    told = shell.good("runs", "cancel", "latest")
    assert "is gone" in told
    assert "Cancelled 1 job" in told
    wait_for(lambda: jobs(shell, "R,PD") == 0)
    assert [run["state_name"] for run in shell.json("runs", "ls")] == ["Cancelled"]
    assert "has ended already" in shell.good("runs", "cancel", "latest")


def test_a_run_that_goes_on_can_be_watched_to_its_end(shell: Shell, mock_cluster: str) -> None:
    driver = shell.start("run", "napping.py:naps", "-p", "seconds=3")
    wait_for(lambda: bool(shell.json("runs", "ls")))
    told = shell.good("runs", "show", "latest", "--watch")
    assert "Completed" in told
    driver.communicate(timeout=150)
    assert driver.returncode == 0


def test_logs_can_be_followed_to_the_end_of_the_run(shell: Shell, mock_cluster: str) -> None:
    driver = shell.start("run", "napping.py:naps", "-p", "seconds=2")
    wait_for(lambda: bool(shell.json("runs", "ls")))
    told = shell.good("runs", "logs", "latest", "--follow")
    assert "Flow run" in told.splitlines()[-1]
    assert "Finished in state Completed()" in told.splitlines()[-1]
    driver.communicate(timeout=150)
