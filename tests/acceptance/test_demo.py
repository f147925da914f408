"""`hpc-flows demo`, and its flow on real Slurm."""

from __future__ import annotations

import csv
import os
import sysconfig
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_process import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(600)
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "stdlib_census.py"


@pytest.fixture
def shell(home: Path, tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, {"HPC_FLOWS_HOME": str(home)}) as shell:
        yield shell


def processes_of(home: Path) -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(home) in words:
                found.append(words)
    return found


def check_census(folder: Path, shown: str) -> None:
    with (folder / "census.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["package"]: row for row in csv.DictReader(file)}
    path = Path(sysconfig.get_path("stdlib")) / "this.py"
    assert int(rows["this"]["lines"]) == path.read_bytes().count(b"\n")
    assert int(rows["asyncio"]["modules"]) > 20
    assert int(rows["argparse"]["functions"]) > 50
    assert "test" not in rows
    lines = [int(row["lines"]) for row in rows.values()]
    assert lines == sorted(lines, reverse=True)
    assert f"all {len(rows)}" in shown
    tree = ET.parse(folder / "census.svg")  # noqa: S314 - the file that the flow has just written
    bars = [each for each in tree.iter() if each.tag.endswith("rect")]
    assert len(bars) == 30


def test_the_demo_runs_leaves_its_files_and_no_process(
    shell: Shell, home: Path, tmp_path: Path
) -> None:
    done = shell.run("demo", timeout=500)
    assert done.returncode == 0, done.stderr
    check_census(tmp_path / "hpc-flows-demo", done.stdout)
    assert "Timeline" in done.stdout
    assert "queued" in done.stdout
    assert "What to try next" in done.stdout
    assert processes_of(home) == []
    shown = shell.json("runs", "show", "latest")
    tasks = [run["task"] for run in shown["task_runs"]]
    assert 40 < tasks.count("measure") < 120
    asked = {str(run["resources"]) for run in shown["task_runs"] if run["resources"]}
    assert len(asked) == 3
    assert (tmp_path / "hpc-flows-demo" / EXAMPLE.name).read_text() == EXAMPLE.read_text()


def test_what_the_demo_proposes_next_works(shell: Shell, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for n in range(3):
        (project / f"m{n}.py").write_text(f"import m{(n + 1) % 3}\n")
    shown = shell.good("demo", "--source", str(project), timeout=500)
    assert "Largest import circle: 3 modules" in shown
    proposed = [line.split()[1:] for line in shown.splitlines() if line.startswith("  hpc-flows ")]
    assert len(proposed) > 4
    for words in proposed:
        shell.good(*(word.replace("PATH", str(project)) for word in words), timeout=500)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_starts(
    shell: Shell, home: Path
) -> None:
    done = shell.run("demo", "--folder", "/proc/demo")
    assert done.returncode == 1
    assert "--folder" in done.stderr
    assert not (home / "mock").exists()


@pytest.mark.slurm
@pytest.mark.usefixtures("slurm_site")
def test_the_flow_of_the_demo_runs_unchanged_on_real_slurm(shell: Shell, tmp_path: Path) -> None:
    shell.environment["HPC_FLOWS_CLUSTER"] = "generic_slurm"
    shown = shell.good("run", str(EXAMPLE), "-p", f"folder={tmp_path}", timeout=500)
    check_census(tmp_path, shown)
    jobs = shell.json("runs", "show", "latest")["jobs"]
    assert len(jobs) <= 6
    partitions = {s["partition"] for job in jobs for s in job["statuses"].values()}
    assert partitions - {None}
