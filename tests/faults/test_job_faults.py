"""What goes wrong between a flow and a cluster, by script on the mock; each fault must fire."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from job_flights import Flight, launch, launch_map, wait_for
from job_tasks import answer, kill_itself, rest, rest_until

from hpc_flows import Resources, mock_cluster
from hpc_flows.exceptions import (
    CancelledByScheduler,
    JobLost,
    NodeFailed,
    OutOfMemory,
    Preempted,
    WalltimeExceeded,
)
from hpc_flows.journal.reader import read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hpc_flows.journal.event import Event

    Begun = Callable[..., list[str]]

pytestmark = pytest.mark.timeout(400)


class Mock:
    """The mock cluster of a test."""

    def __init__(self, home: Path, profile: Path) -> None:
        self.home = home
        self.profile = profile
        self.start()

    def _do(self, *words: str) -> str:
        argv = [sys.executable, "-m", "hpc_flows.mock_cluster", words[0], "--home", str(self.home)]
        done = subprocess.run(
            [*argv, *words[1:]], capture_output=True, text=True, check=False, timeout=150
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        """Start it, or start it again; what takes minutes on a real site takes seconds."""
        hurried = ("requeue_delay=2", "slurmd_timeout=1", "minute=4")
        settings = [word for each in hurried for word in ("--set", each)]
        self._do("start", "--profile", str(self.profile), *settings)

    def faults(self, *words: str) -> dict[str, Any]:
        """Run `hpc-flows mock faults ...`; return what it shows as JSON."""
        argv = [sys.executable, "-m", "hpc_flows", "mock", "faults", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=150)
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout)) if "--json" in words else {}

    def add(self, kind: str, **options: Any) -> None:
        self.faults("add", kind, *(f"{key}={json.dumps(value)}" for key, value in options.items()))

    def command(self, *argv: str) -> str:
        path = self.home / "mock" / "mock" / "bin" / argv[0]
        done = subprocess.run(
            [str(path), *argv[1:]], capture_output=True, text=True, check=True, timeout=150
        )
        return done.stdout.strip()

    def stop(self) -> None:
        self._do("stop")

    def jobs(self) -> list[str]:
        """Return the names of all jobs that were ever accepted, once for each job."""
        return self.command("sacct", "-X", "-n", "-P", "-S", "now-1hour", "-o", "JobName").split()


@pytest.fixture
def mock(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mock]:
    from hpc_flows.settings import data_dir

    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "mock")
    with open(data_dir("profiles") + "/mock.toml", encoding="utf-8") as file:
        text = file.read()
    profile = tmp_path / "mock.toml"
    profile.write_text(text)
    one = Mock(home, profile)
    yield one
    fired = one.faults("show", "--json")
    one.stop()
    silent = [fault["name"] for fault in fired.get("fault", []) if not fault["fired"]]
    assert not silent, f"these faults never fired, so the test shows nothing: {silent}"


@pytest.fixture
def word(tmp_path: Path) -> Path:
    """Return the file at which the jobs of `rest_until` end."""
    return tmp_path / "word"


def events(home: Path, kind: str) -> list[Event]:
    found = [read_run(str(path)) for path in home.glob("runs/*")]
    return [event for run in found for event in run if event.kind == kind]


def error_of(flight: Flight) -> BaseException:
    error = flight.land().result(raise_on_failure=False)
    assert isinstance(error, BaseException)
    return error


# Submitting --------------------------------------------------------------------------------------


def test_a_submission_that_timed_out_and_happened_all_the_same_is_made_once(
    mock: Mock, home: Path
) -> None:
    mock.add("sbatch_times_out", delay=0.2)
    flight = launch_map(answer, range(3))
    assert [state.result() for state in flight.land()] == [0, 1, 2]
    assert len(events(home, "job-intent")) == 1
    assert len(set(mock.jobs())) == 1
    assert len(mock.jobs()) == 3


def test_a_controller_that_is_down_at_submission_is_waited_for(mock: Mock) -> None:
    assert launch(answer, 1).land().result() == 1
    mock.add("controller_down", delay=0.1, times=2)
    assert launch(answer, 2).land().result() == 2


def test_a_banner_of_the_site_does_not_hide_the_id(mock: Mock) -> None:
    mock.add("banner", text="Welcome! 12 nodes are down today.")
    assert launch(answer, 1).land().result() == 1


# Asking ------------------------------------------------------------------------------------------


def test_a_queue_that_refuses_every_other_question_fails_nothing(
    mock: Mock, begun: Begun, word: Path
) -> None:
    mock.add("refuse", commands=["squeue"], every=2)
    flight = launch(rest_until, begun.folder, str(word))
    wait_for(lambda: mock.faults("show", "--json")["fault"][0]["fired"] >= 1)
    word.touch()
    assert flight.land().result() == "rested"


def test_results_come_back_while_no_question_is_answered(mock: Mock, begun: Begun) -> None:
    mock.add("refuse", commands=["squeue", "sacct"], times=0)
    flight = launch_map(rest, [begun.folder] * 3, [2.0] * 3)
    assert [state.name for state in flight.land()] == ["Completed"] * 3


def test_late_accounting_does_not_change_the_cause(mock: Mock, begun: Begun) -> None:
    mock.add("accounting_late", seconds=3)
    flight = launch(rest, begun.folder, 60)
    begun()
    token = wait_for(lambda: mock.command("squeue", "-h", "-o", "%j"))
    mock.command("scancel", "-n", token)
    assert isinstance(error_of(flight), CancelledByScheduler)


@pytest.mark.parametrize("kind", ["slurmdbd_down", "accounting_absent"])
def test_without_accounting_causes_come_from_the_queue(mock: Mock, begun: Begun, kind: str) -> None:
    mock.add(kind, times=0)
    flight = launch(rest, begun.folder, 60)
    begun()
    mock.command("scancel", "-n", wait_for(lambda: mock.command("squeue", "-h", "-o", "%j")))
    assert isinstance(error_of(flight), CancelledByScheduler)


# Bad ends ----------------------------------------------------------------------------------------


def test_a_job_that_is_killed_for_memory_says_how_much_it_asked_for(
    mock: Mock, begun: Begun
) -> None:
    flight = launch(rest.with_options(resources=Resources(memory="2G")), begun.folder, 60)
    begun()
    mock.add("out_of_memory", at=0)
    error = error_of(flight)
    assert isinstance(error, OutOfMemory)
    first = str(error).partition("\n")[0]
    assert "memory of 2G" in first
    assert "it used" in first
    assert 'Resources(memory="4G")' in str(error)


def test_a_node_that_dies_takes_a_job_that_may_run_again(
    mock: Mock, begun: Begun, word: Path
) -> None:
    flight = launch(rest_until, begun.folder, str(word))
    begun()
    mock.add("node_dies", node=mock.command("squeue", "-h", "-o", "%N"), at=0, back_after=4)
    assert len(begun(2)) == 2
    word.touch()
    assert flight.land().result() == "rested"


def test_a_node_that_dies_takes_a_job_that_may_not(
    mock: Mock, begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", _with(mock, tmp_path, "requeue = false"))
    flight = launch(rest, begun.folder, 60)
    begun()
    node = mock.command("squeue", "-h", "-o", "%N")
    mock.add("node_dies", node=node, at=0)
    error = error_of(flight)
    assert isinstance(error, NodeFailed)
    assert f"Node {node} died" in str(error)


def test_a_preempted_job_that_may_not_run_again_says_so(
    mock: Mock, begun: Begun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", _with(mock, tmp_path, "requeue = false"))
    flight = launch(rest, begun.folder, 60)
    begun()
    mock.add("preempt", at=0)
    assert isinstance(error_of(flight), Preempted)


def test_a_preempted_job_that_is_queued_again_completes(
    mock: Mock, begun: Begun, word: Path
) -> None:
    flight = launch(rest_until, begun.folder, str(word))
    begun()
    mock.add("preempt", at=0)
    assert len(begun(2)) == 2
    word.touch()
    assert flight.land().result() == "rested"


def test_a_job_that_vanishes_is_lost(mock: Mock, begun: Begun) -> None:
    flight = launch(rest, begun.folder, 600)
    begun()
    mock.add("job_vanishes", at=0)
    error = error_of(flight)
    assert isinstance(error, JobLost)
    assert "neither the queue nor accounting knows" in str(error)


def test_a_python_that_is_killed_is_lost_with_its_last_words(
    mock: Mock, capfd: pytest.CaptureFixture[str]
) -> None:
    error = error_of(launch(kill_itself))
    assert isinstance(error, JobLost)
    assert "SIGKILL" in str(error)
    assert "asked for 1 cpu, 100M" in str(error)
    # Printed, and never flushed by the task.
    assert "last words" in str(error)
    console = capfd.readouterr().err
    assert console.count("  last words\n") == 1
    (ended,) = [line for line in console.splitlines() if "Finished in state JobLost" in line]
    for fact in ("job 1 ", "on c1", "SIGKILL", "asked for 1 cpu, 100M"):
        assert fact in ended


def test_of_many_that_crash_alike_one_output_is_shown(
    mock: Mock, capfd: pytest.CaptureFixture[str]
) -> None:
    states = launch_map(kill_itself, [9] * 4).land()
    assert {state.name for state in states} == {"JobLost"}
    assert all("last words" in state.message for state in states)
    assert capfd.readouterr().err.count("  last words\n") == 1


def test_a_time_limit_is_told_from_a_kill(mock: Mock, begun: Begun) -> None:
    short = rest.with_options(resources=Resources(walltime="1m"))
    error = error_of(launch(short, begun.folder, 600))
    assert isinstance(error, WalltimeExceeded)


def test_an_id_that_is_handed_out_again_is_not_taken_for_our_job(
    mock: Mock, begun: Begun, word: Path
) -> None:
    """The controller forgets everything and counts from the beginning: our ids are strangers'."""
    flight = launch(rest_until, begun.folder, str(word))
    begun()
    mock.add("id_reset", to=1, at=0)
    mock.add("foreign_job", at=0)
    assert wait_for(lambda: "mallory" in mock.command("squeue", "-h", "-t", "all", "-o", "%u"))
    word.touch()
    assert flight.land().result() == "rested"


def test_an_output_file_that_appears_late_is_no_failure(mock: Mock) -> None:
    mock.add("output_late", seconds=2)
    assert launch(answer, 5).land().result() == 5


def test_a_controller_that_is_killed_and_comes_back_loses_no_result(
    mock: Mock, begun: Begun, word: Path
) -> None:
    flight = launch_map(rest_until, [begun.folder] * 2, [str(word)] * 2)
    begun(2)
    os.kill(mock_cluster.status(mock.home)["pid"], signal.SIGKILL)
    wait_for(lambda: mock_cluster.status(mock.home) is None)
    mock.start()
    word.touch()
    assert [state.result() for state in flight.land()] == ["rested"] * 2


def test_the_jobs_of_a_controller_that_is_stopped_end_with_it_and_so_does_the_flow(
    mock: Mock, begun: Begun
) -> None:
    flight = launch_map(rest, [begun.folder] * 2, [600.0] * 2)
    begun(2)
    mock.stop()
    mock.start()
    assert {state.type.name for state in flight.land()} == {"CRASHED"}


def _with(mock: Mock, folder: Path, line: str) -> str:
    """Return the path of a profile that differs from the mock's in one line."""
    text = mock.profile.read_text()
    usual = line.replace("false", "true")
    assert f"\n{usual}\n" in text
    path = folder / "changed" / "mock.toml"
    path.parent.mkdir()
    path.write_text(text.replace(f"\n{usual}\n", f"\n{line}\n", 1))
    return str(path)
