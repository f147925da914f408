"""A flow's tasks on a real Slurm: arrays, few commands, logs, resources, results."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from cluster_flows import nothing, square, surroundings, table, talk, third_time, total

from hpc_flows import flow
from hpc_flows.clusters import Cluster
from hpc_flows.journal.reader import read_run
from hpc_flows.task_runners.cluster import SlurmTaskRunner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slurm_site.fixtures import SlurmSite

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def active(slurm_site: SlurmSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "generic_slurm")


def test_two_hundred_tasks_are_one_array_and_at_most_ten_commands(
    counted: Callable[[str], Any], tmp_path: Path, home: Path
) -> None:
    folder, commands = counted("/usr/bin")
    profile = tmp_path / "counted.toml"
    profile.write_text(f'extends = "generic_slurm"\nname = "counted"\npath = ["{folder}"]\n')

    @flow(task_runner=SlurmTaskRunner(Cluster.load(profile)))
    def many() -> None:
        nothing.map(range(200)).wait()

    many()
    used = commands()
    assert used["sbatch"] == 1
    assert used.total() <= 10
    (run,) = home.glob("runs/*")
    (intent,) = [event for event in read_run(str(run)) if event.kind == "job-intent"]
    assert intent.data["array"] == "0-199"


def test_results_flow_from_jobs_to_jobs() -> None:
    @flow
    def sums() -> int:
        return int(total(square.map(range(5))))

    assert sums() == 30


def test_logs_and_prints_of_jobs_are_on_the_console_and_in_the_journal(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    @flow
    def talking() -> str:
        return str(talk("loudly"))

    assert talking() == "loudly"
    shown = capfd.readouterr().err
    (run,) = home.glob("runs/*")
    logged = [event.data["message"] for event in read_run(str(run)) if event.kind == "log"]
    for text in ("logged loudly", "printed loudly"):
        assert text in shown
        assert text in logged


def test_a_job_sees_its_cpus_its_variables_and_no_secret_of_the_submitter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRIVATE_TOKEN", "s3cret")

    @flow
    def look() -> dict[str, str]:
        return dict(surroundings())

    found = look()
    assert found["MARK"] == "a b'c"
    assert found["OMP_NUM_THREADS"] == "2"
    assert found["SRUN_CPUS_PER_TASK"] == "2"
    assert found["SLURM_JOB_NAME"].startswith("hf-")
    assert "PRIVATE_TOKEN" not in found


def test_retries_of_the_user_cost_no_second_job(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "tries"
    folder.mkdir()

    @flow
    def patient() -> int:
        return int(third_time(str(folder)))

    assert patient() == 2
    assert len(list(home.glob("runs/*/jobs/*"))) == 1


def test_a_large_array_comes_back_through_a_file(home: Path) -> None:
    @flow
    def large() -> Any:
        return table(2_000_000)

    assert large()[-1] == 1_999_999
    assert list(home.glob("runs/*/results/*"))


def test_a_script_can_be_submitted_again_by_hand(home: Path) -> None:
    @flow
    def once() -> int:
        return int(square(3))

    assert once() == 9
    (script,) = home.glob("runs/*/jobs/*/script.sh")
    done = subprocess.run(
        ["sbatch", "-W", "--parsable", str(script), "--retake"],  # noqa: S607 - the site's own
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip().isdigit()
    assert "nothing to do" in (script.parent / "out-0.log").read_text()


def test_ending_a_flow_early_leaves_no_job_behind(home: Path) -> None:
    from hpc_flows.exceptions import CancelledRun

    @flow
    def hasty() -> None:
        nothing.map(range(50))
        raise CancelledRun("enough")

    with pytest.raises(CancelledRun):
        hasty()
    tokens = ",".join(path.name for path in home.glob("runs/*/jobs/*"))
    if tokens:
        left = subprocess.run(
            ["squeue", "-h", "-n", tokens, "-t", "PD,R"],  # noqa: S607 - the site's own
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert not left.stdout.strip()
