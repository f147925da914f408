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


def _sleep(seconds: float) -> float:
    import time

    time.sleep(seconds)
    return seconds


sleep = task(_sleep, name="sleep", resources=Resources(cpus=1, memory="100MB", walltime="5m"))


def _folder(home: Path) -> str:
    (folder,) = (home / "runs").iterdir()
    return str(folder)


def _view(home: Path) -> RunView:
    return replay(read_run(_folder(home)))


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
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

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


def _is_running(home: Path) -> bool:
    runs = list((home / "runs").glob("*"))
    return bool(runs) and any(run.state_type == "RUNNING" for run in _view(home).task_runs.values())


@pytest.mark.parametrize("way", ["map", "call"])
def test_a_job_that_runs_ends_and_no_other_is_submitted_until_the_run_goes_on(
    home: Path, way: str
) -> None:
    @flow
    def main() -> float:
        first = sleep.submit(3.0)
        first.wait()
        if way == "call":
            return sleep(0.1)
        return sum(sleep.map([0.1, 0.2]).result())

    thread, ended = _started(main)
    _until(lambda: _is_running(home))
    ask(_folder(home), "pause", "maintenance")
    _until(lambda: summarise(_folder(home)).state_type == "PAUSED")
    _until(lambda: any(run.is_final for run in _view(home).task_runs.values()))
    time.sleep(2.0)
    view = _view(home)
    submitted = [job for job in view.jobs.values() if job.job is not None]
    assert len(submitted) == 1
    assert summarise(_folder(home)).state_type == "PAUSED"
    ask(_folder(home), "resume", "it is over")
    thread.join(60)
    assert ended == [pytest.approx(0.1 if way == "call" else 0.3)]
    assert len([job for job in _view(home).jobs.values() if job.job is not None]) == 2


def test_a_paused_run_with_held_submissions_can_be_cancelled(home: Path) -> None:
    @flow
    def main() -> None:
        sleep.submit(6.0).wait()  # long enough for the pause to be seen, also by a busy machine
        sleep.map([0.1, 0.2]).wait()

    thread, ended = _started(main)
    _until(lambda: _is_running(home))
    ask(_folder(home), "pause", "maintenance")
    _until(lambda: len(_view(home).task_runs) == 3)
    time.sleep(1.0)
    ask(_folder(home), "cancel", "enough")
    thread.join(60)
    assert not thread.is_alive()
    view = _view(home)
    assert isinstance(ended[0], KeyboardInterrupt)
    assert len([job for job in view.jobs.values() if job.job is not None]) == 1
    assert {run.state_name for run in view.task_runs.values()} == {"Completed", "Cancelled"}
