"""Flow runs that begin at the same time share what their root run has one of."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from hpc_flows import Resources
from hpc_flows.task_runners import cluster, machine
from hpc_flows.task_runners.routing import Router

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
