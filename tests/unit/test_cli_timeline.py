"""The timeline in the terminal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hpc_flows.cli.timeline import BARS_PER_TASK, draw, draw_bins, lane, lane_of_row

START = 1_700_000_000.0


def task_run(task: str, *history: tuple[float, str, str], name: str = "") -> Any:
    entries = [(START + at, type_, state) for at, type_, state in history]
    return SimpleNamespace(task=task, name=name or f"{task}-0", history=entries)


def on_cluster(task: str, queued: float, started: float, ended: float, **more: Any) -> Any:
    return task_run(
        task,
        (0.0, "PENDING", "Pending"),
        (queued, "PENDING", "InfrastructurePending"),
        (started, "RUNNING", "Running"),
        (ended, more.pop("ending", "COMPLETED"), "Completed"),
        **more,
    )


def lines_of(*runs: Any, width: int = 60, unicode: bool = True, now: float = 100) -> list[str]:
    drawn = draw(runs, now=START + now, width=width, unicode=unicode)
    return [line.plain for line in drawn]


def test_waiting_queued_and_running_follow_each_other_to_scale() -> None:
    bar = lines_of(on_cluster("train", 10, 20, 40))[1]
    waiting, queued, running = (bar.count(glyph) for glyph in "·░█")
    assert bar.index("·") < bar.index("░") < bar.index("█")
    assert queued == pytest.approx(waiting, abs=1)
    assert running == pytest.approx(2 * queued, abs=2)


def test_a_run_that_goes_on_is_drawn_until_now() -> None:
    run = task_run("train", (0.0, "RUNNING", "Running"))
    assert lane(run, START + 7).spans[0].end == START + 7
    assert lane(run, START + 7).ending == ""


def test_a_retry_is_drawn_as_two_stretches_of_running() -> None:
    run = task_run(
        "train",
        (0.0, "RUNNING", "Running"),
        (5.0, "SCHEDULED", "AwaitingRetry"),
        (10.0, "RUNNING", "Running"),
        (20.0, "FAILED", "Failed"),
    )
    kinds = [span.kind for span in lane(run, START + 20).spans]
    assert kinds == ["running", "queued", "running"]


def test_a_failed_run_is_marked() -> None:
    assert lines_of(on_cluster("train", 1, 2, 3, ending="CRASHED"))[1].endswith("✗")


def test_many_runs_become_two_curves_with_their_peaks() -> None:
    runs = [on_cluster("train", 0, 10 + n, 20 + n) for n in range(10)]
    lines = lines_of(*runs)
    queued, running = lines[1], lines[2]
    assert queued.startswith("train x10")
    assert queued.endswith("≤10 queued")
    assert running.endswith("≤10 running")
    assert "█" in queued
    assert queued.index("█") < running.index("█")


def test_the_peak_counts_runs_at_one_time_not_in_one_column() -> None:
    runs = [on_cluster("train", 0, n, n + 1) for n in range(1, BARS_PER_TASK + 3)]
    assert lines_of(*runs)[2].endswith("≤1 running")


def test_ascii_is_drawn_where_nothing_else_can_be_shown() -> None:
    runs = [on_cluster("train", 0, n, 50) for n in range(1, 12)]
    for line in lines_of(*runs, on_cluster("sum", 50, 60, 70), unicode=False):
        assert line.isascii(), line


@pytest.mark.parametrize("width", [1, 20, 40, 79, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    runs = [on_cluster("a_task_with_a_very_long_name_indeed", n, n + 5, n + 9) for n in range(40)]
    for line in lines_of(*runs, on_cluster("sum", 50, 60, 70), width=width):
        assert len(line) <= width, line


def test_a_run_without_task_runs_has_no_timeline() -> None:
    assert lines_of() == []
    assert lines_of(task_run("train")) == []


def test_the_axis_names_times_of_the_run() -> None:
    axis = lines_of(on_cluster("train", 10, 20, 40))[0]
    assert axis.split()[0] == "0"
    assert "20 s" in axis


def test_a_servers_row_is_drawn_as_the_journals_run_is() -> None:
    run = on_cluster("train", 10, 20, 40)
    row: dict[str, Any] = {
        "task": "train",
        "name": "train-0",
        "created": START,
        "queued": START + 10,
        "started": START + 20,
        "ended": START + 40,
        "state_type": "COMPLETED",
    }
    assert lane_of_row(row, START + 99) == lane(run, START + 99)
    waits = lane_of_row({**row, "queued": None, "started": None, "ended": None}, START + 50)
    assert [(span.kind, span.end - START) for span in waits.spans] == [("waiting", 50)]
    failed = lane_of_row({**row, "state_type": "FAILED"}, START + 99)
    assert failed.ending == "FAILED"


def test_counts_of_many_are_drawn_as_curves() -> None:
    answer = {
        "begin": START,
        "end": START + 100,
        "tasks": [
            {"task": "train", "queued": [0, 900, 500, 0], "running": [0, 0, 400, 800]},
            {"task": "merge", "queued": [0, 0, 0, 0], "running": [0, 0, 0, 1]},
        ],
    }
    lines = [line.plain for line in draw_bins(answer, width=60)]
    assert [line[:5] for line in lines[1:4]] == ["train", "     ", "merge"]
    assert lines[1].endswith("≤900 queued")
    assert lines[2].endswith("≤800 running")
    drawn = lines[2].partition("▕")[2]
    assert drawn.index("▄") < drawn.index("█")
    assert all(len(line) <= 60 for line in lines)
    assert draw_bins({**answer, "tasks": []}, width=60) == []
    ascii_ = "\n".join(line.plain for line in draw_bins(answer, width=40, unicode=False))
    assert ascii_.isascii()
