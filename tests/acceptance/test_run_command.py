"""`hpc-flows run`, on threads, on the mock cluster and on real Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from cli_process import Shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FLOWS = """
import os, time
from hpc_flows import Resources, flow, task, get_run_logger

@task
def square(n):
    return n * n

@task(resources=Resources(cpus=1, memory="100MB", walltime="5m"))
def measured(n, seconds=0.0):
    time.sleep(seconds)
    get_run_logger().info("measured in job %s", os.environ.get("SLURM_JOB_ID"))
    return n * n, os.environ.get("SLURM_JOB_ID")

@flow
def sums(count: int = 4):
    print("the sum is", sum(square.map(range(count)).result()))

@flow
async def later(count: int = 4):
    print("later", square(count))

@flow
def on_cluster(count: int = 3, seconds: float = 0.0):
    found = measured.map(range(count), seconds).result()
    print("jobs", len({job for _, job in found if job}))
    return found

@flow
def broken():
    return {}["nothing"]

@flow
def asks_too_much():
    return measured.with_options(resources={"memory": "2TB"})(1)
"""


@pytest.fixture
def shell(home: Path, tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, {"HPC_FLOWS_HOME": str(home)}) as shell:
        shell.write("some_flows.py", FLOWS)
        yield shell


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_a_flow_runs_with_parameters_and_its_run_can_be_seen(shell: Shell) -> None:
    done = shell.run("run", "some_flows.py:sums", "-p", "count=5")
    assert done.returncode == 0
    assert done.stdout == "the sum is 30\n"
    assert "completed" in done.stderr
    assert "5 task runs: 5 done" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert [run["flow"] for run in shell.json("runs", "ls")] == ["sums"]


def test_an_async_flow_runs(shell: Shell) -> None:
    assert shell.good("run", "some_flows.py:later") == "later 16\n"


def test_a_flow_that_raises_shows_the_users_own_lines_and_fails(shell: Shell) -> None:
    done = shell.run("run", "some_flows.py:broken")
    assert done.returncode == 1
    assert 'return {}["nothing"]' in done.stderr
    assert "failed" in done.stderr
    assert "KeyError: 'nothing'" in done.stderr.splitlines()[-3]


def test_a_wrong_parameter_is_told_by_name_and_value(shell: Shell) -> None:
    done = shell.run("run", "some_flows.py:sums", "-p", "count=many")
    assert done.returncode == 1
    assert "count" in done.stderr
    assert "'many'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["some_flows.py:smus"], "Did you mean 'sums'?"),
        (["some_flow.py:sums"], "Did you mean 'some_flows.py'?"),
        (["some_flows.py:sums", "-p", "cuont=3"], "Did you mean 'count'?"),
        (["some_flows.py:sums", "--cluster", "mokc"], "Did you mean 'mock'?"),
        (["some_flows.py:sums", "--clutser", "mock"], "--cluster"),
        (["some_flows.py:sums", "--cluster", "mock", "--local"], "exclude"),
    ],
)
def test_typos_are_answered_before_anything_runs(
    arguments: list[str], told: str, shell: Shell
) -> None:
    done = shell.run("run", *arguments)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert shell.json("runs", "ls") == []


def test_a_file_that_cannot_be_imported_shows_where(shell: Shell) -> None:
    shell.write("torn.py", "from hpc_flows import flow\nx = nothing_of_that_name\n")
    done = shell.run("run", "torn.py:x")
    assert done.returncode == 1
    assert "nothing_of_that_name" in done.stderr
    assert 'torn.py", line 2' in done.stderr
    assert "importlib" not in done.stderr


def test_tasks_with_resources_run_as_jobs_of_the_cluster(shell: Shell, cluster: str) -> None:
    done = shell.run("run", "some_flows.py:on_cluster", timeout=170)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "jobs 3\n"
    shown = shell.json("runs", "show", "latest")
    assert [len(job["task_runs"]) for job in shown["jobs"]] == [3]
    assert all(each["node"] for each in shown["task_runs"])
    logs = shell.good("runs", "logs", "latest", "--task", "measured")
    assert logs.count("measured in job") == 3


def test_what_no_partition_holds_is_refused_in_one_clear_message(
    shell: Shell, mock_cluster: str
) -> None:
    done = shell.run("run", "some_flows.py:asks_too_much")
    assert done.returncode == 1
    assert "DoesNotFit" in done.stderr.splitlines()[-3]
    assert "largemem" in done.stderr


def test_local_keeps_a_run_off_the_active_cluster(shell: Shell, mock_cluster: str) -> None:
    assert shell.good("run", "some_flows.py:on_cluster", "--local") == "jobs 0\n"


def test_another_scheduler_on_path_does_not_get_the_jobs_of_the_mock(
    shell: Shell, tmp_path: Path, mock_cluster: str
) -> None:
    # A machine with a real Slurm, and a mock that was never started.
    wrong = tmp_path / "real"
    wrong.mkdir()
    for name in ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun"):
        command = wrong / name
        command.write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/asked\nexit 0\n")
        command.chmod(0o755)
    shell.environment["PATH"] = f"{wrong}{os.pathsep}{os.environ['PATH']}"
    assert shell.good("run", "some_flows.py:on_cluster") == "jobs 3\n"
    assert not (tmp_path / "asked").exists()


def test_ctrl_c_cancels_the_jobs_and_says_so(shell: Shell, mock_cluster: str) -> None:
    arguments = ("run", "some_flows.py:on_cluster", "-p", "seconds=300")
    process = shell.start(*arguments, start_new_session=True)

    def is_running() -> bool:
        done = shell.run("mock", "shell", "mock", "squeue", "-h", "-t", "R")
        return done.returncode == 0 and len(done.stdout.splitlines()) == 3

    wait_for(is_running)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=150)
    assert process.returncode == 130
    assert "cancelled after" in err
    assert "3 cancelled" in err
    left = shell.good("mock", "shell", "mock", "squeue", "-h", "-t", "R,PD")
    assert left == ""


def test_progress_is_drawn_on_a_terminal_and_nothing_is_left_of_it(
    shell: Shell, tmp_path: Path
) -> None:
    # `script` gives the command a terminal of its own.
    command = f"{sys.executable} -m hpc_flows run some_flows.py:sums"
    done = subprocess.run(
        ["/usr/bin/script", "-qec", command, str(tmp_path / "typescript")],
        capture_output=True,
        text=True,
        cwd=shell.folder,
        env={**os.environ, **shell.environment, "TERM": "xterm-256color", "COLUMNS": "60"},
        timeout=150,
        check=False,
    )
    assert done.returncode == 0
    assert "the sum is 14" in done.stdout
    assert "square" in done.stdout
    assert "4/4" in done.stdout
    assert done.stdout.count("\x1b[?25l") == done.stdout.count("\x1b[?25h") > 0
