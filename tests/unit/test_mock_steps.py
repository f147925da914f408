"""srun and salloc of the mock: steps in a job, and allocations without a script."""

from __future__ import annotations

import signal
import subprocess
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import mock_site
import pytest
from mock_site import MockSite

from hpc_flows.mock_cluster.clock import RealClock
from hpc_flows.mock_cluster.runner import ProcessRunner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockSite]:
    with mock_site.running(tmp_path_factory.mktemp("steps")) as site:
        yield site


def job_output(site: MockSite, options: str, script: str) -> str:
    (site.work / "step.sh").write_text("#!/bin/sh\n" + script)
    job = site.submit(f"-o step.out {options} step.sh")
    site.wait(job, "COMPLETED", "FAILED")
    return site.output("step.out")


def test_srun_gives_each_task_its_rank_and_passes_the_status_on(site: MockSite) -> None:
    answer = site.run("srun -n2 sh -c 'echo $SLURM_PROCID/$SLURM_NTASKS; exit 3'")
    assert sorted(answer.out.split()) == ["0/2", "1/2"]
    assert answer.err == "srun: error: c1: tasks 0-1: Exited with exit code 3\n"
    assert answer.status == 3


def test_srun_labels_lines_with_ranks(site: MockSite) -> None:
    assert sorted(site.out("srun -l -n2 echo hi").splitlines()) == ["0: hi", "1: hi"]


def test_srun_has_the_stdin_of_its_caller(site: MockSite) -> None:
    assert site.out("echo through | srun cat") == "through\n"


def test_a_command_that_is_not_there_is_told_by_the_node(site: MockSite) -> None:
    answer = site.run("srun nosuchcmd")
    first, second = answer.err.splitlines()
    assert first == "slurmstepd-c1: error: execve(): nosuchcmd: No such file or directory"
    assert second == "srun: error: c1: task 0: Exited with exit code 2"
    assert answer.status == 2


def test_srun_is_refused_as_sbatch_is(site: MockSite) -> None:
    answer = site.run("srun -p nosuch true")
    assert answer.err == (
        "srun: error: invalid partition specified: nosuch\n"
        "srun: error: Unable to allocate resources: Invalid partition name specified\n"
    )


def test_steps_are_in_accounting_and_do_not_fail_their_job(site: MockSite) -> None:
    text = job_output(site, "-n2", "srun -n1 true; srun -n2 sh -c 'exit 5'; echo rc=$?\n")
    assert text == "srun: error: c1: tasks 0-1: Exited with exit code 5\nrc=5\n"
    job = site.out("squeue -h -t all -n step.sh -o %i -S i").split()[-1]
    rows = site.out(f"sacct -n -P -j {job} -o JobID,JobName,State,ExitCode,DerivedExitCode")
    assert rows.splitlines() == [
        f"{job}|step.sh|COMPLETED|0:0|5:0",
        f"{job}.batch|batch|COMPLETED|0:0|",
        f"{job}.0|true|COMPLETED|0:0|",
        f"{job}.1|sh|FAILED|5:0|",
    ]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("srun -n 9 true", "srun: error: Unable to create step for job {}: More processors"),
        ("srun -N3 true", "srun: error: Only allocated 2 nodes asked for 3"),
    ],
)
def test_a_step_larger_than_its_job_is_refused(site: MockSite, line: str, text: str) -> None:
    script = f"echo $SLURM_JOB_ID > id; {line}; echo rc=$?\n"
    said = job_output(site, "-p parallel -N2 -n4", script)
    assert said.startswith(text.format(site.output("id").strip()))
    assert said.endswith("rc=1\n")


def test_tasks_are_spread_over_the_nodes(site: MockSite) -> None:
    said = job_output(
        site, "-p parallel -N2 -n4", "srun sh -c 'echo $SLURM_PROCID $SLURMD_NODENAME'\n"
    )
    assert sorted(said.splitlines()) == ["0 c1", "1 c1", "2 c2", "3 c2"]


def test_salloc_holds_an_allocation_for_its_command(site: MockSite) -> None:
    answer = site.run("salloc -n2 sh -c 'srun -n2 echo step; exit 4'")
    assert answer.out == "step\nstep\n"
    first, second = answer.err.splitlines()
    assert first.startswith("salloc: Granted job allocation ")
    assert second.startswith("salloc: Relinquishing job allocation ")
    assert answer.status == 4


def test_srun_waits_for_room_and_says_so(site: MockSite) -> None:
    hogs = [site.submit("--exclusive -o /dev/null --wrap 'sleep 60'") for _ in range(2)]
    for hog in hogs:
        site.wait(hog, "RUNNING")
    env = {"PATH": f"{site.info.bin}:/usr/bin:/bin", "HOME": str(site.home)}
    waiting = subprocess.Popen(
        [site.info.bin / "srun", "-J", "waits", "echo", "ran"],
        cwd=site.work,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    site.until(lambda: site.out("squeue -h -n waits -o %T").strip(), "PENDING")
    site.out(f"scancel {' '.join(hogs)}")
    out, err = waiting.communicate(timeout=mock_site.PATIENCE)
    assert out == "ran\n"
    assert "queued and waiting for resources\n" in err
    assert "has been allocated resources\n" in err


def test_the_job_of_a_killed_srun_ends(site: MockSite) -> None:
    env = {"PATH": f"{site.info.bin}:/usr/bin:/bin", "HOME": str(site.home)}
    running = subprocess.Popen(
        [site.info.bin / "srun", "-J", "orphan", "sleep", "60"], cwd=site.work, env=env
    )
    site.until(lambda: site.out("squeue -h -n orphan -o %T").strip(), "RUNNING")
    running.send_signal(signal.SIGKILL)
    running.wait(mock_site.PATIENCE)
    site.until(lambda: site.out("squeue -h -n orphan -o %T").strip(), "")


def test_scancel_ends_an_srun(site: MockSite) -> None:
    env = {"PATH": f"{site.info.bin}:/usr/bin:/bin", "HOME": str(site.home)}
    running = subprocess.Popen(
        [site.info.bin / "srun", "-J", "ended", "sleep", "60"],
        cwd=site.work,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    site.until(lambda: site.out("squeue -h -n ended -o %T").strip(), "RUNNING")
    site.out("scancel -n ended")
    _, err = running.communicate(timeout=mock_site.PATIENCE)
    assert running.returncode != 0
    assert "srun: error: c1: task 0: Terminated\n" in err


def test_what_is_only_being_started_is_asked_to_end_once_it_is_there(tmp_path: Path) -> None:
    """As scancel does to an srun that has its nodes and has not started its tasks yet."""
    clock = RealClock()
    runner = ProcessRunner(clock, tmp_path, lambda _job, _folder: pytest.fail("nothing starts"))
    starts_late = ["/bin/sh", "-c", "read go; sleep 60; exit $?"]
    with subprocess.Popen(starts_late, stdin=subprocess.PIPE) as running:
        job: Any = SimpleNamespace(
            pid=running.pid, completing=True, run=0, request=SimpleNamespace(batch=False)
        )
        runner.terminate(job, "")
        assert running.stdin is not None
        running.stdin.write(b"go\n")
        running.stdin.flush()
        while running.poll() is None:
            clock.run_due()
            time.sleep(0.01)
    assert running.returncode == 128 + signal.SIGTERM
