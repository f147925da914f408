"""Limits that hold over the jobs of the mock cluster."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from limit_flows import killed, licensed, most_at_once, tagged

from hpc_flows import flow
from hpc_flows.concurrency.limits import create_limit, create_tag_limit, get_limit
from hpc_flows.journal.reader import read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpc_flows.journal.event import Event


@pytest.fixture(autouse=True)
def mock(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "mock")
    yield
    stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(home)]
    subprocess.run(stop, capture_output=True, timeout=60, check=False)


def _events(home: Path, kind: str) -> list[Event]:
    (run,) = home.glob("runs/*")
    return [event for event in read_run(str(run)) if event.kind == kind]


def test_tasks_with_a_tag_limit_of_two_never_run_more_than_two_at_once(
    home: Path, tmp_path: Path
) -> None:
    create_tag_limit("solver", 2)

    @flow
    def eight() -> list[int]:
        return list(tagged.map(range(8), str(tmp_path), together=2).result())

    assert eight() == list(range(8))
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 16
    assert most_at_once(lines) == 2
    assert get_limit("tag:solver").held_slots() == []
    # The slot was there before the job was: nothing waits on a node that was given to it.
    states = [event.data["name"] for event in _events(home, "state")]
    assert "AwaitingConcurrencySlot" in states
    assert len(_events(home, "job-intent")) >= 4


def test_elements_of_an_array_never_hold_more_than_the_licences_that_there_are(
    home: Path, tmp_path: Path
) -> None:
    create_limit("licence", 4)

    @flow
    def many() -> list[int]:
        return list(licensed.map(range(10), str(tmp_path)).result())

    assert many() == list(range(10))
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 20
    assert most_at_once(lines) <= 4
    assert len(_events(home, "job-intent")) == 1
    assert get_limit("licence").held_slots() == []


def test_a_job_that_is_killed_frees_its_slot_for_the_next(tmp_path: Path) -> None:
    create_tag_limit("solver", 1)

    @flow
    def two() -> tuple[str, int]:
        first = killed.submit(str(tmp_path))
        second = tagged.submit(2, str(tmp_path), wait_for=[])
        first.wait()
        return first.state.type.name, second.result()

    assert two() == ("CRASHED", 2)
    assert get_limit("tag:solver").held_slots() == []


def test_a_job_keeps_its_slot_when_its_driver_is_killed(tmp_path: Path) -> None:
    create_tag_limit("solver", 1)
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from hpc_flows import flow\n"
        "from limit_flows import patient\n"
        "@flow\n"
        f"def one(): patient({str(tmp_path)!r})\n"
        "one()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as driver:
        try:
            _wait((tmp_path / "log").exists)
        finally:
            driver.kill()
            driver.wait(60)
    (holder,) = get_limit("tag:solver").holders()
    assert holder.pid != driver.pid
    assert holder.job
    (tmp_path / "enough").touch()
    _wait(lambda: get_limit("tag:solver").held_slots() == [])


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_tasks_whose_tags_have_no_limit_go_together(home: Path, tmp_path: Path) -> None:
    create_tag_limit("other", 1)

    @flow
    def three() -> list[int]:
        return list(tagged.map(range(3), str(tmp_path)).result())

    assert three() == [0, 1, 2]
    assert len(_events(home, "job-intent")) == 1
