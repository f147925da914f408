"""A watched run is shown while its journal is still being read, and never taken for over before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from cli_runs import WrittenRun

from hpc_flows.cli import watched
from hpc_flows.cli.watch import progress_words
from hpc_flows.cli.watched import LocalRun

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WrittenRun:
    """Return a run that has ended, and of which little is read at a time."""
    monkeypatch.setattr(watched, "FIRST_READ", 0.0)
    monkeypatch.setattr(watched, "AT_ONCE", 10)
    run = WrittenRun(tmp_path)
    for at in range(60):
        run.task_run(1 + at, f"t{at}", "train")
        run.state(100 + at, f"t{at}", "COMPLETED", "Completed", attempt=1)
    run.end(300)
    return run


def test_a_long_journal_is_shown_after_its_first_part(large: WrittenRun) -> None:
    seen = LocalRun(large.folder)
    seen._looked = time.monotonic() + 3600  # as if showing had taken no time
    assert seen.look()
    assert seen.reading is not None
    assert 0 < seen.reading < 1
    assert 0 < seen.counted["train"].total < 60
    assert not seen.is_over  # it has ended, and what is seen of it is not its end
    assert f"(reading its journal: {int(seen.reading * 100)} %)" in progress_words(seen)


def test_the_rest_follows_and_then_nothing_is_missing(large: WrittenRun) -> None:
    seen = LocalRun(large.folder)
    shares = []
    while not seen.is_over:
        seen.look()
        shares.append(1.0 if seen.reading is None else seen.reading)
    assert shares == sorted(shares)
    assert seen.reading is None
    assert seen.counted["train"].total == 60
    assert "reading" not in progress_words(seen)
    assert len(seen.timeline(80, unicode=True)) > 0


def test_an_empty_run_is_read_at_once(tmp_path: Path) -> None:
    run = WrittenRun(tmp_path)
    seen = LocalRun(run.folder)
    seen.look()
    assert seen.reading is None
    assert seen._follower.share_read() == 1.0
