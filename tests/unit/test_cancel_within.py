"""Cancelling reaches flow runs in other threads, and the jobs that they have submitted."""

from __future__ import annotations

import json
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, task
from hpc_flows.engine import cancelling
from hpc_flows.exceptions import CancelledRun
from hpc_flows.futures import as_completed
from hpc_flows.journal.reader import read_run
from hpc_flows.states import Cancelled
from hpc_flows.task_runners.base import TaskRunner

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hpc_flows.task_runners.base import TaskCall

LONG = 300.0


class Cluster(TaskRunner):
    """Keeps calls until they are cancelled, as a queue that never moves keeps jobs."""

    outlives_driver = True

    def __init__(self) -> None:
        self.submitted = threading.Event()
        self.cancelled: list[str] = []

    def duplicate(self) -> Cluster:
        return self

    def submit(self, calls: Sequence[TaskCall]) -> None:
        assert calls
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
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        main()
    assert cluster.cancelled == ["job"]
    assert _ends(home) == {"main": "Cancelled", "sub": "Cancelled"}
    assert _ends(home, "task") == {"calls_sub": "Cancelled", "job": "Cancelled"}


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
    (folder,) = (home / "runs").iterdir()
    control = folder / "control"
    control.mkdir(exist_ok=True)
    (control / "cancel").write_text(json.dumps({"reason": "enough"}))
    thread.join(LONG)
    assert not thread.is_alive()
    assert _ends(home) == {"main": "Cancelled"}
