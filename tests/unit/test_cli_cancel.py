"""`hpc-flows runs cancel` where the driver is gone, elsewhere, or not what it seems."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cli_runs import START, WrittenRun, census_run

from hpc_flows.cli import runs_cancel
from hpc_flows.cli.main import invoke
from hpc_flows.exceptions import SchedulerUnavailable
from hpc_flows.journal.index import process_start, summarise
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import replay
from hpc_flows.schedulers.base import JobStatus, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    Capture = pytest.CaptureFixture[str]


class FakeScheduler:
    """Knows some jobs by token, and remembers what it was asked to cancel."""

    def __init__(self, *jobs: JobStatus, error: Exception | None = None, deaf: int = 0) -> None:
        self.jobs = jobs
        self.error = error
        self.deaf = deaf  #: So many commands change nothing.
        self.cancelled: list[list[str]] = []
        self.asked: list[list[str]] = []

    def find(self, tokens: list[str], since: float | None = None) -> list[JobStatus]:
        self.asked.append(tokens)
        if self.error is not None:
            raise self.error
        named = [job for job in self.jobs if job.name in tokens]
        return [job for job in named if (job.submitted or START) >= (since or 0.0)]

    def cancel(self, ids: Sequence[str], *, token: str | None = None) -> None:
        self.cancelled.append(list(ids))

    def poll(self, ids: Sequence[str]) -> dict[str, JobStatus]:
        """Return the jobs of some ids, which have ended once a command was heard."""
        named = [job for job in self.jobs if job.job.partition("_")[0] in ids]
        heard = len(self.cancelled) > self.deaf
        return {job.job: replace(job, phase=Phase.ENDED) if heard else job for job in named}


def use(monkeypatch: pytest.MonkeyPatch, *jobs: JobStatus, **more: Any) -> FakeScheduler:
    scheduler = FakeScheduler(*jobs, **more)
    monkeypatch.setattr(runs_cancel, "open_scheduler", lambda _cluster: scheduler)
    return scheduler


def element(job: str, phase: Phase = Phase.RUNNING, token: str = "hf-8c3f-1") -> JobStatus:  # noqa: S107 - no password
    return JobStatus(job, token, phase, phase.name)


def with_one_job(home: Path, job: str | None, **more: Any) -> WrittenRun:
    """Write a run with one task run, whose submission has got this id."""
    run = WrittenRun(home, **more)
    run.task_run(0.3, "t-0", "train")
    run.job(1, "hf-8c3f-1", job, ["t-0"])
    return run


def test_jobs_of_a_driver_that_is_gone_are_cancelled_with_one_call(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run = WrittenRun(home)
    for n in range(3):
        run.task_run(0.3, f"t-{n}", "train")
    run.job(1, "hf-8c3f-1", "351", ["t-0", "t-1"])
    run.job(2, "hf-8c3f-2", "352", ["t-2"])
    jobs = [element("351_0", Phase.ENDED), element("351_1"), element("352", token="hf-8c3f-2")]
    scheduler = use(monkeypatch, *jobs)
    assert invoke(["runs", "cancel", "merry-fox"]) == 0
    assert scheduler.asked == [["hf-8c3f-1", "hf-8c3f-2"]]
    assert scheduler.cancelled == [["351", "352"]]
    told = capsys.readouterr().out
    assert "is gone" in told
    assert "2 jobs: 351, 352" in told


def test_jobs_of_a_scheduler_whose_clock_is_behind_are_found(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_one_job(home, "351")
    early = JobStatus("351", "hf-8c3f-1", Phase.RUNNING, "RUNNING", submitted=START - 60.0)
    scheduler = use(monkeypatch, early)
    assert invoke(["runs", "cancel", "merry-fox"]) == 0
    assert scheduler.cancelled == [["351"]]


def test_what_had_not_ended_is_cancelled_in_the_journal_and_the_rest_stays(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = census_run(home)
    use(monkeypatch)
    assert invoke(["runs", "cancel", "merry-fox", "--reason", "wrong data"]) == 0
    assert summarise(run.folder).state_name == "Cancelled"
    view = replay(read_run(run.folder))
    states = {each.id: each.state_type for each in view.task_runs.values()}
    assert states == {
        "measure-0": "COMPLETED",
        "measure-1": "CRASHED",
        "summarise-0": "CANCELLED",
    }
    assert "wrong data" in str(view.task_runs["summarise-0"].message)


def test_a_submission_without_an_answer_is_looked_up_by_its_token(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_one_job(home, None)
    scheduler = use(monkeypatch, element("99", Phase.QUEUED))
    assert invoke(["runs", "cancel", "latest"]) == 0
    assert scheduler.cancelled == [["99"]]


def test_a_command_that_has_changed_nothing_is_given_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_one_job(home, "99")
    stranger = element("98", token="of-somebody-else")
    scheduler = use(monkeypatch, element("99"), stranger, deaf=1)
    assert invoke(["runs", "cancel", "latest"]) == 0
    assert scheduler.cancelled == [["99"]] * 2
    assert summarise(run.folder).state_name == "Cancelled"


def test_jobs_that_no_command_ends_are_told_and_not_called_cancelled(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run = with_one_job(home, "99")
    scheduler = use(monkeypatch, element("99_0"), element("99_1"), deaf=100)
    assert invoke(["runs", "cancel", "latest"]) == 1
    told = capsys.readouterr()
    assert "not cancelled: After 3 commands still in the queue: 99." in told.err
    assert "scancel --name=hf-8c3f-1\n" in told.err
    assert "Cancelled" not in told.out
    assert scheduler.cancelled == [["99"]] * 3
    assert summarise(run.folder).ended is None


def test_a_scheduler_that_cannot_be_asked_leaves_the_run_as_it_is(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run = with_one_job(home, "99")
    use(monkeypatch, error=SchedulerUnavailable("slurmctld is down."))
    assert invoke(["runs", "cancel", "latest"]) == 1
    told = capsys.readouterr().err
    assert "slurmctld is down." in told
    assert "by hand: scancel --name=hf-8c3f-1\n" in told
    assert summarise(run.folder).ended is None


def test_a_run_that_has_ended_is_left_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    census_run(home).end(9)
    scheduler = use(monkeypatch, element("351_1"))
    assert invoke(["runs", "cancel", "latest"]) == 0
    assert "has ended already: Completed" in capsys.readouterr().out
    assert scheduler.cancelled == []


def test_a_driver_on_another_machine_is_asked_through_the_runs_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run = census_run(home, host="login2")
    scheduler = use(monkeypatch, element("351_1"))
    assert invoke(["runs", "cancel", "latest", "--timeout", "0.3", "--reason", "enough"]) == 1
    with open(os.path.join(run.folder, "control", "cancel"), encoding="utf-8") as file:
        assert json.load(file)["reason"] == "enough"
    told = capsys.readouterr()
    assert "on login2" in told.out
    assert "--force" in told.err
    assert scheduler.cancelled == []


def test_force_cancels_the_jobs_of_a_driver_on_another_machine(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_one_job(home, "99", host="login2")
    scheduler = use(monkeypatch, element("99"))
    assert invoke(["runs", "cancel", "latest", "--force"]) == 0
    assert scheduler.cancelled == [["99"]]


def test_a_process_that_got_the_drivers_number_is_not_signalled(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This run is years older than the process that has its driver's number.
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    census_run(home, pid=bystander.pid, created=START)
    use(monkeypatch)
    assert invoke(["runs", "cancel", "latest"]) == 0
    assert bystander.poll() is None
    bystander.communicate(b"\n", timeout=150)
    assert bystander.returncode == 0


def test_the_start_of_a_process_is_known() -> None:
    began = process_start(os.getpid())
    assert began is not None
    assert began > START
    assert process_start(2**22 + 1) is None
