"""Shell commands in the jobs of a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import Resources, flow, task
from hpc_flows.exceptions import ShellError, TaskRunTimeoutError
from hpc_flows.journal.reader import read_run
from hpc_flows.shell import ShellOperation, shell_run_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SMALL = Resources(cpus=1, memory="100MB", walltime="5m")


@pytest.fixture(autouse=True)
def mock(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "mock")
    yield
    stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(home)]
    subprocess.run(stop, capture_output=True, timeout=60, check=False)


def test_commands_run_in_the_job_and_their_lines_are_its_log(home: Path) -> None:
    @task(resources=SMALL)
    def solve(size: int) -> str:
        commands = ['echo "solving $SIZE"', 'echo "job ${SLURM_JOB_ID:+there}"']
        return str(ShellOperation(commands, env={"SIZE": str(size)})())

    @flow
    def study() -> list[str]:
        return list(solve.map([1, 2]).result())

    assert study() == ["solving 1\njob there", "solving 2\njob there"]
    (run,) = home.glob("runs/*")
    logged = [event for event in read_run(str(run)) if event.kind == "log"]
    assert {"solving 1", "solving 2"} <= {event.data["message"] for event in logged}


def test_a_command_task_can_be_given_resources() -> None:
    @flow
    def study() -> Any:
        return (
            shell_run_command.with_options(resources=SMALL).submit('echo "$SLURM_JOB_ID"').result()
        )

    assert study().isdecimal()


def test_what_a_command_printed_in_a_job_is_in_the_error() -> None:
    @task(resources=SMALL)
    def fails() -> None:
        ShellOperation(["ls this/is/invalid"])()

    @flow
    def study() -> None:
        fails()

    with pytest.raises(ShellError, match="No such file or directory") as caught:
        study()
    assert caught.value.command == "ls this/is/invalid"


def test_the_time_limit_of_a_task_in_a_job_ends_its_commands(tmp_path: Path) -> None:
    @task(resources=SMALL, timeout_seconds=2)
    def slow(pid: str) -> None:
        ShellOperation(['echo $$ > "$PID"', "sleep 300"], env={"PID": pid})()

    @flow
    def study() -> None:
        slow(str(tmp_path / "pid"))

    with pytest.raises(TaskRunTimeoutError):
        study()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
