"""A flow's tasks on the mock cluster: modes, grouping, few commands, chains."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cluster_flows import nothing, square, talk, total

from hpc_flows import Resources, flow
from hpc_flows.clusters import Cluster
from hpc_flows.exceptions import DoesNotFit
from hpc_flows.journal.reader import read_run
from hpc_flows.task_runners.cluster import ClusterTaskRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hpc_flows.journal.event import Event


@pytest.fixture(autouse=True)
def mock(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "mock")
    yield
    stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(home)]
    subprocess.run(stop, capture_output=True, timeout=60, check=False)


def events(home: Path, kind: str) -> list[Event]:
    runs = [read_run(str(path)) for path in home.glob("runs/*")]
    return [event for run in runs for event in run if event.kind == kind]


def test_a_chain_of_maps_is_one_array_for_each_link(home: Path) -> None:
    @flow
    def chain() -> int:
        once = square.map(range(6))
        twice = square.map(once)
        return int(total(twice))

    assert chain() == sum(x**4 for x in range(6))
    arrays = [event.data["array"] for event in events(home, "job-intent")]
    assert arrays[0] == "0-5"
    assert arrays[-1] is None


def test_mode_job_sends_a_job_for_each_run(home: Path) -> None:
    @flow(task_runner=ClusterTaskRunner(mode="job"))
    def jobs() -> list[int]:
        return list(square.map(range(3)).result())

    assert jobs() == [0, 1, 4]
    assert [event.data["array"] for event in events(home, "job-intent")] == [None] * 3


def test_few_commands_serve_many_runs(
    counted: Callable[[str], Any], tmp_path: Path, home: Path
) -> None:
    cluster = Cluster.load("mock")
    folder, commands = counted(cluster.path[0])
    from dataclasses import replace

    from hpc_flows.clusters.parts import Poll

    # As often as a real site is asked; the mock's own profile is in a hurry.
    polite = replace(cluster, path=(folder,), poll=Poll(first=5.0))

    @flow(task_runner=ClusterTaskRunner(polite))
    def many() -> None:
        nothing.map(range(40)).wait()

    many()
    assert commands()["sbatch"] == 1
    assert commands().total() <= 10


def test_like_runs_that_ask_for_different_memory_are_two_submissions(home: Path) -> None:
    @flow
    def two() -> list[int]:
        small = square.map([1, 2])
        large = square.with_options(resources=Resources(memory="1G")).map([3, 4])
        return [*small.result(), *large.result()]

    assert two() == [1, 4, 9, 16]
    memories = {event.data["resources"]["memory"] for event in events(home, "job-intent")}
    assert len(memories) == 2


def test_what_fits_nowhere_is_refused_before_anything_is_submitted(home: Path) -> None:
    @flow
    def greedy() -> None:
        square.with_options(resources=Resources(memory="90T")).submit(1)

    with pytest.raises(DoesNotFit, match="memory"):
        greedy()
    assert not events(home, "job-intent")


def test_logs_are_told_once(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    @flow
    def talking() -> str:
        return str(talk("once"))

    talking()
    shown = capfd.readouterr().err
    assert shown.count("logged once") == 1
    assert shown.count("Finished in state Completed()") == 2
    messages = [event.data["message"] for event in events(home, "log")]
    assert messages.count("logged once") == 1


def test_the_journal_tells_the_whole_way_of_a_run(home: Path) -> None:
    @flow
    def one() -> int:
        return int(square(2))

    one()
    states = [e.data["name"] for e in events(home, "state") if e.data["subject"] == "task"]
    assert states == ["Pending", "InfrastructurePending", "Running", "Completed"]
    kinds = [e.kind for run in home.glob("runs/*") for e in read_run(str(run))]
    assert kinds.index("job-intent") < kinds.index("job-submitted")


def test_a_submission_is_told_by_the_flow_run_that_made_it(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    @flow
    def inner() -> int:
        return int(square.submit(2).result())

    @flow
    def outer() -> int:
        return int(square.submit(1).result()) + inner()

    assert outer() == 5
    shown = capfd.readouterr().err.splitlines()
    tellers = [line.split("'")[1] for line in shown if " - Submitted task run" in line]
    names = [line.split("'")[1] for line in shown if "Beginning flow run" in line]
    assert tellers == names
