"""`hpc-flows gcl` and `hpc-flows concurrency-limit`: what they say is what flows go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_process import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOWS = """
import subprocess
import sys

from hpc_flows import flow, task
from hpc_flows.concurrency.sync import concurrency

def hpc_flows(*words):
    command = [sys.executable, "-m", "hpc_flows", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

@task
def solve():
    with concurrency("comsol", occupy=3, strict=True):
        print(hpc_flows("gcl", "inspect", "comsol"))
        print(hpc_flows("gcl", "ls"))

@task(tags=["solver"])
def tagged():
    print(hpc_flows("concurrency-limit", "inspect", "solver"))

@flow
def solving():
    solve()
    tagged()
"""


@pytest.fixture
def shell(home: Path, tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, {"HPC_FLOWS_HOME": str(home)}) as shell:
        shell.write("solving_flow.py", FLOWS)
        yield shell


def test_limits_say_who_holds_their_slots(shell: Shell) -> None:
    shell.good("gcl", "create", "comsol", "--limit", "4")
    shell.good("concurrency-limit", "create", "solver", "1")
    said = shell.good("run", "solving_flow.py")
    assert "comsol: 3 of 4 slots taken\n" in said
    assert "(solve-" in said
    assert "comsol  4      3      0        yes" in said
    assert "solver: 1 of 1 slots taken\n" in said
    assert "(tagged-" in said
    assert shell.json("gcl", "inspect", "comsol")["holders"] == []


def test_a_limit_that_is_not_there_stops_a_strict_flow_and_names_the_nearest(shell: Shell) -> None:
    shell.good("gcl", "create", "consol", "--limit", "4")
    done = shell.run("run", "solving_flow.py")
    assert done.returncode == 1
    assert "Did you mean 'consol'?" in done.stderr + done.stdout


def test_global_limits_are_created_changed_switched_off_and_deleted(shell: Shell) -> None:
    assert "no limits yet" in shell.good("gcl", "ls")
    shell.good("gcl", "create", "api", "-l", "2", "--slot-decay-per-second", "0.5")
    assert shell.run("gcl", "create", "api", "-l", "3").returncode == 1
    shell.good("gcl", "update", "api", "--limit", "3")
    shell.good("gcl", "disable", "api")
    (limit,) = shell.json("gcl", "ls")
    assert (limit["limit"], limit["active"], limit["slot_decay_per_second"]) == (3, False, 0.5)
    assert "disabled" in shell.good("gcl", "inspect", "api")
    shell.good("gcl", "enable", "api")
    assert "0.5 come back each second" in shell.good("gcl", "inspect", "api")
    assert shell.good("gcl", "reset", "api").startswith("Freed 0 slot(s)")
    assert shell.run("gcl", "update", "api").returncode == 2
    shell.good("gcl", "delete", "api")
    missing = shell.run("gcl", "inspect", "api")
    assert missing.returncode == 1
    assert "hpc-flows gcl create api --limit N" in missing.stderr


def test_limits_of_tags_are_created_replaced_and_deleted(shell: Shell) -> None:
    assert "No tag has a limit yet" in shell.good("concurrency-limit", "ls")
    shell.good("concurrency-limit", "create", "gpu", "1")
    shell.good("concurrency-limit", "create", "gpu", "2")
    (limit,) = shell.json("concurrency-limit", "ls")
    assert (limit["tag"], limit["limit"], limit["holders"]) == ("gpu", 2, [])
    assert shell.json("concurrency-limit", "inspect", "gpu")["limit"] == 2
    assert shell.json("gcl", "ls") == [], "they are a kind of their own"
    wrong = shell.run("concurrency-limit", "inspect", "gpuu")
    assert "Did you mean 'gpu'?" in wrong.stderr
    shell.good("concurrency-limit", "reset", "gpu")
    shell.good("concurrency-limit", "delete", "gpu")
    assert shell.run("concurrency-limit", "delete", "gpu").returncode == 1


def test_json_is_also_spelt_as_in_prefect(shell: Shell) -> None:
    shell.good("gcl", "create", "comsol", "--limit", "4")
    assert shell.good("gcl", "ls", "-o", "json") == shell.good("gcl", "ls", "--json")
