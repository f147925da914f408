"""The live progress of a run."""

from __future__ import annotations

import io
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cli_runs import census_run
from rich.console import Console

from hpc_flows.cli import progress as progress_module
from hpc_flows.cli.progress import (
    Follower,
    Progress,
    bar,
    header,
    plain_words,
    summary,
    table_lines,
)
from hpc_flows.cli.tally import Tally, by_task
from hpc_flows.flows import flow
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import replay
from hpc_flows.tasks import task

if TYPE_CHECKING:
    from pathlib import Path


def screen(width: int, height: int = 24) -> Console:
    return Console(width=width, height=height, file=io.StringIO(), force_terminal=True)


def some_tasks(number: int) -> dict[str, Tally]:
    return {f"task_{n}": Tally(running=1, done=n, failed=n % 2) for n in range(number)}


@pytest.mark.parametrize("width", [8, 20, 40, 60, 80, 300])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    where = screen(width)
    counted = {"a_task_with_a_rather_long_name": Tally(5, 4, 3, 2, 1, 6), **some_tasks(5)}
    text = io.StringIO()
    plain = Console(width=width, file=text)
    for line in [header("census on afton", 3.0, width), *table_lines(counted, where)]:
        plain.print(line, crop=True, overflow="crop", no_wrap=True)
    assert max(map(len, text.getvalue().splitlines())) <= width


def test_the_table_fits_the_height_and_keeps_what_still_runs() -> None:
    counted = {f"done_{n}": Tally(done=3) for n in range(50)} | {"last": Tally(running=1)}
    lines = [line.plain for line in table_lines(counted, screen(80, height=12))]
    assert len(lines) <= 9
    assert any(line.startswith("last") for line in lines)
    assert lines[-1].startswith("and ")
    assert "done" in lines[-1]


def test_the_bar_shares_its_length_among_the_standings() -> None:
    drawn = bar(Tally(done=5, running=3, queued=2), 20)
    lengths = [(span.end - span.start, str(span.style)) for span in drawn.spans]
    assert lengths == [(10, "green"), (6, "cyan"), (4, "yellow")]
    assert len(bar(Tally(), 20)) in (0, 20)
    assert bar(Tally(1, 1, 1, 1, 1, 1), 12, unicode=False).plain.isascii()


def test_the_queue_of_the_cluster_is_told_apart_from_waiting(home: Path) -> None:
    run = census_run(home)
    run.task_run(2, "q-0", "train")
    run.job(2, "token", "9", ["q-0"])
    tallies = by_task(replay(read_run(run.folder)).task_runs.values())
    assert tallies["train"].queued == 1
    assert tallies["summarise"].waiting == 1
    assert tallies["measure"].failed == 1


def test_progress_in_words(home: Path) -> None:
    view = replay(read_run(census_run(home).folder))
    assert plain_words(view) == "Progress - measure: 1 done, 1 failed; summarise: 1 waiting"
    assert summary(view) == "3 task runs: 1 waiting, 1 done, 1 failed"


def test_the_run_that_begins_in_the_block_is_found_and_no_other(home: Path) -> None:
    census_run(home)

    @flow
    def sums() -> int:
        return 1

    with Progress("sums", live=False) as progress:
        sums()
    assert progress.view is not None
    assert progress.view.root is not None
    assert progress.view.root.flow == "sums"


def test_the_end_is_told_of_all_of_a_run_that_was_quicker_than_its_display(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Follower.catch_up, "__defaults__", (1,))  # events for each look

    @task
    def add(number: int) -> int:
        return number + 1

    @flow
    def sums() -> int:
        return sum(future.result() for future in add.map(range(30)))

    with Progress("sums", live=False) as progress:
        sums()
    assert progress.view is not None
    assert summary(progress.view) == "30 task runs: 30 done"


def test_a_terminal_is_drawn_on_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(
        progress_module, "console", lambda: Console(file=text, force_terminal=True, width=70)
    )
    before = (sys.stdout, sys.stderr)

    @flow
    def sums() -> None:
        print("a line of the user's")  # noqa: T201 - what the test is about

    with Progress("sums on mock", live=True):
        sums()
    assert (sys.stdout, sys.stderr) == before
    assert "a line of the user's" in text.getvalue()
    assert "sums on mock" in text.getvalue()
    assert text.getvalue().count("\x1b[?25l") == text.getvalue().count("\x1b[?25h")


def test_lines_of_task_runs_that_ended_well_give_way_to_the_table() -> None:
    stream = io.StringIO()
    filtered = progress_module._Filtered(stream)
    line = "16:08:59.356 | {} | Task run 'add-fe8' - Finished in state {}\n"
    filtered.write(line.format("INFO   ", "Completed()"))
    filtered.write(line.format("ERROR  ", "Failed('no')"))
    filtered.write("16:08:59.356 | INFO    | Flow run 'x' - Finished in state Completed()\n")
    assert "add-fe8" in stream.getvalue()
    assert "Completed()" in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 2


def test_plain_lines_come_seconds_apart_and_only_when_something_changed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    view = replay(read_run(census_run(home).folder))
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stub: Any = SimpleNamespace(view=view)
    lines = progress_module._Lines(stub)
    for at in (101, 103, 106, 107, 120):
        now[0] = at
        lines.show(changed=True)
    assert len(capsys.readouterr().err.splitlines()) == 1
