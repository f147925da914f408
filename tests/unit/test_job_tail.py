"""Reading journals of jobs on file systems that show what was written later before the rest."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from job_doubles import call_of, play_job, run_context

from hpc_flows import task
from hpc_flows.jobs import tail
from hpc_flows.jobs.submission import Element

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "hf-00000000-00000000"  # noqa: S105 - a job's name, and no secret


@task
def work(x: int) -> int:
    return x


class Holed:
    """A job's journal of three pages, of which this machine does not see the second one yet."""

    def __init__(self) -> None:
        self.context = run_context()
        assert self.context.root is not None
        self.run_dir = self.context.root.run_dir
        call = call_of(self.context, work, 1)
        submission: Any = SimpleNamespace(token=TOKEN)
        self.element = Element(call, submission, 0)
        tracker: Any = SimpleNamespace(root=self.context.root)
        play_job(tracker, TOKEN, 0, call, value="x" * 9000)
        self.path = Path(self.run_dir, "journal", f"{TOKEN}-0-0.jsonl")
        self.whole = self.path.read_bytes()
        assert len(self.whole) > 8192
        self.path.write_bytes(self.whole[:4096] + bytes(4096) + self.whole[8192:])

    def states(self) -> list[str]:
        """Return the states that are new."""
        return [event.data["name"] for event in tail.read_new(self.run_dir, self.element, 0)]


@pytest.fixture
def holed() -> Iterator[Holed]:
    one = Holed()
    yield one
    assert one.context.root is not None
    one.context.root.journal.close()


def test_a_line_whose_middle_has_not_arrived_is_read_when_it_has(holed: Holed) -> None:
    assert holed.states() == ["Running"]
    assert holed.states() == []
    holed.path.write_bytes(holed.whole)
    assert holed.states() == ["Completed"]
    assert holed.states() == []


def test_a_hole_that_stays_is_passed_over(holed: Holed, monkeypatch: pytest.MonkeyPatch) -> None:
    first_line = holed.whole[: holed.whole.index(b"\n") + 1]
    with holed.path.open("ab") as file:
        file.write(first_line)
    assert holed.states() == ["Running"]
    monkeypatch.setattr(tail, "HOLE_PATIENCE", -1.0)
    assert holed.states() == ["Running"]
