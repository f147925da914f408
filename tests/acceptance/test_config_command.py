"""`hpc-flows config`: what is stored is what flows go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_process import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOWS = """
from hpc_flows import flow, task

tries = []

@task
def shaky():
    tries.append(1)
    if len(tries) < 3:
        raise OSError("not yet")
    return len(tries)

@flow
def shaking():
    print("tries", shaky())
"""


@pytest.fixture
def shell(home: Path, tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, {"HPC_FLOWS_HOME": str(home)}) as shell:
        shell.write("shaking_flow.py", FLOWS)
        yield shell


def test_a_stored_setting_changes_what_flows_do(shell: Shell) -> None:
    assert shell.run("run", "shaking_flow.py").returncode == 1
    shell.good("config", "set", "task_default_retries", "2")
    assert shell.good("run", "shaking_flow.py") == "tries 3\n"
    shell.good("config", "unset", "task_default_retries")
    assert shell.run("run", "shaking_flow.py").returncode == 1


def test_a_stored_cluster_is_the_active_one(shell: Shell) -> None:
    shell.good("config", "set", "cluster", "delftblue")
    assert [r["name"] for r in shell.json("cluster", "ls") if r["active"]] == ["delftblue"]
    assert "DelftBlue" in shell.good("cluster", "show")


def test_profiles_hold_settings_apart(shell: Shell) -> None:
    shell.good("config", "set", "cluster", "mock")
    shell.write("hpc_flows_home/profiles.toml", 'active = "b"\n[profiles.b]\nlog_level = "ERROR"\n')
    view = shell.json("config", "view")
    assert view["profile"] == "b"
    assert view["settings"]["cluster"]["value"] is None
    assert view["settings"]["log_level"]["value"] == "ERROR"


def test_a_profiles_file_that_is_broken_is_named(shell: Shell, home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "profiles.toml").write_text("cluster = [")
    done = shell.run("config", "view")
    assert done.returncode == 1
    assert "profiles.toml" in done.stderr
    assert "Traceback" not in done.stderr
