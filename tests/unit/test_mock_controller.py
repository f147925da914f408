"""The controller starts once, survives being killed, and leaves its jobs alone when it dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import mock_site
import pytest
from mock_site import MockSite

from hpc_flows import mock_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERBS = [sys.executable, "-m", "hpc_flows.mock_cluster"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[MockSite]:
    with mock_site.running(tmp_path) as site:
        yield site


def kill_controller(site: MockSite) -> None:
    found = mock_cluster.status(site.home, "m")
    assert found is not None
    os.kill(found["pid"], signal.SIGKILL)
    site.until(lambda: mock_cluster.status(site.home, "m"), "None")


def start_again(site: MockSite) -> None:
    assert mock_cluster.start(site.home, "m", site.options).started


def test_starting_twice_leaves_the_first_as_it_is(site: MockSite) -> None:
    again = mock_cluster.start(site.home, "m", site.options)
    assert (again.started, again.pid) == (False, site.info.pid)


def test_many_starts_at_once_make_one_controller(tmp_path: Path) -> None:
    def start(_number: int) -> mock_cluster.MockInfo:
        argv = [*VERBS, "start", "--home", str(tmp_path), "--name", "m"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
        found = mock_cluster.status(tmp_path, "m")
        assert found is not None
        return found["pid"], "runs already" in done.stdout

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(start, range(4)))
    mock_cluster.stop(tmp_path, "m")
    assert len({pid for pid, _ in answers}) == 1
    assert sorted(already for _, already in answers) == [False, True, True, True]


def test_a_running_job_outlives_the_controller_and_is_adopted(site: MockSite) -> None:
    script = "until [ -e go ]; do sleep 0.05; done; echo ended; exit 3"
    job = site.submit(f"-o lived.out --wrap '{script}'")
    site.wait(job, "RUNNING")
    kill_controller(site)
    start_again(site)
    assert site.state(job) == "RUNNING"
    (site.work / "go").touch()
    site.wait(job, "FAILED")
    assert site.history(job, "State,ExitCode") == "FAILED|3:0"
    assert site.output("lived.out") == "ended\n"


def test_a_job_that_ended_meanwhile_is_told_of_after_the_restart(site: MockSite) -> None:
    job = site.submit("-o away.out --wrap 'until [ -e go ]; do sleep 0.05; done; exit 4'")
    site.wait(job, "RUNNING")
    kill_controller(site)
    (site.work / "go").touch()
    spool = site.info.folder / "state" / "spool"
    site.until(lambda: len(list(spool.glob("*/exit.json"))), "1")
    start_again(site)
    site.wait(job, "FAILED")
    assert site.history(job, "ExitCode") == "4:0"


def test_queue_accounting_and_ids_are_kept_over_a_restart(site: MockSite) -> None:
    ended = site.submit("-J done -o /dev/null --wrap 'exit 5'")
    site.wait(ended, "FAILED")
    held = site.submit("-H -J held -o /dev/null --wrap true")
    array = site.submit("--begin=now+1hour --array=0-3 --wrap true")
    kill_controller(site)
    start_again(site)
    assert (site.state(ended), site.state(held)) == ("FAILED", "PENDING")
    assert site.history(ended, "JobName,State,ExitCode") == "done|FAILED|5:0"
    assert site.out(f"squeue -h -j {array} -o %i") == f"{array}_[0-3]\n"
    assert int(site.submit("-H --wrap true")) > int(array)
    site.out(f"scontrol release {held}")
    site.wait(held, "COMPLETED")


def test_a_job_whose_supervisor_is_gone_is_lost_with_its_node(site: MockSite) -> None:
    job = site.submit("--no-requeue -o /dev/null --wrap 'echo $PPID > supervisor; sleep 60'")
    site.until_written("supervisor")
    kill_controller(site)
    os.kill(int(site.output("supervisor")), signal.SIGKILL)
    start_again(site)
    site.wait(job, "NODE_FAIL")


def test_a_supervisor_that_is_killed_fails_its_job(site: MockSite) -> None:
    job = site.submit("-o /dev/null --wrap 'echo $PPID > one; sleep 60'")
    site.until_written("one")
    os.kill(int(site.output("one")), signal.SIGKILL)
    site.wait(job, "FAILED")
    assert site.history(job, "ExitCode") == "0:9"


def test_a_torn_last_line_of_the_store_is_left_out(site: MockSite) -> None:
    job = site.submit("-H --wrap true")
    kill_controller(site)
    with (site.info.folder / "state" / "events.jsonl").open("a") as store:
        store.write('["job", {"id": 99, "sp')
    start_again(site)
    assert site.out("squeue -h -o %i") == f"{job}\n"


def test_commands_say_that_the_controller_is_away(site: MockSite) -> None:
    kill_controller(site)
    away = "Unable to contact slurm controller (connect failure)"
    sbatch = site.run("sbatch --wrap true", HPC_FLOWS_HOME="/x")
    assert sbatch == ("", f"sbatch: error: Batch job submission failed: {away}\n", 1)
    assert site.run("squeue") == ("", f"slurm_load_jobs error: {away}\n", 1)
    assert site.run("sinfo") == ("", f"slurm_load_partitions: {away}\n", 1)
    cancel = f"scancel: error: Kill job error on job id 1: {away}\n"
    assert site.run("scancel 1") == ("", cancel, 8)
    ping = site.run("scontrol ping")
    assert ping == ("Slurmctld(primary) at login is DOWN\n", "", 1)
    told = site.run("squeue --json")
    assert (json.loads(told.out)["jobs"], told.status) == ([], 0)


def test_a_call_in_flight_when_the_controller_dies_ends_in_doubt(site: MockSite) -> None:
    running = subprocess.Popen(
        [site.info.bin / "sbatch", "-W", "-o", "/dev/null", "--wrap", "sleep 60"],
        cwd=site.work,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    site.until(lambda: site.out("squeue -h -o %T").strip(), "RUNNING")
    kill_controller(site)
    _, err = running.communicate(timeout=mock_site.PATIENCE)
    assert err.endswith("Zero Bytes were transmitted or received\n")
    assert running.returncode == 1
    start_again(site)


def test_a_step_keeps_its_status_when_the_controller_dies(site: MockSite) -> None:
    script = "srun sh -c 'until [ -e go ]; do sleep 0.05; done; exit 6' 2> /dev/null; exit $?"
    (site.work / "step.sh").write_text(f"#!/bin/sh\n{script}\n")
    job = site.submit("-o /dev/null step.sh")
    site.until(lambda: site.out(f"sacct -n -P -j {job}.0 -o JobID").count(".0"), "1")
    kill_controller(site)
    (site.work / "go").touch()
    spool = site.info.folder / "state" / "spool"
    site.until(lambda: len(list(spool.glob("*/exit.json"))), "1")
    start_again(site)
    site.wait(job, "FAILED")
    assert site.history(job, "ExitCode") == "6:0"


ODD = ["", "-", "--", "=", "%", "[", "1_[", "_", "-1", "0", "1-", "é", "*", "a,b", ":", "@", "+"]
VALUED = {
    "sbatch": "array nodes time mem dependency begin signal gres gpus nice nodelist deadline",
    "squeue": "jobs format Format state sort name user node partition",
    "sacct": "jobs format starttime endtime state name nodelist",
    "scancel": "name signal state user partition",
    "sinfo": "format nodes partition states",
}


@pytest.mark.parametrize("command", VALUED)
def test_odd_values_end_one_command_and_never_the_controller(site: MockSite, command: str) -> None:
    tail = "-H --wrap true" if command == "sbatch" else ""
    for option in VALUED[command].split():
        line = "; ".join(f"{command} --{option}='{odd}' {tail}" for odd in ODD)
        site.run(line)
    for odd in ODD:
        site.run(f"{command} '{odd}'; scontrol show job '{odd}'; scontrol hold '{odd}'")
    assert mock_cluster.status(site.home, "m") is not None
    assert (site.info.folder / "controller.log").read_text() == ""


def test_stopping_cancels_what_runs(tmp_path: Path) -> None:
    site = MockSite(tmp_path)
    site.submit("-o /dev/null --wrap 'echo $$ > pid; sleep 300'")
    site.until_written("pid")
    assert mock_cluster.stop(tmp_path, "m") is True
    pid = int(site.output("pid"))
    site.until_gone(pid)
    assert mock_cluster.stop(tmp_path, "m") is False


def test_a_fresh_start_forgets_earlier_jobs(site: MockSite) -> None:
    site.submit("-H --wrap true")
    site.stop()
    options = mock_cluster.StartOptions(timings=site.options.timings, fresh=True)
    mock_cluster.start(site.home, "m", options)
    assert site.out("squeue -h -t all") == ""
    assert site.submit("-H --wrap true") == "1"


def test_commands_start_with_the_standard_library_only(site: MockSite) -> None:
    text = (site.info.bin / "squeue").read_text()
    assert "hpc_flows" not in text.replace(str(site.info.folder), "")
    program = "import sys; sys.path.insert(0, sys.argv[1]); import mock_client.command; "
    program += "print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-SE", "-c", program, str(site.info.folder / "client")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"json", "re", "subprocess", "socket", "typing", "argparse", "threading"}


# -- profiles and bad input


PROFILE = """
name = "little"
default_partition = "day"
required = ["account"]
[limits]
max_array_size = 11
[partitions.day]
max_walltime = "1-00:00:00"
default_walltime = "01:00:00"
max_nodes = 1
default_memory_per_cpu = "1G"
[partitions.gpu]
max_walltime = "12:00:00"
gpus_required = true
[mock]
version = "24.11.5"
accounts = ["mylab"]
nodes = [
  { name = "n[01-02]", cpus = 8, memory = "16G", gpus = "", partitions = ["day"] },
  { name = "g1", cpus = 16, memory = "64G", gpus = "a100:2,a40:1", partitions = ["gpu"] },
]
"""


def test_a_profile_makes_the_site(tmp_path: Path) -> None:
    profile = tmp_path / "little.toml"
    profile.write_text(PROFILE)
    options = mock_cluster.StartOptions(profile=profile, timings=dict(mock_site.QUICK))
    with mock_site.running(tmp_path, options) as site:
        assert site.out("sinfo -h -o '%P|%l|%D|%N'").splitlines() == [
            "day*|1-00:00:00|2|n[01-02]",
            "gpu|12:00:00|1|g1",
        ]
        assert "Invalid account" in site.run("sbatch --wrap true").err
        assert "QOSMinGRES" in site.run("sbatch -A mylab -p gpu --wrap true").err
        assert "Invalid job array" in site.run("sbatch -A mylab --array=0-11 --wrap true").err
        job = site.submit(
            "-A mylab -p gpu --gres=gpu:a40:1 -o gpu.out --wrap 'echo $SLURM_JOB_GPUS'"
        )
        site.wait(job, "COMPLETED")
        assert site.output("gpu.out") == "2\n"


@pytest.mark.parametrize("name", ["afton", "mock", "delftblue", "generic_slurm"])
def test_shipped_profiles_can_be_played(tmp_path: Path, name: str) -> None:
    profile = Path(__file__).parents[2] / "profiles" / f"{name}.toml"
    options = mock_cluster.StartOptions(profile=profile, timings=dict(mock_site.QUICK))
    with mock_site.running(tmp_path, options) as site:
        assert site.out("sinfo -h -o %N") != ""


def test_a_site_that_forbids_sbatch_in_jobs_refuses_it(tmp_path: Path) -> None:
    profile = tmp_path / "strict.toml"
    profile.write_text("submit_from_jobs = false\n" + PROFILE)
    options = mock_cluster.StartOptions(profile=profile, timings=dict(mock_site.QUICK))
    with mock_site.running(tmp_path, options) as site:
        job = site.submit("-A mylab -o inside.out --wrap 'sbatch -A mylab --wrap true; echo rc=$?'")
        site.wait(job, "COMPLETED")
        assert site.output("inside.out").endswith("Access/permission denied\nrc=1\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--profile", "nosuch.toml"], "nosuch.toml cannot be read"),
        (["--set", "kil_wait=1"], "did you mean 'kill_wait'?"),
        (["--set", "kill_wait=soon"], "give a number of seconds"),
        (["--set", "kill_wait"], "write it as NAME=SECONDS"),
        (["--faults", "nosuch.toml"], "nosuch.toml cannot be read"),
    ],
)
def test_a_bad_start_says_what_is_wrong(tmp_path: Path, words: list[str], text: str) -> None:
    argv = [*VERBS, "start", "--home", str(tmp_path), *words]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert text in done.stderr
    assert done.returncode == 2
    assert mock_cluster.status(tmp_path) is None


def test_the_verbs_work_together(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [*VERBS, words[0], "--home", str(tmp_path), *words[1:]]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    assert "does not run" in run("status").stdout
    assert "; start it with" in run("faults").stderr
    assert "started" in run("start", "--min-job-age", "5", "--dbd-lag", "0").stdout
    found = json.loads(run("status").stdout)
    assert found["timings"]["min_job_age"] == 5
    added = json.loads(run("faults", "add", "refuse", 'commands=["squeue"]', "times=2").stdout)
    assert added["fault"][0]["times"] == 2
    assert json.loads(run("faults", "clear").stdout)["fault"] == []
    assert json.loads(run("paths").stdout)["bin"].endswith("/mock/mock/bin")
    assert "stopped" in run("stop").stdout
    assert run("status").returncode == 1


def state_of(site: MockSite) -> Path:
    """Return the file in which the controller keeps what it must not forget."""
    return Path(site.info.folder, "state", "events.jsonl")


def as_an_older_version(line: str) -> str:
    """Return a line of the state as a version would have written it that knew fewer fields."""
    kind, data = json.loads(line)
    if kind == "layout":
        return ""
    if kind == "job":
        del data["output_late"]
        data["colour"] = "blue"
    if kind == "acct":
        del data["row"]["priority"]
    return json.dumps([kind, data]) + "\n"


def damaged(line: str) -> str:
    """Return a line of the state without what everything else refers to."""
    return "" if line.startswith('["spec"') else line


@pytest.mark.parametrize("change", [as_an_older_version, damaged])
def test_state_that_cannot_be_read_is_put_aside(
    site: MockSite, change: Callable[[str], str]
) -> None:
    ended = site.submit("-o /dev/null --wrap 'exit 5'")
    site.wait(ended, "FAILED")
    site.until(lambda: site.history(ended, "State"), "FAILED")
    held = site.submit("-H --wrap true")
    kill_controller(site)
    state = state_of(site)
    old = "".join(change(line) for line in state.read_text().splitlines(keepends=True))
    state.write_text(old)
    info = mock_cluster.start(site.home, "m", site.options)
    assert "The state of this mock cluster was put aside" in info.warning
    (kept,) = state.parent.glob("events.old-*.jsonl")
    assert str(kept) in info.warning
    assert kept.read_text() == old
    assert site.out("squeue -h -t all") == ""
    # A job of before that still runs must not share its number, and so its files, with a new one.
    assert int(site.submit("-H --wrap true")) > int(held)
    kill_controller(site)
    assert mock_cluster.start(site.home, "m", site.options).warning == ""


def test_a_second_state_that_is_put_aside_leaves_the_first(site: MockSite) -> None:
    for number in (1, 2):
        site.submit("-H --wrap true")
        kill_controller(site)
        state = state_of(site)
        lines = state.read_text().splitlines(keepends=True)
        state.write_text("".join(map(as_an_older_version, lines)))
        start_again(site)
        assert len(list(state.parent.glob("events.old-*.jsonl"))) == number


def test_who_starts_it_by_command_is_told_what_was_put_aside(site: MockSite) -> None:
    site.submit("-H --wrap true")
    kill_controller(site)
    state = state_of(site)
    state.write_text(state.read_text().replace('"restarts"', '"returns"'))
    argv = [*VERBS, "start", "--home", str(site.home), "--name", "m"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert "put aside" in done.stderr
    assert "'m' started" in done.stdout


def test_a_controller_that_does_not_start_is_quoted(site: MockSite) -> None:
    kill_controller(site)
    state = state_of(site)
    state.unlink()
    state.mkdir()  # so that it cannot be opened
    with pytest.raises(mock_cluster.MockError, match=r"IsADirectoryError.*the last line of .*log"):
        mock_cluster.start(site.home, "m", site.options)
    state.rmdir()
    start_again(site)
