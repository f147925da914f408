"""Jobs of a real Slurm that are killed, lost or held up never hang a flow, and say why."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from job_flights import launch, launch_map, wait_for
from job_tasks import answer, crash, kill_itself, leave, rest, rest_until

from hpc_flows import Resources
from hpc_flows.exceptions import (
    CancelledByScheduler,
    JobLost,
    NodeFailed,
    SubmissionRejected,
    WalltimeExceeded,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slurm_site.fixtures import SlurmSite

    Begun = Callable[..., list[str]]
    Quick = Callable[..., str]

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


def command(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def accounting_that_has_caught_up() -> None:
    """Wait until accounting tells how a new job ended: others have had it stopped for a while."""
    words = "sbatch --parsable --partition=standard --output=/dev/null --chdir=/tmp --wrap=true"
    job = command(*words.split())
    wait_for(lambda: "COMPLETED" in command("sacct", "-nX", "-j", job, "-o", "State"), 240)


def our_job(home: Path) -> str:
    """Return the id of the only job that the run has submitted, as squeue knows it."""
    tokens = wait_for(lambda: [path.name for path in home.glob("runs/*/jobs/*")])
    return str(wait_for(lambda: command("squeue", "-h", "-n", tokens[0], "-o", "%A")).split()[0])


def error_of(state: Any) -> BaseException:
    error = state.result(raise_on_failure=False)
    assert isinstance(error, BaseException)
    return error


def test_a_job_that_somebody_cancels_is_cancelled_by_the_scheduler(
    quick_slurm: Quick, begun: Begun, home: Path
) -> None:
    quick_slurm(accounting=60.0)  # it alone knows who cancelled
    flight = launch(rest, begun.folder, 120)
    begun()
    job = our_job(home)
    command("scancel", job)
    error = error_of(flight.land())
    assert isinstance(error, CancelledByScheduler)
    user = command("id", "-un")
    assert f"by {user}" in str(error)
    assert "not through hpc_flows" in str(error)
    assert error.details["job"] == job
    assert str(error.details["node"]).startswith("c")


def test_one_cancelled_element_of_an_array_leaves_the_others_alone(
    quick_slurm: Quick, begun: Begun, home: Path, tmp_path: Path
) -> None:
    quick_slurm()
    word = tmp_path / "word"
    flight = launch_map(rest_until, [begun.folder] * 3, [str(word)] * 3)
    begun(3)
    token = next(home.glob("runs/*/jobs/*")).name
    array = command("squeue", "-h", "-n", token, "-o", "%F").split()[0]
    command("scancel", f"{array}_1")
    # It hears of that later than scancel ends, and could complete in between.
    wait_for(lambda: "1" not in command("squeue", "-hr", "-n", token, "-o", "%K").split())
    word.touch()
    states = flight.land()
    assert [state.name for state in states] == ["Completed", "CancelledByScheduler", "Completed"]


def test_a_job_that_reaches_its_time_limit_says_what_to_ask_for(
    quick_slurm: Quick, begun: Begun
) -> None:
    quick_slurm()
    short = rest.with_options(resources=Resources(walltime="1m"))
    error = error_of(launch(short, begun.folder, 600).land())
    assert isinstance(error, WalltimeExceeded)
    assert "00:01:00" in str(error)
    assert 'Resources(walltime="00:02:00")' in str(error)
    assert "DUE TO TIME LIMIT" in str(error)


def test_a_python_that_is_killed_is_lost_with_its_last_words(quick_slurm: Quick) -> None:
    quick_slurm()
    error = error_of(launch(kill_itself).land())
    assert isinstance(error, JobLost)
    assert "SIGKILL" in str(error)
    assert "last words" in str(error)


def test_a_library_that_crashes_is_told_from_a_kill(quick_slurm: Quick) -> None:
    quick_slurm()
    error = error_of(launch(crash).land())
    assert isinstance(error, JobLost)
    assert "SIGSEGV" in str(error)


@pytest.mark.parametrize("status", [0, 7])
def test_a_task_that_leaves_python_by_itself_is_lost(quick_slurm: Quick, status: int) -> None:
    quick_slurm()
    error = error_of(launch(leave, status).land())
    assert isinstance(error, JobLost)
    assert f"exit status {status}" in str(error)


def test_a_node_that_dies_fails_the_run_where_nothing_is_requeued(
    quick_slurm: Quick, begun: Begun, home: Path, slurm_site: SlurmSite
) -> None:
    quick_slurm(requeue=False)
    flight = launch(rest, begun.folder, 300)
    begun()
    node = command("squeue", "-h", "-j", our_job(home), "-o", "%N")
    slurm_site.kill(node)
    error = error_of(flight.land())
    assert isinstance(error, NodeFailed)
    assert node in str(error)


def test_a_job_that_is_requeued_runs_again_and_completes(
    quick_slurm: Quick, begun: Begun, home: Path, tmp_path: Path
) -> None:
    quick_slurm(requeue=True)
    word = tmp_path / "word"
    flight = launch(rest_until, begun.folder, str(word))
    begun()
    job = our_job(home)
    command("scontrol", "requeue", job)
    # Slurm lets a job that was requeued wait for two minutes.
    assert begun(2, 400) == [f"{job}-0", f"{job}-1"]
    word.touch()
    assert flight.land().result() == "rested"


def test_nothing_fails_while_the_controller_is_down(
    quick_slurm: Quick, begun: Begun, slurm_site: SlurmSite
) -> None:
    quick_slurm()
    flight = launch_map(rest, [begun.folder] * 2, [75.0, 5.0])
    begun(2)
    slurm_site.stop("slurmctld")
    time.sleep(60)
    slurm_site.start("slurmctld")
    assert [state.name for state in flight.land()] == ["Completed", "Completed"]


def test_a_submission_that_met_a_hung_controller_is_made_once(
    quick_slurm: Quick, home: Path, begun: Begun, slurm_site: SlurmSite
) -> None:
    quick_slurm()
    launch(answer).land()  # so that the scheduler has been reached before
    slurm_site.pause("slurmctld")
    flight = launch(rest, begun.folder, 1)
    time.sleep(14)
    slurm_site.resume("slurmctld")
    assert flight.land().result() == "rested"
    assert len(begun()) == 1
    newest = max(home.glob("runs/*"), key=lambda path: path.stat().st_mtime)
    assert len(list(newest.glob("jobs/*"))) == 1


def test_without_accounting_a_killed_job_still_has_its_cause(
    quick_slurm: Quick, begun: Begun, home: Path, slurm_site: SlurmSite
) -> None:
    quick_slurm()
    slurm_site.stop("slurmdbd")
    flight = launch(rest, begun.folder, 120)
    begun()
    command("scancel", our_job(home))
    error = error_of(flight.land())
    assert isinstance(error, CancelledByScheduler)


def test_without_accounting_results_come_back(quick_slurm: Quick, slurm_site: SlurmSite) -> None:
    quick_slurm()
    slurm_site.stop("slurmdbd")
    assert [s.result() for s in launch_map(answer, range(3)).land()] == [0, 1, 2]


def test_a_refused_submission_fails_with_slurms_own_words(quick_slurm: Quick) -> None:
    quick_slurm()
    wrong = answer.with_options(resources=Resources(account="nosuchaccount"))
    error = error_of(launch(wrong).land())
    assert isinstance(error, SubmissionRejected)
    assert "Invalid account" in str(error)


def test_a_job_that_can_never_start_is_refused_and_withdrawn(
    quick_slurm: Quick, home: Path
) -> None:
    quick_slurm()
    # Slurm takes it and lets it wait for ever: the QOS allows an hour.
    never = answer.with_options(resources=Resources(qos="short", walltime="2h"))
    state = launch(never).land()
    assert state.name == "Rejected"
    assert "QOSMaxWallDurationPerJobLimit" in str(error_of(state))
    token = next(home.glob("runs/*/jobs/*")).name
    wait_for(lambda: not command("squeue", "-h", "-n", token))
