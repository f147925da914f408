"""What the first users read: the programs of four pages run, with only the import lines changed.

The pages are the quickstart of a university's workflow course, a Prefect tutorial, the entry of a
package registry and the page of a skill. The programs are our own; they use the same lines of
Prefect's API together. Each of them runs alone, with a cluster active, and with resources put on
its tasks.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from hpc_flows import Flow, flow
from hpc_flows.journal.reader import read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"

#: Seconds for one program with all its jobs on a machine under load.
PATIENCE = 150


class Program(NamedTuple):
    """What a program prints, line by line, and what its tasks print without `log_prints`."""

    prints: str
    in_tasks: tuple[str, ...] = ()


EXPECTED = {
    "quickstart_numbers": Program("product=54 average=5.0"),
    "quickstart_concurrent": Program(
        """
        product=54 average=5.0
        number: 4
        total=5 double=8
        """,
        in_tasks=("number: 4",),
    ),
    "quickstart_timeouts": Program(
        """
        loaded [2, 4, 6]
        result=3
        failed=True
        TaskRunTimeoutError: Task run exceeded timeout of 1.0 second(s)
        """,
        in_tasks=("loaded [2, 4, 6]",),
    ),
    "quickstart_retries": Program(
        """
        worked at try 3
        in vain: no way
        """
    ),
    "quickstart_caching": Program(
        """
        [12, 12, 18]
        extract database
        transform 2
        load [2, 4, 6]
        load [2, 4, 6]
        transform 3
        load [3, 6, 9]
        """
    ),
    "quickstart_events": Program(
        """
        total=3
        failed: too large
        """
    ),
    "quickstart_shell": Program(
        """
        greeting: Good morning
        lines.txt has 3 lines
        here: lines.txt
        colour: deep blue
        {'answer': 'Good morning', 'lines': 3, 'colour': 'deep blue'}
        """
    ),
    "quickstart_shell_advanced": Program(
        """
        stopped: True
        build: ['work', 'a', 'warning']
        chain: ['step', '1', 'step', '2', 'made']
        tolerant: ['before', 'after']
        """
    ),
    "quickstart_definition": Program(
        """
        workflow
        Copy something, up to a limit.
        ['limit', 'source']
        ['source']
        ['x', 'x']
        """
    ),
    "demo_hello": Program(
        """
        Hello, flow!
        hello, world!
        hello, world at once!
        """
    ),
    "demo_data": Program(
        """
        skipped: no record of 2
        saved 608 of 3 sources
        """
    ),
    "registry_basics": Program(
        """
        parent ended as Completed: parent-of-2
        [['50 records of db0'], ['50 records of db1']]
        [0, 1, 2]
        """
    ),
    "registry_states": Program(
        """
        Completed COMPLETED True All states completed.
        Failed FAILED True 1/1 states failed.
        Completed('fine') 5
        [3, 0, [10, 20, 30]] FailedRun True
        """
    ),
    "registry_context": Program(
        """
        none
        (('name-of-7', 'around', 'name-of-7'), 'blue')
        result.txt is no good; left: False
        [9, 9, 16]
        ['3', '4']
        """
    ),
    "skill_flow": Program(
        """
        {'status': 'success', 'data': {'x': 42}}
        {'status': 'success', 'data': {'x': 42}}
        """
    ),
}
#: Programs without tasks.
TASKLESS = {"quickstart_shell", "quickstart_shell_advanced", "quickstart_definition"}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def _run(program: str, folder: Path, home: Path, *, resources: bool = False) -> list[str]:
    """Return the lines that a program prints."""
    folder.mkdir(exist_ok=True)
    runner = [str(HERE / "with_resources.py")] if resources else []
    done = subprocess.run(
        [sys.executable, "-W", "error", *runner, str(PROGRAMS / f"{program}.py")],
        cwd=folder,
        env=os.environ | {"HPC_FLOWS_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def _written_by_jobs(home: Path) -> set[str]:
    """Return the lines of the output files of all jobs."""
    files = [path for path in home.glob("runs/*/jobs/**/*") if path.is_file()]
    return {line for path in files for line in path.read_text(errors="replace").splitlines()}


def _jobs(home: Path) -> int:
    runs = [read_run(str(path)) for path in home.glob("runs/*")]
    return sum(event.kind == "job-intent" for run in runs for event in run)


@pytest.fixture
def mock(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "mock")
    yield
    stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(home)]
    subprocess.run(stop, capture_output=True, timeout=60, check=False)


def test_every_program_has_its_expected_lines() -> None:
    assert {path.stem for path in PROGRAMS.glob("*.py")} == EXPECTED.keys()


@pytest.mark.parametrize("program", EXPECTED)
def test_only_import_lines_differ_from_prefect(program: str) -> None:
    lines = (PROGRAMS / f"{program}.py").read_text().splitlines()
    named = [line for line in lines if "hpc_flows" in line]
    assert named
    assert all(re.match(r"from hpc_flows(\.\w+)* import ", line) for line in named)


@pytest.mark.parametrize("program", EXPECTED)
def test_it_runs_alone(program: str, tmp_path: Path, home: Path) -> None:
    assert _run(program, tmp_path / "here", home) == _lines(EXPECTED[program].prints)


@pytest.mark.usefixtures("mock")
@pytest.mark.parametrize("program", EXPECTED)
def test_it_runs_with_a_cluster_active(program: str, tmp_path: Path, home: Path) -> None:
    assert _run(program, tmp_path / "here", home) == _lines(EXPECTED[program].prints)
    assert _jobs(home) == 0


@pytest.mark.usefixtures("mock")
@pytest.mark.parametrize("program", [name for name in EXPECTED if name not in TASKLESS])
def test_its_tasks_run_as_jobs_once_they_have_resources(
    program: str, tmp_path: Path, home: Path
) -> None:
    expected = EXPECTED[program]
    printed = _run(program, tmp_path / "here", home, resources=True)
    assert printed == [line for line in _lines(expected.prints) if line not in expected.in_tasks]
    assert set(expected.in_tasks) <= _written_by_jobs(home), "a job's print is in its output"
    assert _jobs(home) > 0


class Later(NamedTuple):
    """A part of the pages that belongs to a later issue."""

    page: str
    line: str
    reason: str
    is_absent: Callable[[], bool]


def _no_module(name: str) -> Callable[[], bool]:
    def look() -> bool:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            return True
        return False

    return look


@flow
def _a_flow() -> None:
    """Do nothing."""


def _no_method(name: str) -> Callable[[], bool]:
    return lambda: not hasattr(_a_flow, name) and not hasattr(Flow, name)


LATER = [
    Later(
        "quickstart",
        "from prefect.deployments import Deployment; .build_from_flow(...).to_yaml()",
        "deployments",
        _no_module("hpc_flows.deployments"),
    ),
    Later(
        "tutorial", "prefect deploy hello_flow.py:hello_flow", "deployments", _no_method("deploy")
    ),
    Later("registry", "flow.serve(name=..., cron=...)", "deployments", _no_method("serve")),
    Later(
        "skill",
        "from prefect.blocks.system import Secret, JSON",
        "blocks",
        _no_module("hpc_flows.blocks"),
    ),
    Later("skill", "prefect worker start --pool", "work pools", _no_module("hpc_flows.workers")),
]


@pytest.mark.parametrize("part", LATER, ids=lambda part: f"{part.page}: {part.line}")
def test_what_comes_later_is_not_pretended_to_be_there(part: Later) -> None:
    assert part.is_absent(), f"{part.line} has come: give it a program, and take it off this list"
    assert part.reason


def test_what_comes_later_is_told_where_users_look() -> None:
    page = (HERE.parent.parent / "docs" / "from_prefect.md").read_text()
    missing = [name for name in ("Deployment", "serve", "blocks", "worker") if name not in page]
    assert not missing
