"""The rules of `hpc_flows.schedulers.base`, held by the adapter on the mock and on real Slurm.

A difference between the two is a bug of the mock.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from hpc_flows.exceptions import (
    AccountingUnavailable,
    SubmissionRejected,
    SubmissionThrottled,
)
from hpc_flows.resources import Resources
from hpc_flows.schedulers.base import Ending, JobStatus, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Bench

NOTHING: dict[str, JobStatus] = {}
HOLD = Resources(extra=["--hold"])


def all_ended(found: dict[str, JobStatus]) -> bool:
    return bool(found) and all(status.phase is Phase.ENDED for status in found.values())


@pytest.fixture(scope="module")
def doomed(site: Bench) -> Iterator[JobStatus]:
    """Submit a job that runs into its limit; its end is waited for by the file's last test."""
    spec = site.spec(site.token(), Resources(walltime="1m"))
    job = site.submit_kept(spec, "sleep 600")
    yield JobStatus(job=job, name=spec.token, phase=Phase.QUEUED, raw="PENDING")
    site.scheduler.cancel([job])


@pytest.fixture(autouse=True)
def _begin_early(doomed: JobStatus) -> None:
    """Let the doomed job's minute pass while the other tests run."""


# One job


def test_a_job_that_ends_well(bench: Bench) -> None:
    token = bench.token()
    before = time.time()
    job = bench.submit('echo "hello from $SLURM_JOB_NAME"', token=token)
    assert job.isdecimal()
    status = bench.end(job)
    assert (status.job, status.name, status.source) == (job, token, "queue")
    assert (status.raw, status.ending) == ("COMPLETED", Ending.COMPLETED)
    assert (status.exit_code, status.signal) == (0, None)
    assert (status.partition, status.restarts) == ("standard", 0)
    assert status.nodes in ("c1", "c2")
    assert status.submitted is not None
    assert status.started is not None
    assert status.ended is not None
    assert before - 1 <= status.submitted <= status.started <= status.ended <= time.time() + 1
    assert bench.output(token) == f"hello from {token}\n"


@pytest.mark.parametrize("status", [1, 7, 127])
def test_a_job_that_fails_says_with_what(bench: Bench, status: int) -> None:
    found = bench.end(bench.submit(f"exit {status}"))
    assert (found.raw, found.ending, found.exit_code) == ("FAILED", Ending.FAILED, status)


@pytest.mark.parametrize(("name", "number"), [("SEGV", 11), ("KILL", 9)])
def test_a_job_that_a_signal_ends_says_which(bench: Bench, name: str, number: int) -> None:
    found = bench.end(bench.submit(f"kill -{name} $$"))
    assert (found.ending, found.exit_code, found.signal) == (Ending.FAILED, None, number)


def test_a_job_waits_then_runs(bench: Bench) -> None:
    word = bench.folder / bench.token()
    job = bench.submit(f"until [ -e {word} ]; do sleep 0.1; done")
    seen = []

    def look(found: dict[str, JobStatus]) -> bool:
        seen.append(found[job].phase)
        if found[job].phase is Phase.RUNNING:
            word.touch()
        return all_ended(found)

    bench.watch(job, look)
    assert Phase.RUNNING in seen
    order = [Phase.QUEUED, Phase.STARTING, Phase.RUNNING, Phase.ENDING, Phase.ENDED]
    assert seen == sorted(seen, key=order.index)


def test_a_job_that_waits_says_why_and_claims_no_times(bench: Bench) -> None:
    job = bench.submit("true", HOLD)
    status = bench.scheduler.poll([job])[job]
    assert (status.phase, status.raw, status.reason) == (Phase.QUEUED, "PENDING", "JobHeldUser")
    assert (status.started, status.ended, status.nodes) == (None, None, "")


def test_a_missing_folder_leaves_no_output(bench: Bench) -> None:
    found = bench.end(bench.submit("echo never", output="/nonexistent/job.out"))
    assert (found.ending, found.signal) == (Ending.FAILED, 53)


def test_a_second_run_does_not_cut_the_output(bench: Bench) -> None:
    token = bench.token()
    (bench.folder / f"{token}.out").write_text("of an earlier run\n")
    bench.end(bench.submit("echo again", token=token))
    assert bench.output(token) == "of an earlier run\nagain\n"


def test_paths_may_hold_anything_that_is_printed(bench: Bench) -> None:
    folder = bench.folder / "with blanks, 'quotes' and #1"
    folder.mkdir(exist_ok=True)
    token = bench.token()
    bench.end(bench.submit("pwd", token=token, output=f"{folder}/out", workdir=str(folder)))
    assert (folder / "out").read_text() == f"{folder}\n"
    (folder / "out").unlink()


def test_what_is_asked_for_is_what_a_job_gets(bench: Bench) -> None:
    token = bench.token()
    bench.end(
        bench.submit(
            'echo "$SLURM_CPUS_PER_TASK $SLURM_JOB_NUM_NODES $SLURM_JOB_PARTITION"\n'
            'echo "$CUDA_VISIBLE_DEVICES"\n'
            'test "$SLURMD_NODENAME" = "$SLURM_JOB_NODELIST" && echo same',
            Resources(cpus=3, gpus="a100:2", partition="gpu"),
            token=token,
        )
    )
    assert bench.output(token) == "3 1 gpu\n0,1\nsame\n"


def test_a_job_knows_its_id(bench: Bench) -> None:
    token = bench.token()
    job = bench.submit('echo "$SLURM_JOB_ID ${SLURM_ARRAY_TASK_ID-none}"', token=token)
    bench.end(job)
    assert bench.output(token) == f"{job} none\n"


def test_the_callers_variables_do_not_steer_slurm(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "gpu")
    monkeypatch.setenv("SQUEUE_FORMAT", "%T")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("TZ", "America/New_York")
    status = bench.end(bench.submit("true"))
    assert status.partition == "standard"
    assert status.submitted is not None
    assert abs(status.submitted - time.time()) < 300


# Arrays


def test_each_element_of_an_array_has_its_own_status(bench: Bench) -> None:
    token = bench.token()
    job = bench.submit(
        "echo $SLURM_ARRAY_JOB_ID $SLURM_ARRAY_TASK_ID; exit $SLURM_ARRAY_TASK_ID",
        token=token,
        array="0-2,7",
        output=str(bench.folder / f"{token}-%a.out"),
    )
    found = bench.watch(job, lambda found: len(found) == 4 and all_ended(found))
    assert {name: status.exit_code for name, status in found.items()} == {
        f"{job}_0": 0,
        f"{job}_1": 1,
        f"{job}_2": 2,
        f"{job}_7": 7,
    }
    assert {status.name for status in found.values()} == {token}
    assert (bench.folder / f"{token}-7.out").read_text() == f"{job} 7\n"


def test_one_element_can_be_asked_about(bench: Bench) -> None:
    job = bench.submit("true", HOLD, array="0-9")
    assert list(bench.scheduler.poll([f"{job}_3"])) == [f"{job}_3"]
    assert sorted(bench.scheduler.poll([f"{job}_3", f"{job}_5"])) == [f"{job}_3", f"{job}_5"]
    assert len(bench.scheduler.poll([job])) == 10


def test_a_throttled_array_runs_one_at_a_time(bench: Bench) -> None:
    log = bench.folder / bench.token()
    job = bench.submit(f"echo + >>{log}; sleep 1; echo - >>{log}", array="0-2", throttle=1)
    bench.watch(job, lambda found: len(found) == 3 and all_ended(found))
    assert log.read_text().split() == ["+", "-"] * 3


def test_the_largest_array_is_taken_and_a_larger_one_refused(bench: Bench) -> None:
    largest = bench.scheduler.describe().max_array_size
    assert largest is not None
    job = bench.submit("true", HOLD, array=f"0-{largest - 1}")
    assert len(bench.scheduler.poll([job])) == largest
    with pytest.raises(SubmissionRejected, match="array"):
        bench.submit("true", HOLD, array=f"0-{largest}")


# Cancelling


def test_a_job_that_runs_can_be_cancelled(bench: Bench) -> None:
    token = bench.token()
    job = bench.submit("sleep 300", token=token)
    bench.watch(job, lambda found: found[job].phase is Phase.RUNNING)
    bench.scheduler.cancel([job], token=token)
    status = bench.end(job)
    assert (status.raw, status.ending) == ("CANCELLED", Ending.CANCELLED)
    # Which of shell and sleep dies first is a race; a shell that outlives sleep ends with 143.
    assert status.exit_code in (None, 143)
    assert "CANCELLED AT" in bench.output(token)


def test_a_waiting_job_that_is_cancelled_never_had_a_node(bench: Bench) -> None:
    job = bench.submit("true", HOLD)
    bench.scheduler.cancel([job])
    status = bench.end(job)
    assert (status.ending, status.nodes, status.started) == (Ending.CANCELLED, "", None)


def test_an_id_that_has_another_name_is_left_alone(bench: Bench) -> None:
    job = bench.submit("true", HOLD)
    array = bench.submit("true", HOLD, array="0-3")
    bench.scheduler.cancel([job, array, f"{array}_1"], token="of-another-run")
    assert bench.scheduler.poll([job])[job].phase is Phase.QUEUED
    assert len(bench.scheduler.poll([array])) == 4


def test_waiting_elements_are_cancelled_one_by_one(bench: Bench) -> None:
    token = bench.token()
    job = bench.submit("true", HOLD, array="0-5", token=token)
    bench.scheduler.cancel([f"{job}_{index}" for index in (1, 2, 4)], token=token)
    left = {name for name, s in bench.scheduler.poll([job]).items() if s.phase is Phase.QUEUED}
    assert left == {f"{job}_0", f"{job}_3", f"{job}_5"}


def test_running_elements_are_cancelled_one_by_one(bench: Bench) -> None:
    token = bench.token()
    job = bench.submit("sleep 300", array="0-2", token=token)
    bench.watch(job, lambda found: [s.phase for s in found.values()].count(Phase.RUNNING) == 3)
    bench.scheduler.cancel([f"{job}_1"], token=token)
    assert bench.end(f"{job}_1").ending is Ending.CANCELLED
    assert bench.scheduler.poll([f"{job}_0"])[f"{job}_0"].phase is Phase.RUNNING


def test_a_whole_array_is_cancelled_at_once(bench: Bench) -> None:
    token = bench.token()
    job = bench.submit("sleep 300", HOLD, array="0-5", token=token)
    bench.scheduler.cancel([job], token=token)
    found = bench.watch(job, all_ended)
    assert {status.ending for status in found.values()} == {Ending.CANCELLED}
    assert bench.scheduler.poll([f"{job}_4"])[f"{job}_4"].ending is Ending.CANCELLED


def test_cancelling_twice_or_in_vain_is_no_error(bench: Bench) -> None:
    job = bench.submit("true")
    bench.end(job)
    for _ in range(2):
        bench.scheduler.cancel([job, "99999999", f"{job}_7"])


# What is not known


def test_unknown_ids_are_left_out(bench: Bench) -> None:
    assert bench.scheduler.poll(["99999998"]) == {}
    assert bench.scheduler.poll(["99999998", "99999999_3"]) == {}
    job = bench.submit("true", HOLD)
    assert list(bench.scheduler.poll(["99999998", job, "99999999_3"])) == [job]


def test_a_token_is_found_and_others_are_not(bench: Bench) -> None:
    token = bench.token()
    before = time.time()
    job = bench.submit("true", HOLD, token=token)
    found = bench.scheduler.find(token)
    assert [status.job for status in found] == [job]
    assert bench.scheduler.find(token, since=before)
    assert bench.scheduler.find(token, since=time.time() + 100) == []
    assert bench.scheduler.find(bench.token()) == []


def test_several_tokens_are_found_together(bench: Bench) -> None:
    tokens = [bench.token() for _ in range(3)]
    jobs = {bench.submit("true", HOLD, token=token): token for token in tokens[:2]}
    found = {status.job: status.name for status in bench.scheduler.find(tokens)}
    assert found == jobs
    assert bench.scheduler.find([]) == []


def test_the_token_of_an_array_finds_its_id(bench: Bench) -> None:
    token = bench.token()
    job = bench.submit("true", HOLD, array="0-2", token=token)
    assert {status.job.partition("_")[0] for status in bench.scheduler.find(token)} == {job}


def test_the_token_of_an_ended_job_is_found(bench: Bench) -> None:
    token = bench.token()
    job = bench.submit("exit 3", token=token)
    bench.end(job)
    (status,) = bench.scheduler.find(token)
    assert (status.job, status.exit_code) == (job, 3)


# The history


def test_the_history_keeps_what_has_ended(bench: Bench) -> None:
    token = bench.token()
    job = bench.submit("sleep 1; exit 7", token=token)
    bench.end(job)
    if not bench.accounting:
        with pytest.raises(AccountingUnavailable):
            bench.scheduler.history([job])
        return
    # Accounting may hear of a job's end before it has the name, and of its state before its times.
    told = bench.recorded(job, lambda found: all_told(found) and bool(found[job].name))
    status = told[job]
    assert (status.name, status.ending, status.exit_code) == (token, Ending.FAILED, 7)
    assert status.source == "history"
    assert status.elapsed is not None
    assert status.elapsed >= 1
    assert status.started is not None
    assert status.ended is not None
    assert status.elapsed == pytest.approx(status.ended - status.started, abs=1)
    assert bench.scheduler.history(["99999999"]) == {}


def test_the_history_keeps_elements_apart_and_says_who_cancelled(bench: Bench) -> None:
    job = bench.submit("test $SLURM_ARRAY_TASK_ID = 0 || sleep 300", array="0-2")
    bench.watch(job, lambda found: len(found) == 3 and all_running_or_ended(found))
    bench.end(f"{job}_0")
    bench.scheduler.cancel([f"{job}_1", f"{job}_2"])
    if not bench.accounting:
        with pytest.raises(AccountingUnavailable):
            bench.scheduler.history([f"{job}_1"])
        return
    found = bench.recorded(job, lambda found: len(found) == 3 and all_told(found))
    assert found[f"{job}_0"].ending is Ending.COMPLETED
    cancelled = found[f"{job}_1"]
    assert (cancelled.ending, cancelled.raw) == (Ending.CANCELLED, "CANCELLED")
    assert cancelled.cancelled_by == os.getuid()
    assert list(bench.scheduler.history([f"{job}_1"])) == [f"{job}_1"]


def all_told(found: dict[str, JobStatus]) -> bool:
    """Tell whether the whole end is recorded: at first a job's state may be there alone."""
    return all_ended(found) and all(
        status.ended is not None
        and (status.ending is not Ending.CANCELLED or status.cancelled_by is not None)
        for status in found.values()
    )


def all_running_or_ended(found: dict[str, JobStatus]) -> bool:
    return all(status.phase in (Phase.RUNNING, Phase.ENDED) for status in found.values())


# Dependencies and requeue


def test_a_job_waits_for_the_one_that_it_depends_on(bench: Bench) -> None:
    first = bench.submit("true", HOLD)
    second = bench.submit("true", depends_on=(first,))
    bench.watch(second, lambda found: found[second].reason == "Dependency")
    bench.scheduler.transport.run(release(bench, first), env=commands(bench))  # type: ignore[attr-defined]
    assert bench.end(second).ending is Ending.COMPLETED


def test_a_job_that_can_never_start_is_removed(bench: Bench) -> None:
    first = bench.submit("exit 1", HOLD)
    second = bench.submit("true", depends_on=(first,))
    bench.scheduler.transport.run(release(bench, first), env=commands(bench))  # type: ignore[attr-defined]
    assert bench.end(second).ending is Ending.CANCELLED


def test_a_requeued_job_waits_again_under_the_same_id(bench: Bench) -> None:
    job = bench.submit("sleep 300")
    first = bench.watch(job, lambda found: found[job].phase is Phase.RUNNING)[job]
    done = bench.scheduler.transport.run(  # type: ignore[attr-defined]
        ["scontrol", "requeue", job], env=commands(bench)
    )
    assert done.returncode == 0
    status = bench.watch(job, lambda found: found[job].phase is Phase.QUEUED)[job]
    assert (status.restarts, status.reason) == (1, "BeginTime")
    assert (status.submitted or 0) >= (first.submitted or 0)
    if bench.accounting:
        # Accounting is late: for a moment it may know nothing of the job.
        again = bench.recorded(job, lambda found: job in found and _is_queued(found[job]))[job]
        assert again.ending in (None, Ending.REQUEUED)


def _is_queued(status: JobStatus) -> bool:
    return status.phase is Phase.QUEUED


def release(bench: Bench, job: str) -> list[str]:
    return ["scontrol", "release", job]


def commands(bench: Bench) -> dict[str, str]:
    path = ":".join([*bench.scheduler.path, os.environ["PATH"]])  # type: ignore[attr-defined]
    return {**os.environ, "PATH": path}


# Refusals


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"partition": "nosuch"}, "partition"),
        ({"account": "nosuch"}, "account"),
        ({"account": "other"}, "account"),
        ({"qos": "nosuch"}, "qos"),
        ({"constraint": "nosuch"}, "feature"),
        ({"cpus": 41}, "CPU count"),
        ({"memory": "2T"}, "Memory specification"),
        ({"walltime": "8d"}, "time limit"),
        ({"nodes": 2}, "Node count"),
        ({"nodes": 10, "partition": "parallel"}, "Node count"),
        ({"gpus": 1}, "node configuration"),
        ({"gpus": "v100:1", "partition": "gpu"}, "node configuration"),
        ({"gpus": "a100:9", "partition": "gpu"}, "node configuration"),
        ({"licenses": "matlab"}, "license"),
        ({"extra": ["--reservation=nosuch"]}, "reservation"),
        ({"extra": ["--no-such-option"]}, "no-such-option"),
    ],
)
def test_what_the_site_cannot_give_is_refused(
    bench: Bench, asked: dict[str, object], said: str
) -> None:
    with pytest.raises(SubmissionRejected, match=f"(?i){said}"):
        bench.submit("true", Resources.from_dict(asked))


def test_a_script_that_is_not_there_is_refused(bench: Bench) -> None:
    with pytest.raises(SubmissionRejected, match="nothing-here"):
        bench.scheduler.submit(bench.spec(bench.token()), str(bench.folder / "nothing-here.sh"))


def test_a_limit_on_queued_jobs_throttles(bench: Bench) -> None:
    tiny = Resources(qos="tiny", extra=["--hold"])
    bench.submit("true", tiny)
    bench.submit("true", tiny)
    with pytest.raises(SubmissionThrottled, match="QOSMaxSubmitJobPerUserLimit"):
        bench.submit("true", tiny)


# The site


def test_a_site_describes_itself(bench: Bench) -> None:
    info = bench.scheduler.describe()
    assert (info.kind, info.version, info.max_array_size) == ("slurm", "22.05.8", 1001)
    assert info.accounting is bench.accounting
    assert info.max_jobs == 20000
    assert info.forgets_after
    standard, gpu = info.partitions["standard"], info.partitions["gpu"]
    assert (standard.default, standard.nodes, standard.cpus_per_node) == (True, 2, 40)
    assert (standard.max_walltime, standard.default_walltime) == (7 * 86400, 5 * 3600)
    assert standard.memory_per_node == 384000 * 1024**2
    assert info.partitions["parallel"].min_nodes == 2
    assert gpu.gpus == ("a100:4",)


@pytest.mark.timeout(600)
def test_a_job_is_ended_at_its_limit(bench: Bench, doomed: JobStatus) -> None:
    status = bench.watch(doomed.job, all_ended, 3 * bench.minute + 150)[doomed.job]
    assert (status.raw, status.ending) == ("TIMEOUT", Ending.WALLTIME)
    assert status.exit_code is None
    assert "DUE TO TIME LIMIT" in bench.output(doomed.name)
