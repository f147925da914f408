"""`hpc-flows cluster`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows.cli import cluster_check
from hpc_flows.cli.cluster_check import Verdict, all_checks
from hpc_flows.cli.main import invoke
from hpc_flows.clusters import Cluster
from hpc_flows.exceptions import SchedulerUnavailable
from hpc_flows.schedulers.base import PartitionInfo, SchedulerInfo

if TYPE_CHECKING:
    from pathlib import Path

    Capture = pytest.CaptureFixture[str]

PROFILE = """
title = "A cluster of this test"
scheduler = "slurm"
verified_on = 2026-11-01
default_partition = "small"
[limits]
max_array_size = 1001
[partitions.small]
max_walltime = "01:00:00"
cpus_per_node = 4
memory_per_node = "16G"
"""

FLOWS = """
from hpc_flows import Resources, flow, task

@task(resources=Resources(cpus=2, memory="1GB"))
def train(fold): ...

@task
def summarise(scores): ...
"""


@pytest.fixture
def lab(home: Path) -> Path:
    path = home / "clusters" / "lab.toml"
    path.parent.mkdir(parents=True)
    path.write_text(PROFILE)
    return path


def out(capsys: Capture, *arguments: str) -> str:
    assert invoke(list(arguments)) == 0
    return capsys.readouterr().out


def test_clusters_of_ones_own_are_listed_and_the_active_one_is_marked(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "lab")
    rows = json.loads(out(capsys, "cluster", "ls", "--json"))
    mine = next(row for row in rows if row["name"] == "lab")
    assert mine["active"]
    assert mine["file"] == str(lab)
    assert {"mock", "afton"} <= {row["name"] for row in rows}


def test_a_broken_profile_does_not_hide_the_others(lab: Path, capsys: Capture) -> None:
    lab.write_text("partitions = 3")
    listed = out(capsys, "cluster", "ls")
    assert "mock" in listed
    assert "lab.toml" in listed


def test_show_has_partitions_and_limits(lab: Path, capsys: Capture) -> None:
    shown = out(capsys, "cluster", "show", "lab")
    assert "A cluster of this test" in shown
    assert "1001 elements" in shown
    row = next(line for line in shown.splitlines() if line.startswith("small"))
    assert row.split()[1:5] == ["01:00:00", "-", "4", "16G"]


def test_show_says_where_facts_come_from(capsys: Capture) -> None:
    assert "data/service.yaml" in out(capsys, "cluster", "show", "afton", "--sources")


def test_show_as_json_is_the_whole_profile(lab: Path, capsys: Capture) -> None:
    shown = json.loads(out(capsys, "cluster", "show", "lab", "--json"))
    assert shown["partitions"]["small"]["memory_per_node"] == 16 * 2**30


def test_without_a_name_the_active_cluster_is_shown(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert invoke(["cluster", "show"]) == 2
    assert "config set cluster NAME" in capsys.readouterr().err
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "lab")
    assert "A cluster of this test" in out(capsys, "cluster", "show")


class FakeScheduler:
    """Answers `describe` with what a test puts here."""

    def __init__(self, info: SchedulerInfo | Exception) -> None:
        self.info = info

    def describe(self) -> SchedulerInfo:
        if isinstance(self.info, Exception):
            raise self.info
        return self.info


def checks(monkeypatch: pytest.MonkeyPatch, info: SchedulerInfo | Exception) -> dict[str, Any]:
    monkeypatch.setattr(cluster_check, "open_scheduler", lambda _cluster: FakeScheduler(info))
    monkeypatch.setattr(cluster_check.shutil, "which", lambda name, path: f"/opt/{name}")
    return {made.about: made for made in all_checks(Cluster.load("lab"))}


def small(**changes: Any) -> SchedulerInfo:
    known = {"max_walltime": 3600, "cpus_per_node": 4, "memory_per_node": 16 * 2**30}
    partition = PartitionInfo("small", **{**known, **changes})
    return SchedulerInfo(
        "slurm", "22.05.8", max_array_size=1001, accounting=True, partitions={"small": partition}
    )


def test_a_cluster_that_is_as_its_profile_says_is_good(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checks(monkeypatch, small())
    assert {made.verdict for made in found.values()} == {Verdict.GOOD}
    assert "22.05.8" in found["scheduler"].found


def test_a_limit_that_differs_is_named_with_both_values(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checks(monkeypatch, small(max_walltime=60))
    assert found["limits"].verdict is Verdict.WARNING
    assert "01:00:00" in found["limits"].found
    assert "00:01:00" in found["limits"].found


def test_a_site_without_accounting_is_warned_of(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = SchedulerInfo("slurm", "22.05.8", forgets_after=300, partitions=small().partitions)
    found = checks(monkeypatch, info)
    assert found["accounting"].verdict is Verdict.WARNING
    assert "5 m" in found["accounting"].found


def test_a_scheduler_that_does_not_answer_is_bad(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = checks(monkeypatch, SchedulerUnavailable("slurmctld is down."))
    assert found["scheduler"].verdict is Verdict.BAD
    assert "slurmctld is down." in found["scheduler"].found


def test_missing_commands_are_named_and_fail_the_check(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert invoke(["cluster", "check", "lab"]) == 1
    told = capsys.readouterr().out
    assert "sbatch" in told
    assert "not on PATH" in told
    assert "1 thing to mend" in told


def test_a_pretend_cluster_is_not_mistaken_for_a_real_one_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for name in ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun"):
        command = tmp_path / name
        command.write_text("#!/bin/sh\nexit 0\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert invoke(["cluster", "check", "mock"]) == 1
    assert "mock was never started" in capsys.readouterr().out


def test_an_interpreter_that_is_not_here_is_a_warning(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write_text('python = "/no/such/python3"\n' + PROFILE)
    assert checks(monkeypatch, small())["python"].verdict is Verdict.WARNING
    lab.write_text(f'python = "{sys.executable}"\n' + PROFILE)
    assert checks(monkeypatch, small())["python"].verdict is Verdict.GOOD


def test_a_home_that_cannot_be_written_is_bad(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_check.os, "access", lambda *_: False)
    assert checks(monkeypatch, small())["home"].verdict is Verdict.BAD


def test_the_check_as_json_gives_the_verdicts(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert invoke(["cluster", "check", "lab", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {"about", "verdict", "found"} == set(found["checks"][0])
    assert "bad" in [made["verdict"] for made in found["checks"]]


@pytest.fixture
def flows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / f"script_flows_{tmp_path.name.replace('-', '_')}.py"
    path.write_text(FLOWS)
    return str(path)


def test_a_script_is_printed_with_what_the_task_asks_for(
    lab: Path, flows: str, capsys: Capture
) -> None:
    text = out(capsys, "cluster", "script", flows, "train", "--cluster", "lab")
    assert "#SBATCH --cpus-per-task=2" in text
    assert "#SBATCH --mem=1024M" in text
    assert "#SBATCH --partition=small" in text


def test_resources_for_the_script_may_be_added(lab: Path, flows: str, capsys: Capture) -> None:
    more = ["-r", "cpus=4", "-r", "walltime=20m", "--count", "7"]
    text = out(capsys, "cluster", "script", flows, "train", "--cluster", "lab", *more)
    assert "#SBATCH --cpus-per-task=4" in text
    assert "#SBATCH --time=00:20:00" in text
    assert "#SBATCH --array=0-6" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tran"], "Did you mean 'train'?"),
        (["summarise"], "asks for no resources"),
        (["train", "-r", "cpu=4"], "Did you mean 'cpus'?"),
        (["train", "-r", "cpus"], "name=value"),
        (["train", "-r", "memory=64G"], "small"),
        (["train", "--cluster", "lbb"], "Did you mean 'lab'?"),
    ],
)
def test_scripts_that_cannot_be_are_refused(
    arguments: list[str], told: str, lab: Path, flows: str, capsys: Capture
) -> None:
    assert invoke(["cluster", "script", flows, "--cluster", "lab", *arguments]) != 0
    assert told in capsys.readouterr().err
