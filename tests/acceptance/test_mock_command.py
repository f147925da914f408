"""`hpc-flows mock`, with mocks that really run."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from cli_process import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def shell(home: Path, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path, {"HPC_FLOWS_HOME": str(home), "SHELL": "/bin/sh"})
    yield shell
    for name in shell.json("mock", "status"):
        shell.run("mock", "stop", name)


def is_gone(pid: int) -> bool:
    for _ in range(3000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_mock_is_started_used_and_stopped(shell: Shell) -> None:
    assert "mock started" in shell.good("mock", "start")
    assert "runs already" in shell.good("mock", "start")
    assert "standard" in shell.good("mock", "shell", "mock", "sinfo")
    pid = shell.json("mock", "status")["mock"]["pid"]
    assert "stopped" in shell.good("mock", "stop")
    assert is_gone(pid)
    assert shell.run("mock", "status", "mock").returncode == 1


def test_a_mock_plays_another_cluster_and_becomes_a_cluster_itself(shell: Shell) -> None:
    assert "mock-afton started" in shell.good("mock", "start", "--profile", "afton")
    assert "mock-afton" in {row["name"] for row in shell.json("cluster", "ls")}
    found = shell.json("cluster", "check", "mock-afton")["checks"]
    assert {made["verdict"] for made in found} == {"good"}
    shown = shell.json("cluster", "show", "mock-afton")
    assert shown["required"] == ["partition", "account"]
    assert shown["defaults"]["account"]


def test_several_mocks_live_beside_each_other(shell: Shell) -> None:
    shell.good("mock", "start")
    shell.good("mock", "start", "--name", "other", "--slurm", "24.11.5")
    running = shell.json("mock", "status")
    assert set(running) == {"mock", "other"}
    assert running["other"]["version"] == "24.11.5"
    assert "24.11.5" in shell.good("mock", "shell", "other", "sinfo", "--version")


def test_the_shell_of_a_mock_gives_its_commands_and_its_exit_status(shell: Shell) -> None:
    shell.good("mock", "start")
    script = 'command -v sbatch; echo "$HPC_FLOWS_CLUSTER"; exit 7'
    done = shell.run("mock", "shell", "mock", "sh", "-c", script)
    assert done.returncode == 7
    assert "/mock/mock/bin/sbatch" in done.stdout
    assert done.stdout.splitlines()[1] == "mock"


def test_faults_are_scripted_and_counted(shell: Shell) -> None:
    shell.good("mock", "start")
    shell.good("mock", "faults", "add", "refuse", 'commands=["squeue"]', "times=1")
    assert shell.run("mock", "shell", "mock", "squeue").returncode != 0
    assert shell.run("mock", "shell", "mock", "squeue").returncode == 0
    assert shell.json("mock", "faults", "show")["fault"][0]["fired"] == 1
    assert "No faults" in shell.good("mock", "faults", "clear")
    shell.write("faults.toml", '[[fault]]\nkind = "accounting_late"\nseconds = 9\n')
    assert "accounting_late" in shell.good("mock", "faults", "set", "faults.toml")
    assert "node_dies" in shell.good("mock", "faults", "add")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mock", "start", "--profile", "aftn"], "Did you mean 'afton'?"),
        (["mock", "start", "--name", "afton"], "hpc-flows mock start --profile afton"),
        (["mock", "start", "--set", "dbd_lg=3"], "dbd_lag"),
        (["mock", "start", "--set", "dbd_lag"], "NAME=SECONDS"),
        (["mock", "stop", "nothing"], "hpc-flows mock start"),
        (["mock", "shell"], "hpc-flows mock start"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(
    arguments: list[str], told: str, shell: Shell
) -> None:
    done = shell.run(*arguments)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_fault_is_answered_with_the_nearest(shell: Shell) -> None:
    shell.good("mock", "start")
    done = shell.run("mock", "faults", "add", "sbatch_time_out")
    assert "sbatch_times_out" in done.stderr


def test_a_cluster_of_ones_own_is_not_written_over(shell: Shell, home: Path) -> None:
    own = home / "clusters" / "mock-afton.toml"
    own.parent.mkdir(parents=True)
    own.write_text('extends = "afton"\n')
    done = shell.run("mock", "start", "--profile", "afton")
    assert done.returncode == 1
    assert "of your own" in done.stderr
    assert own.read_text() == 'extends = "afton"\n'
