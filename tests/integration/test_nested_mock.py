"""What tasks may do in a job, on the mock cluster: call, submit, map, yield, await, retry."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from nested_tasks import Model, anumbers, asquare, numbers, outer, stubborn

from hpc_flows import flow
from hpc_flows.journal.reader import read_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def mock(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "mock")
    yield
    stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(home)]
    subprocess.run(stop, capture_output=True, timeout=60, check=False)


def test_tasks_in_a_job_call_submit_and_map_tasks_and_call_flows(home: Path) -> None:
    @flow
    def main() -> Any:
        return outer.map([1, 2]).result()

    assert main() == [((1, 4, [1, 1]), 8, 1), ((4, 9, [4, 4]), 8, 4)]
    (folder,) = (home / "runs").iterdir()
    intents = [event for event in read_run(str(folder)) if event.kind == "job-intent"]
    assert len(intents) == 1  # nothing that a job called became a job of its own


def test_generators_and_async_tasks_run_in_jobs() -> None:
    @flow
    def main() -> Any:
        given = numbers.submit(2), anumbers.submit(2), asquare.submit(3)
        return list(numbers(3)), *(future.result() for future in given)

    @flow
    async def amain() -> Any:
        return await asquare(2), [number async for number in anumbers(2)]

    assert main() == ([0, 1, 2], [0, 1], [0, 1], 9)
    assert asyncio.run(amain()) == (4, [0, 1])


def test_a_condition_is_asked_in_the_job(home: Path) -> None:
    @flow
    def main() -> Any:
        return stubborn.submit(return_state=True).name

    assert main() == "Failed"
    (folder,) = (home / "runs").iterdir()
    events = [event for event in read_run(str(folder)) if event.kind == "state"]
    names = [event.data["name"] for event in events if event.data["subject"] == "task"]
    assert names.count("Retrying") == 1


def test_a_method_runs_in_a_job_with_its_object() -> None:
    @flow
    def main() -> Any:
        return Model(3).scale(2), Model(5).scale.map([1, 2]).result()

    assert main() == (6, [5, 10])
