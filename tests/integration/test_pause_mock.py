"""While a run is paused no job is submitted; what the cluster has goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import Resources, flow, task
from hpc_flows.engine.requests import ask
from hpc_flows.journal.index import summarise
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import RunView, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def mock(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "mock")
    yield
    stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(home)]
    subprocess.run(stop, capture_output=True, timeout=60, check=False)


SMALL = Resources(cpus=1, memory="100MB", walltime="10m")


@task(resources=SMALL)
def rest_until(word: str) -> None:
    import os
    import time

    while not os.path.exists(word):
        time.sleep(0.1)


@task(resources=SMALL)
def double(number: int) -> int:
    return 2 * number


def _folder(home: Path) -> str:
    (folder,) = (home / "runs").iterdir()
    return str(folder)


def _view(home: Path) -> RunView:
    return replay(read_run(_folder(home)))


def _until(condition: Callable[[], bool], seconds: float = 150.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def _started(body: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(body())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, ended


def _is_running(home: Path) -> bool:
    begun = list((home / "runs").glob("*/journal/*"))
    return bool(begun) and any(
        run.state_type == "RUNNING" for run in _view(home).task_runs.values()
    )


@pytest.mark.parametrize("way", ["map", "call"])
def test_a_job_that_runs_ends_and_no_other_is_submitted_until_the_run_goes_on(
    home: Path, tmp_path: Path, way: str
) -> None:
    word = tmp_path / "word"

    @flow
    def main() -> int:
        rest_until.submit(str(word)).wait()
        if way == "call":
            return double(1)
        return sum(double.map([1, 2]).result())

    thread, ended = _started(main)
    _until(lambda: _is_running(home))
    ask(_folder(home), "pause", "maintenance")
    _until(lambda: summarise(_folder(home)).state_type == "PAUSED")
    word.touch()
    _until(lambda: any(run.is_final for run in _view(home).task_runs.values()))
    time.sleep(2.0)
    view = _view(home)
    submitted = [job for job in view.jobs.values() if job.job is not None]
    assert len(submitted) == 1
    assert summarise(_folder(home)).state_type == "PAUSED"
    ask(_folder(home), "resume", "it is over")
    thread.join(150)
    assert ended == [2 if way == "call" else 6]
    assert len([job for job in _view(home).jobs.values() if job.job is not None]) == 2


def test_a_paused_run_with_held_submissions_can_be_cancelled(home: Path, tmp_path: Path) -> None:
    word = tmp_path / "word"

    @flow
    def main() -> None:
        rest_until.submit(str(word)).wait()
        double.map([1, 2]).wait()

    thread, ended = _started(main)
    _until(lambda: _is_running(home))
    ask(_folder(home), "pause", "maintenance")
    _until(lambda: summarise(_folder(home)).state_type == "PAUSED")
    word.touch()
    _until(lambda: len(_view(home).task_runs) == 3)
    time.sleep(1.0)
    ask(_folder(home), "cancel", "enough")
    thread.join(150)
    assert not thread.is_alive()
    view = _view(home)
    assert isinstance(ended[0], KeyboardInterrupt)
    assert len([job for job in view.jobs.values() if job.job is not None]) == 1
    assert {run.state_name for run in view.task_runs.values()} == {"Completed", "Cancelled"}
