"""The bench says what it measured, and what it could not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    from tests.benchmarks import measure

    return measure


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    from tests.benchmarks import report

    return report


def test_a_ratio_is_of_medians(measure: ModuleType) -> None:
    budget = measure.Budget("wall", 1.4, "at most 1.4 x by hand", against="by hand")
    medians = {
        "hpc_flows": measure.median([{"wall": 13.0}, {"wall": 60.0}, {"wall": 12.0}]),
        "by hand": measure.median([{"wall": 10.0}, {"wall": 10.5}, {"wall": 9.0}]),
    }
    verdict = measure.judge(budget, medians)
    assert verdict.value == pytest.approx(1.3)
    assert verdict.kept is True


def test_what_was_not_measured_is_not_kept(measure: ModuleType, report: ModuleType) -> None:
    budget = measure.Budget("wall", 0.1, "Prefect / 10", against="Prefect")
    verdict = measure.judge(budget, {"hpc_flows": {"wall": 1.0}})
    assert verdict.kept is None
    assert "not measured" in report.sentence(verdict)


def test_a_side_that_fails_does_not_end_the_contest(
    measure: ModuleType, report: ModuleType
) -> None:
    def broken() -> dict[str, float]:
        raise measure.BenchError("no such peer")

    contest = measure.Contest(
        "a contest", {"hpc_flows": lambda: {"wall": 2e-3}, "Prefect": broken}, rounds=2
    )
    outcome = measure.hold(contest, lambda _: None)
    assert outcome.medians["hpc_flows"] == {"wall": 2e-3}
    text = report.table(outcome)
    assert "2 ms" in text
    assert "did not run: no such peer" in text


def test_a_program_that_fails_is_told_with_its_last_words(measure: ModuleType) -> None:
    command = measure.Command((sys.executable, "-c", "raise SystemExit('no luck')"), {})
    with pytest.raises(measure.BenchError, match="no luck"):
        measure.told(command)


def test_cpu_and_wall_of_a_whole_process_are_told(measure: ModuleType) -> None:
    sample = measure.whole(measure.Command((sys.executable, "-c", "pass"), {}))
    assert set(sample) == {"wall", "cpu"}
    assert sample["wall"] > 0
