"""Flow runs that begin at the same time share what their root run has one of."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import Resources, flow, task
from hpc_flows.states import Completed
from hpc_flows.task_runners import cluster, machine
from hpc_flows.task_runners.base import TaskRunner
from hpc_flows.task_runners.routing import Router

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpc_flows.task_runners.base import TaskCall

FLOWS = 4


class _Slow:
    """Takes a moment to be made, in which others may ask for one, too."""

    made: list[Any]

    def __init__(self, *_: object) -> None:
        self.made.append(self)
        time.sleep(0.05)

    def start(self, _: object) -> None:
        """Start, as runners do."""

    def reserve(self, _: object) -> _Slow:
        """Return what was reserved."""
        return self


def _at_once(ask: Any) -> list[Any]:
    """Return what the routers of some flow runs of one root answer, asked at the same time."""
    root = SimpleNamespace(
        machine=None, runners={}, in_job=False, settings=SimpleNamespace(cluster="big")
    )
    together = threading.Barrier(FLOWS)
    answers: list[Any] = []

    def run() -> None:
        context: Any = SimpleNamespace(root=root)
        router = Router(context)
        together.wait()
        answers.append(ask(router))

    threads = [threading.Thread(target=run) for _ in range(FLOWS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> type[_Slow]:
    """Stand in for the machine and for the runners of clusters."""
    kind = type("Slow", (_Slow,), {"made": []})
    monkeypatch.setattr(machine, "Machine", kind)
    monkeypatch.setattr(cluster, "ClusterTaskRunner", kind)
    return kind


def test_flow_runs_in_threads_share_one_machine(slow: type[_Slow]) -> None:
    wish = SimpleNamespace(resources=Resources(cpus=1))
    answers = _at_once(lambda router: router.hold(wish))
    assert answers == slow.made * FLOWS
    assert len(slow.made) == 1


def test_flow_runs_in_threads_share_one_runner_of_a_cluster(slow: type[_Slow]) -> None:
    wish = SimpleNamespace(resources=Resources(cpus=1))
    answers = _at_once(lambda router: router._runner_for(wish))
    assert answers == slow.made * FLOWS
    assert len(slow.made) == 1


class _Exhausted(TaskRunner):
    """Takes a first call, and has no thread for the next ones."""

    def __init__(self) -> None:
        self.taken: list[TaskCall] = []

    def duplicate(self) -> _Exhausted:
        return self

    def submit(self, calls: Sequence[TaskCall]) -> None:
        if self.taken:
            raise RuntimeError("can't start new thread")
        self.taken += calls

    def cancel(self, calls: Sequence[TaskCall] | None, reason: str) -> None:
        """Have nothing to cancel."""


@pytest.mark.parametrize("resources", [None, Resources(cpus=machine.usable_cpus())])
def test_a_call_that_cannot_be_started_once_it_is_ready_ends_as_crashed(
    resources: Resources | None,
) -> None:
    runner = _Exhausted()

    @task(resources=resources)
    def work(x: int) -> int:
        return x

    @flow(task_runner=runner)
    def main() -> tuple[str, str | None]:
        first = work.submit(1)
        # It is ready once the first has ended: it needs its value, or the machine's processors.
        second = work.submit(2 if resources else first)  # type: ignore[arg-type]
        runner.taken[0].future.resolve(Completed(data=1))
        second.wait(60)
        return second.state.name, second.state.message

    name, message = main()
    assert name == "Crashed"
    assert "can't start new thread" in str(message)
