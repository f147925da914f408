"""Kept results between flows and jobs: found before anything is submitted, computed once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from kept_flows import fail, field, second_time, square, write

from hpc_flows import flow
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import replay
from hpc_flows.transactions import transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def mock(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "mock")
    yield
    stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(home)]
    subprocess.run(stop, capture_output=True, timeout=60, check=False)


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def submissions(home: Path) -> int:
    """Return how many jobs and arrays all runs have submitted."""
    runs = [read_run(str(path)) for path in home.glob("runs/*")]
    return sum(event.kind == "job-intent" for run in runs for event in run)


def named(futures: Any) -> list[str]:
    futures.wait()
    return [future.state.name for future in futures]


def test_what_was_computed_is_not_submitted_again(home: Path, marks: Path) -> None:
    @flow
    def run() -> tuple[list[str], list[int]]:
        futures = square.map([1, 2, 3], str(marks))
        return named(futures), futures.result()

    assert run() == (["Completed"] * 3, [1, 4, 9])
    before = submissions(home)
    assert run() == (["Cached"] * 3, [1, 4, 9])
    assert submissions(home) == before
    assert len(list(marks.iterdir())) == 3


def test_jobs_of_one_key_compute_once(marks: Path) -> None:
    @flow
    def run() -> tuple[list[str], list[int]]:
        futures = square.map([5, 5, 5], str(marks))
        return sorted(named(futures)), futures.result()

    assert run() == (["Cached", "Cached", "Completed"], [25] * 3)
    assert len(list(marks.iterdir())) == 1


def test_a_large_result_is_written_once_where_other_programs_find_it(home: Path) -> None:
    h5py = pytest.importorskip("h5py")

    @flow
    def run() -> float:
        return float(field(20_000)["t"].sum())

    assert run() == sum(range(20_000))
    (kept,) = (home / "storage").glob("*.h5")
    with h5py.File(kept) as file:
        assert file["t"].shape == (20_000,)
    assert not list(home.glob("runs/*/results/*"))
    assert run() == sum(range(20_000))


def test_the_file_of_a_job_s_result_is_read_by_parts_however_small_it_is(home: Path) -> None:
    pytest.importorskip("h5py")

    @flow
    def run(size: int) -> tuple[str, float]:
        future = field.submit(size)
        with future.result_handle() as handle:
            assert handle.path.startswith(str(home / "storage"))
            return future.state.name, float(handle["t"][3])

    for size in (10, 20_000):
        assert [run(size), run(size)] == [("Completed", 3.0), ("Cached", 3.0)]


def test_a_job_s_run_that_is_undone_is_seen_to_be_whatever_attempt_it_took(
    home: Path, marks: Path
) -> None:
    @flow
    def run() -> None:
        with transaction():
            second_time(str(marks))
            fail()

    run(return_state=True)
    (folder,) = home.glob("runs/*")
    counts = replay(read_run(str(folder))).counts
    assert counts["second_time"] == {"RolledBack": 1}
    assert list(marks.iterdir()) == []


def test_a_purged_result_is_computed_again(home: Path) -> None:
    pytest.importorskip("h5py")

    @flow
    def run() -> str:
        state = field(20_000, return_state=True)
        assert state.result()["t"][3] == 3
        return str(state.name)

    assert run() == "Completed"
    (kept,) = (home / "storage").glob("*.h5")
    kept.unlink()
    assert run() == "Completed"
    assert run() == "Cached"


def test_the_flow_s_storage_is_used_by_jobs(tmp_path: Path, marks: Path) -> None:
    @flow(result_storage=tmp_path / "flow", result_serializer="json", persist_result=True)
    def run() -> list[str]:
        futures = square.map([1, 1], str(marks))
        return sorted(named(futures))

    assert run() == ["Cached", "Completed"]
    assert any('"json"' in path.read_text() for path in (tmp_path / "flow").glob("?" * 32))


def test_jobs_take_part_in_transactions_by_hooks_of_the_flow_s_process(marks: Path) -> None:
    def both(path: str) -> None:
        with transaction():
            write.submit(path).wait()
            fail()

    @flow
    def run() -> None:
        with transaction():
            write(str(marks / "good"))
            assert [path.name for path in marks.iterdir()] == ["good"]
        with pytest.raises(ValueError, match="no"):
            both(str(marks / "bad"))
        write(str(marks / "alone"))

    run()
    assert sorted(path.name for path in marks.iterdir()) == [
        "alone",
        f"alone.committed-by-{os.getpid()}",
        "good",
        f"good.committed-by-{os.getpid()}",
    ]


def test_results_of_jobs_in_a_transaction_are_kept_when_it_commits(home: Path, marks: Path) -> None:
    @flow
    def run(*, good: bool) -> bool:
        with transaction():
            square(3, str(marks))
            early = (home / "storage").exists()
            if not good:
                raise ValueError("no")
        return early

    run(good=False, return_state=True)
    assert run(good=True) is False
    assert len(list(marks.iterdir())) == 2
    assert square(3, str(marks), return_state=True).name == "Cached"
