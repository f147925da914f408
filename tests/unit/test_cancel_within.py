"""Cancelling reaches flow runs in other threads, and the jobs that they have submitted."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, task
from hpc_flows.engine import cancelling
from hpc_flows.engine.drive import Sleep
from hpc_flows.exceptions import CancelledRun, TerminationSignal
from hpc_flows.futures import as_completed, pass_gate
from hpc_flows.journal.reader import read_run
from hpc_flows.states import Cancelled
from hpc_flows.task_runners.base import TaskRunner

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hpc_flows.task_runners.base import TaskCall

LONG = 300.0
_WAITING = {pass_gate.__code__, Sleep.perform.__code__}


class Cluster(TaskRunner):
    """Keeps calls until they are cancelled, as a queue that never moves keeps jobs."""

    outlives_driver = True
    places_resources = True

    def __init__(self) -> None:
        self.submitted = threading.Event()
        self.calls: list[TaskCall] = []
        self.cancelled: list[str] = []

    def duplicate(self) -> Cluster:
        return self

    def submit(self, calls: Sequence[TaskCall]) -> None:
        self.calls += calls
        self.submitted.set()

    def cancel(self, calls: Sequence[TaskCall] | None, reason: str) -> None:
        for call in calls or ():
            self.cancelled.append(call.task.name)
            call.end(Cancelled(reason))


@task
def job() -> None:
    """Never run."""


def _sub(cluster: Cluster) -> Any:
    @flow(task_runner=cluster)
    def sub() -> None:
        job.submit().result()

    return sub


def _until_a_thread_waits() -> None:
    """Return once another thread waits, for a future or a time, and imports nothing for that."""
    deadline = time.monotonic() + LONG
    mine = threading.get_ident()
    while time.monotonic() < deadline:
        frames = {id_: frame for id_, frame in sys._current_frames().items() if id_ != mine}
        if any(frame.f_code in _WAITING for frame in frames.values()):
            return
        time.sleep(0.005)
    raise AssertionError("No thread waits.")


def _ends(home: Path, kind: str = "flow") -> dict[str, str]:
    (folder,) = (home / "runs").iterdir()
    names, ends = {}, {}
    for event in read_run(str(folder)):
        if event.kind == f"{kind}-run":
            names[event.data["id"]] = event.data[kind]
        if event.kind == "state" and event.data["subject"] == kind:
            ends[names[event.data["id"]]] = event.data["name"]
    return ends


def test_ctrl_c_cancels_the_jobs_of_a_flow_that_a_task_has_called(home: Path) -> None:
    cluster = Cluster()
    sub = _sub(cluster)

    @task
    def calls_sub() -> None:
        sub()

    @flow
    def main() -> None:
        calls_sub.submit()
        assert cluster.submitted.wait(LONG)
        _until_a_thread_waits()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        main()
    assert set(cluster.cancelled) == {"job"}  # by either flow, or both
    assert _ends(home) == {"main": "Cancelled", "sub": "Cancelled"}
    assert _ends(home, "task") == {"calls_sub": "Cancelled", "job": "Cancelled"}


def test_ctrl_c_cancels_the_jobs_of_a_flow_that_keeps_its_results(home: Path) -> None:
    cluster = Cluster()

    @flow(task_runner=cluster, persist_result=True)
    def main() -> None:
        job.submit()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        main()
    assert cluster.cancelled == ["job"]
    assert [call.future.state.name for call in cluster.calls] == ["Cancelled"]
    assert _ends(home, "task") == {"job": "Cancelled"}


def test_jobs_of_a_flow_that_keeps_its_results_live_on_when_its_driver_is_told_to_end(
    home: Path,
) -> None:
    cluster = Cluster()

    @flow(task_runner=cluster, persist_result=True)
    def main() -> None:
        job.submit()
        raise TerminationSignal(signal.SIGTERM)

    with pytest.raises(TerminationSignal):
        main()
    assert cluster.cancelled == []
    assert _ends(home, "task") == {"job": "Pending"}


def test_the_end_of_the_outermost_flow_cancels_the_jobs_of_a_flow_that_was_left(
    home: Path,
) -> None:
    cluster = Cluster()
    sub = _sub(cluster)
    raised: list[BaseException] = []

    def left() -> None:
        try:
            sub()
        except CancelledRun as error:
            raised.append(error)

    @flow
    def main() -> threading.Thread:
        thread = threading.Thread(target=copy_context().run, args=(left,))
        thread.start()
        assert cluster.submitted.wait(LONG)
        return thread

    main().join(LONG)
    assert raised
    assert cluster.cancelled == ["job"]
    assert _ends(home)["main"] == "Completed"
    assert _ends(home, "task") == {"job": "Cancelled"}


@pytest.mark.parametrize("waits", ["for a future", "for the first future", "before a retry"])
def test_a_flow_in_another_thread_that_waits_is_cancelled(
    waits: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "PERIOD", 0.02)
    cluster = Cluster()
    failed = threading.Event()

    @flow(task_runner=cluster, retries=1, retry_delay_seconds=100_000)
    def main() -> None:
        if waits == "before a retry":
            failed.set()
            raise ValueError("once more")
        if waits == "for the first future":
            next(as_completed([job.submit()]))
        job.submit().result()

    def run() -> None:
        with pytest.raises(KeyboardInterrupt):
            main()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert (failed if waits == "before a retry" else cluster.submitted).wait(LONG)
    _until_a_thread_waits()
    (folder,) = (home / "runs").iterdir()
    control = folder / "control"
    control.mkdir(exist_ok=True)
    (control / "cancel").write_text(json.dumps({"reason": "enough"}))
    thread.join(LONG)
    assert not thread.is_alive()
    assert _ends(home) == {"main": "Cancelled"}


def test_a_call_that_two_threads_end_is_told_of_once(home: Path) -> None:
    cluster = Cluster()

    @flow(task_runner=cluster)
    def main() -> None:
        future = job.submit()
        together = threading.Barrier(4)

        def end() -> None:
            together.wait()
            cluster.calls[0].end(Cancelled("enough"))

        threads = [threading.Thread(target=end) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        future.wait()

    main()
    (folder,) = (home / "runs").iterdir()
    told = [
        event
        for event in read_run(str(folder))
        if event.kind == "state" and event.data["name"] == "Cancelled"
    ]
    assert len(told) == 1
