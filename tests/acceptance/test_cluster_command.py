"""`hpc-flows cluster`, against clusters that answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cli_process import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLOWS = """
from hpc_flows import Resources, flow, task

@task(resources=Resources(cpus=2, memory="1GB", walltime="10m"))
def train(fold):
    return fold

@flow
def cross_validate():
    return train.map(range(2)).result()
"""


@pytest.fixture
def shell(home: Path, tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, {"HPC_FLOWS_HOME": str(home)}) as shell:
        shell.write("training.py", FLOWS)
        yield shell


def test_a_live_cluster_that_is_as_its_profile_says_checks_well(shell: Shell, cluster: str) -> None:
    if cluster == "mock":
        shell.good("mock", "start")
    found = {made["about"]: made for made in shell.json("cluster", "check")["checks"]}
    assert found["commands"]["verdict"] == "good"
    assert found["scheduler"]["verdict"] == "good"
    assert "slurm 2" in found["scheduler"]["found"]
    assert found["home"]["verdict"] == "good"


def test_a_profile_that_is_wrong_is_told_from_the_live_cluster(
    shell: Shell, home: Path, mock_cluster: str
) -> None:
    shell.good("mock", "start")
    path = home / "clusters" / "wrong.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('extends = "mock"\n[partitions.standard]\nmax_walltime = "9-00:00:00"\n')
    found = shell.json("cluster", "check", "wrong")["checks"]
    told = [made["found"] for made in found if made["verdict"] == "warning"]
    assert any("standard" in text and "walltime" in text for text in told), told


def test_the_script_that_is_shown_is_the_one_that_is_submitted(
    shell: Shell, home: Path, mock_cluster: str
) -> None:
    shown = shell.good("cluster", "script", "training.py", "train", "--count", "2")
    shell.good("run", "training.py:cross_validate")
    [path] = home.glob("runs/*/jobs/*/script.sh")
    run_dir, token = str(path.parents[2]), path.parent.name
    assert shown.replace("RUN_DIR", run_dir).replace("TOKEN", token) == path.read_text()


def test_nothing_is_submitted_by_looking(shell: Shell, mock_cluster: str) -> None:
    shell.good("mock", "start")
    shell.good("cluster", "script", "training.py", "train")
    shell.good("cluster", "check")
    assert shell.json("mock", "status")["mock"]["jobs"] == {}
    assert shell.json("runs", "ls") == []
