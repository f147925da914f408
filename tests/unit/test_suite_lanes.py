"""The suite in lanes: nothing that a pass prints is lost, and the closing line counts them all."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from slurm_site.lanes import Passing, closing_line, counted, show, two_at_once

if TYPE_CHECKING:
    from pathlib import Path

_CODE = "import sys, time; print('a', flush=True); time.sleep(0.4); print({!r}); sys.exit({})"


def _pass(folder: Path, name: str, closing: str, status: int) -> Passing:
    log = folder / name
    with log.open("wb") as out:
        argv = [sys.executable, "-c", _CODE.format(closing, status)]
        return Passing(name, subprocess.Popen(argv, stdout=out), log)


def test_what_a_pass_prints_is_shown_to_its_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    passing = _pass(tmp_path, "one", "=== 1 failed, 3 passed in 9.12s ===", 1)
    assert show(passing) == 1
    assert capfd.readouterr().out == "slurm_site: one\na\n=== 1 failed, 3 passed in 9.12s ===\n"


def test_two_passes_go_on_at_a_time_and_all_are_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    most = 0
    begun: list[Passing] = []

    def begin(name: str) -> Passing:
        nonlocal most
        begun.append(_pass(tmp_path, name, f"end of {name}", 0))
        most = max(most, sum(passing.process.poll() is None for passing in begun))
        return begun[-1]

    names = ["one", "two", "three", "four"]
    passings = two_at_once([lambda name=name: begin(name) for name in names])
    assert [passing.title for passing in passings] == names
    assert most == 2
    shown = capfd.readouterr().out
    assert [line for line in shown.splitlines() if "end of" in line] == [
        f"end of {name}" for name in names
    ]


def test_the_closing_line_counts_all_passes(tmp_path: Path) -> None:
    passings = [
        _pass(tmp_path, "one", "=== 3 passed, 179 deselected in 183.02s (0:03:03) ===", 0),
        _pass(tmp_path, "two", "=== 1 failed, 5 passed, 2 skipped, 1 error in 0.10s ===", 1),
        _pass(tmp_path, "three", "Segmentation fault", 1),
    ]
    for passing in passings:
        passing.process.wait()
    expected = "============ 1 failed, 8 passed, 2 skipped, 1 error in 184.25s ============"
    assert closing_line(passings, 184.25) == expected
    assert counted(expected) == {"failed": 1, "passed": 8, "skipped": 2, "error": 1}


@pytest.mark.parametrize(
    "line", ["", "3 passed", "= no tests ran in 0.01s =", "x 3 passed in 2s ="]
)
def test_what_is_no_closing_line_counts_nothing(line: str) -> None:
    assert not counted(line)


def test_a_pass_is_ended_when_the_run_is_given_up(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as out:
        argv = [sys.executable, "-c", "import time; time.sleep(60)"]
        passing = Passing("long", subprocess.Popen(argv, stdout=out), log)
    passing.end()
    assert passing.process.wait(50) != 0
