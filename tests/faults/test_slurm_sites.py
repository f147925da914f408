"""Real Slurms of another configuration: memory that is watched over, and ids that run over."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from job_flights import launch, wait_for
from job_tasks import answer, fill, kill_when_told

from hpc_flows import Resources
from hpc_flows.exceptions import JobLost, OutOfMemory
from hpc_flows.resources import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from slurm_site.fixtures import SlurmSite

    Quick = Callable[..., str]

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

#: Who kills for memory: the node's daemon everywhere, and the kernel where cgroups are of version
#: 1, since Slurm 22.05 wants systemd for those of version 2.
WATCHERS = ["memory-watch"] + ["cgroup"] * os.path.isdir("/sys/fs/cgroup/memory")
#: Says what squeue says when the controller is away, as long as a file is there.
DEAF_SQUEUE = """\
#!/bin/sh
if [ -e {deaf} ]; then
    echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
    exit 1
fi
exec {squeue} "$@"
"""


def command(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def error_of(state: Any) -> BaseException:
    error = state.result(raise_on_failure=False)
    assert isinstance(error, BaseException)
    return error


@pytest.fixture
def few_ids(
    slurm_site: SlurmSite, quick_slurm: Quick, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Make a site active whose ids go from 11 to 24 and begin again."""
    with slurm_site.beside("few-ids") as conf:
        monkeypatch.setenv("SLURM_CONF", str(conf))
        quick_slurm(accounting=90.0)  # a new controller's first words may take long to arrive
        yield


@pytest.fixture
def deaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file; while it is there, squeue does not reach the controller."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "squeue"
    script.write_text(DEAF_SQUEUE.format(deaf=tmp_path / "deaf", squeue=shutil.which("squeue")))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return tmp_path / "deaf"


def use_up_ids_until(wanted: str) -> None:
    """Submit jobs of nobody's until one of them has got this id."""

    def strange_job() -> bool:
        argv = ["sbatch", "--parsable", "-J", "stranger", "-o", "/dev/null", "--wrap", "sleep 600"]
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
        )
        job = done.stdout.strip()
        if job and job != wanted:
            command("scancel", job)
        return job == wanted

    # An id is free again once the controller has forgotten the job that had it.
    wait_for(strange_job, 150)


@pytest.mark.parametrize("watcher", WATCHERS)
def test_a_job_that_passes_its_memory_is_out_of_memory(
    watcher: str, slurm_site: SlurmSite, quick_slurm: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slurm_site.beside(watcher) as conf:
        monkeypatch.setenv("SLURM_CONF", str(conf))
        quick_slurm()
        greedy = fill.with_options(resources=Resources(memory="100M"))
        error = error_of(launch(greedy, 300 * MIB).land())
        modest = fill.with_options(resources=Resources(memory="600M"))
        assert launch(modest, 50 * MIB, seconds=0).land().result() == 50 * MIB
    assert isinstance(error, OutOfMemory)
    first, _, output = str(error).partition("\n")
    for fact in ("memory of 100M", "job 1 on c1", "asked for 1 cpu, 100M", "it used"):
        assert fact in first
    assert 'Resources(memory="200M")' in first
    assert "filling" in output
    assert error.details["requested"]["memory"] == 100 * MIB


def test_an_id_that_a_stranger_got_is_not_taken_for_our_job(
    few_ids: None, deaf: Path, tmp_path: Path, home: Path
) -> None:
    """Our job is killed while the controller is away, and forgotten before it is asked again."""
    word = tmp_path / "word"
    flight = launch(kill_when_told, str(word))
    (ours,) = wait_for(
        lambda: [job for job in command("squeue", "-h", "-t", "R", "-o", "%A").split() if job]
    )
    deaf.touch()
    word.touch()
    use_up_ids_until(ours)
    assert command(shutil.which("squeue", path="/usr/bin") or "squeue", "-h", "-j", ours)
    deaf.unlink()
    error = error_of(flight.land())
    assert isinstance(error, JobLost)
    assert error.details["job"] == ours
    assert "SIGKILL" in str(error)
    # The stranger's job, which has the id now, was left alone.
    assert command("squeue", "-h", "-j", ours, "-o", "%j") == "stranger"
    (journal,) = home.glob("runs/*/journal/driver*.jsonl")
    events = [json.loads(line.rpartition("\t")[0]) for line in journal.read_text().splitlines()]
    assert not [event for event in events if event["kind"] == "job-cancel"]


def test_flows_go_on_while_ids_run_over(few_ids: None) -> None:
    first = [launch(answer, number).land() for number in range(9)]
    second = [launch(answer, number).land() for number in range(9)]
    assert [state.result() for state in first + second] == [*range(9), *range(9)]
    jobs = [int(state.details["job"]) for state in first + second]
    assert all(11 <= job <= 24 for job in jobs)
    assert jobs != sorted(jobs)
