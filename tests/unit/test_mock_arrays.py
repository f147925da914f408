"""Arrays, dependencies, holds and requeues of the mock are Slurm's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import mock_site
import pytest
from mock_site import MockSite

from hpc_flows import mock_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockSite]:
    options = mock_cluster.StartOptions(timings={**mock_site.QUICK, "requeue_delay": 2})
    with mock_site.running(tmp_path_factory.mktemp("arrays"), options) as site:
        yield site


LATER = "--begin=now+1hour"


def lines(site: MockSite, job: str, form: str, *options: str) -> list[str]:
    return site.out(f"squeue -h -t all -S i -j {job} {' '.join(options)} -o '{form}'").splitlines()


# -- arrays


def test_the_arrays_number_is_the_raw_id_of_its_last_element(site: MockSite) -> None:
    job = site.submit("--array=0-3 -o /dev/null --wrap 'exit $SLURM_ARRAY_TASK_ID'")
    site.wait(job, "COMPLETED FAILED")
    rows = site.history(job, "JobID,JobIDRaw,State,ExitCode").splitlines()
    number = int(job)
    assert rows == [
        f"{job}_0|{number + 1}|COMPLETED|0:0",
        f"{job}_1|{number + 2}|FAILED|1:0",
        f"{job}_2|{number + 3}|FAILED|2:0",
        f"{job}_3|{number}|FAILED|3:0",
    ]
    assert lines(site, job, "%i %A %F %K")[0] == f"{job}_3 {number} {job} 3"


def test_waiting_elements_are_one_record_or_one_line_each(site: MockSite) -> None:
    job = site.submit(f"{LATER} --array=1,3,5-7:2%2 --wrap true")
    assert lines(site, job, "%i|%A|%F|%K") == [f"{job}_[1,3,5,7%2]|{job}|{job}|1,3,5,7%2"]
    assert lines(site, job, "%i|%K", "-r") == [f"{job}_{n}|{n}" for n in (1, 3, 5, 7)]
    assert site.history(job, "JobID,State") == f"{job}_[1,3,5,7%2]|PENDING"
    shown = site.out(f"scontrol show job -o {job}")
    assert f"JobId={job} ArrayJobId={job} ArrayTaskId=1,3,5,7%2 ArrayTaskThrottle=2 " in shown
    assert f"StdOut={site.work}/slurm-{job}_4294967294.out" in shown


def test_a_throttle_keeps_elements_waiting(site: MockSite) -> None:
    job = site.submit("--array=0-3%1 -o /dev/null --wrap 'until [ -e go ]; do sleep 0.05; done'")
    site.until(
        lambda: site.out(f"squeue -h -j {job} -o '%i %r' -t PD").strip(),
        f"{job}_[1-3%1] JobArrayTaskLimit",
    )
    assert lines(site, job, "%i %T")[0] == f"{job}_[1-3%1] PENDING"
    (site.work / "go").touch()
    site.wait(job, "COMPLETED")


def test_an_element_is_asked_for_by_its_number(site: MockSite) -> None:
    job = site.submit(f"{LATER} --array=0-9 --wrap true")
    assert lines(site, f"{job}_3", "%i %T") == [f"{job}_3 PENDING"]
    assert site.out(f"squeue -h -t all -j '{job}_[3-4]' -o %i") == ""
    assert site.out(f"squeue -h -t all -j {job}_3,999999 -o %i") == f"{job}_3\n"


def test_a_cancelled_waiting_element_leaves_no_trace(site: MockSite) -> None:
    job = site.submit(f"{LATER} --array=0-5 --wrap true")
    site.out(f"scancel {job}_2 '{job}_[3-4]'")
    assert lines(site, job, "%i %T") == [f"{job}_[0-1,5] PENDING"]
    assert site.history(job, "JobID,State") == f"{job}_[0-1,5]|PENDING"
    assert site.run(f"scontrol show job {job}_2") == (f"Job {job}_2 not found\n", "", 1)


def test_a_cancelled_waiting_array_keeps_its_elements_in_one_record(site: MockSite) -> None:
    job = site.submit(f"{LATER} --array=0-5 --wrap true")
    site.out(f"scancel {job}")
    assert lines(site, job, "%i|%T") == [f"{job}_[0-5]|CANCELLED"]
    assert lines(site, job, "%i|%T", "-r")[4] == f"{job}_4|CANCELLED"
    uid = os.getuid()
    assert site.history(job, "JobID,JobIDRaw,State") == f"{job}_[0-5]|{job}|CANCELLED by {uid}"
    assert site.history(f"{job}_4", "JobID") == ""


def test_cancelling_by_name_leaves_one_record_without_elements(site: MockSite) -> None:
    job = site.submit(f"{LATER} -J by-name --array=0-5 --wrap true")
    site.out("scancel --name=by-name")
    assert lines(site, job, "%i|%K|%T", "-r") == [f"{job}|N/A|CANCELLED"]
    assert site.history(job, "JobID,State") == f"{job}|CANCELLED by {os.getuid()}"


def test_a_name_beside_a_waiting_element_cancels_the_whole_record(site: MockSite) -> None:
    job = site.submit(f"{LATER} -J trap --array=0-5 --wrap true")
    site.out(f"scancel --name=other {job}_3")
    assert site.state(job) == "PENDING"
    site.out(f"scancel --name=trap {job}_3")
    assert site.state(job) == "CANCELLED"


def test_running_elements_are_cancelled_one_by_one(site: MockSite) -> None:
    job = site.submit("--array=0-3 -o /dev/null --wrap 'sleep 60'")
    site.wait(job, "RUNNING")
    site.out(f"scancel '{job}_[1-2]'")
    site.wait(f"{job}_1", "CANCELLED")
    site.wait(f"{job}_2", "CANCELLED")
    assert (site.state(f"{job}_0"), site.state(f"{job}_3")) == ("RUNNING", "RUNNING")
    site.out(f"scancel {job}")
    site.wait(job, "CANCELLED")


# -- dependencies


@pytest.fixture(scope="module")
def parents(site: MockSite) -> dict[str, str]:
    found = {
        "good": site.submit("-o /dev/null --wrap true"),
        "bad": site.submit("-o /dev/null --wrap 'exit 1'"),
    }
    site.wait(found["good"], "COMPLETED")
    site.wait(found["bad"], "FAILED")
    return found


@pytest.mark.parametrize(
    ("kind", "parent"), [("afterok", "good"), ("afternotok", "bad"), ("afterany", "bad")]
)
def test_a_dependency_that_is_met_lets_its_job_run(
    site: MockSite, parents: dict[str, str], kind: str, parent: str
) -> None:
    job = site.submit(f"-o /dev/null -d {kind}:{parents[parent]} --wrap true")
    site.wait(job, "COMPLETED")


def test_a_dependency_that_cannot_be_met_waits_for_ever(
    site: MockSite, parents: dict[str, str]
) -> None:
    job = site.submit(f"--dependency=afterok:{parents['bad']} --wrap true")
    want = f"PENDING DependencyNeverSatisfied afterok:{parents['bad']}(failed)"
    site.until(lambda: lines(site, job, "%T %r %E")[0], want)
    assert site.history(job, "State") == ""


def test_a_job_may_ask_to_be_removed_instead(site: MockSite, parents: dict[str, str]) -> None:
    options = f"--kill-on-invalid-dep=yes --dependency=afterok:{parents['bad']}"
    job = site.submit(f"{options} --wrap true")
    site.wait(job, "CANCELLED")
    assert site.history(job, "State,ExitCode") == "CANCELLED|0:0"


def test_a_waiting_dependency_is_shown_and_hidden_from_accounting(site: MockSite) -> None:
    parent = site.submit("-H --wrap true")
    child = site.submit(f"--dependency=afterany:{parent} --wrap true")
    assert lines(site, child, "%r %E") == [f"Dependency afterany:{parent}(unfulfilled)"]
    assert site.history(f"{parent},{child}", "JobID") == ""
    site.out(f"scancel {child} {parent}")
    rows = site.history(f"{parent},{child}", "JobID,State").splitlines()
    assert rows == [f"{job}|CANCELLED by {os.getuid()}" for job in (parent, child)]


def test_aftercorr_pairs_elements(site: MockSite) -> None:
    script = "[ $SLURM_ARRAY_TASK_ID != 2 ]"
    parent = site.submit(f"--array=0-3 -o /dev/null --wrap '{script}'")
    child = site.submit(f"--array=0-3 -o /dev/null -d aftercorr:{parent} --wrap true")
    for element in (0, 1, 3):
        site.wait(f"{child}_{element}", "COMPLETED")
    want = f"DependencyNeverSatisfied aftercorr:{parent}_*(failed)"
    site.until(lambda: lines(site, f"{child}_2", "%r %E")[0], want)


def test_singleton_waits_for_the_job_of_the_same_name(site: MockSite) -> None:
    first = site.submit("-J single -o /dev/null --wrap 'sleep 60'")
    second = site.submit("-J single -o /dev/null -d singleton --wrap true")
    site.wait(first, "RUNNING")
    assert lines(site, second, "%r %E") == ["Dependency singleton(unfulfilled)"]
    site.out(f"scancel {first}")
    site.wait(second, "COMPLETED")


def test_22_05_drops_a_dependency_on_an_unknown_job(site: MockSite) -> None:
    job = site.submit("-o /dev/null --dependency=afterok:999999 --wrap true")
    site.wait(job, "COMPLETED")


def test_a_forgotten_parent_that_failed_lets_its_child_run(
    tmp_path: Path,
) -> None:
    timings = {**mock_site.QUICK, "min_job_age": 0.2}
    with mock_site.running(tmp_path, mock_cluster.StartOptions(timings=timings)) as site:
        parent = site.submit("-o /dev/null -W --wrap 'exit 1' || true")
        site.until(lambda: site.run(f"squeue -j {parent}").status, "1")
        assert site.history(parent, "State") == "FAILED"
        child = site.submit(f"-o ran.out -d afterok:{parent} --wrap 'echo ran'")
        site.until(lambda: site.history(child, "State"), "COMPLETED")


def test_24_11_refuses_a_dependency_on_an_unknown_job(tmp_path: Path) -> None:
    options = mock_cluster.StartOptions(version="24.11.5", timings=dict(mock_site.QUICK))
    with mock_site.running(tmp_path, options) as site:
        answer = site.run("sbatch -d afterok:9999 --wrap true")
        assert answer.err == "sbatch: error: Batch job submission failed: Job dependency problem\n"
        assert answer.status == 1
        assert site.out("sbatch --version") == "slurm-wlm 24.11.5\n"


# -- hold, release, requeue, change


def test_a_held_job_waits_for_its_release(site: MockSite) -> None:
    job = site.submit("-H -o /dev/null --wrap true")
    assert lines(site, job, "%T %r %Q") == ["PENDING JobHeldUser 0"]
    site.out(f"scontrol release {job}")
    site.wait(job, "COMPLETED")


def test_a_requeued_job_runs_again_under_its_id(site: MockSite) -> None:
    script = 'echo run ${SLURM_RESTART_COUNT:-0}; [ -n "$SLURM_RESTART_COUNT" ] || sleep 60'
    job = site.submit(f"-o requeue.out --wrap '{script}'")
    site.until(
        lambda: (site.work / "requeue.out").exists() and site.output("requeue.out").strip(), "run 0"
    )
    site.out(f"scontrol requeue {job}")
    site.until(lambda: lines(site, job, "%T %r")[0], "PENDING BeginTime")
    assert site.history(job, "State,ExitCode") == "REQUEUED|0:0"
    site.wait(job, "COMPLETED")
    assert site.output("requeue.out") == "run 1\n"
    assert "Restarts=1" in site.out(f"scontrol show job -o {job}")
    both = site.out(f"sacct -D -X -n -P -j {job} -o State").split()
    assert both == ["REQUEUED", "COMPLETED"]


def test_what_waits_cannot_be_requeued(site: MockSite) -> None:
    job = site.submit(f"{LATER} --wrap true")
    answer = site.run(f"scontrol requeue {job}")
    assert (answer.err, answer.status) == (f"Job is pending execution for job {job}\n", 1)


def test_a_comment_can_be_changed_and_reaches_accounting(site: MockSite) -> None:
    job = site.submit("-o /dev/null --begin=now+1 --comment='run=abc task=1' --wrap true")
    assert lines(site, job, "%k") == ["run=abc task=1"]
    site.out(f"scontrol update jobid={job} comment='new comment'")
    site.wait(job, "COMPLETED")
    assert site.history(job, "Comment") == "new comment"


def test_only_administrators_suspend(site: MockSite) -> None:
    job = site.submit("-H --wrap true")
    answer = site.run(f"scontrol suspend {job}")
    assert (answer.err, answer.status) == (f"Access/permission denied for job {job}\n", 1)


def test_a_deadline_ends_what_has_not_started(site: MockSite) -> None:
    job = site.submit("--deadline=now+1 --begin=now+30 --wrap true")
    site.wait(job, "DEADLINE")
    assert site.history(job, "State,ExitCode,Start") == "DEADLINE|1:0|None"
