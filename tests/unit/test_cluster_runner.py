"""The runner of a cluster: its options, its refusals, its cancelling."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from job_doubles import DoubleScheduler, call_of, play_job, quick_cluster, run_context, until

from hpc_flows import Resources, flow, task
from hpc_flows.exceptions import (
    ClusterError,
    DoesNotFit,
    JournalError,
    ParameterError,
    SchedulerError,
    SettingsError,
    SubmissionInDoubt,
    UnknownCluster,
)
from hpc_flows.jobs import access
from hpc_flows.schedulers.base import Ending
from hpc_flows.states import Cancelled, StateType
from hpc_flows.task_runners import cluster as module
from hpc_flows.task_runners.cluster import ClusterTaskRunner, SlurmTaskRunner
from hpc_flows.transactions import transaction

if TYPE_CHECKING:
    from collections.abc import Iterator


@task(resources=Resources(cpus=2))
def work(x: int) -> int:
    return x


class Started:
    """A runner that was started for a run, with a double of a scheduler behind it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.scheduler = DoubleScheduler()
        monkeypatch.setattr(access, "open_scheduler", lambda _: self.scheduler)
        self.context = run_context()
        self.runner = ClusterTaskRunner(quick_cluster(), **options)
        self.runner.start(self.context)

    def submit(self, *values: int) -> list[Any]:
        calls = [call_of(self.context, work, value) for value in values]
        self.runner.submit(calls)
        until(lambda: calls[-1].future.state.name == "InfrastructurePending")
        return calls

    @property
    def token(self) -> str:
        return next(iter(self.scheduler.specs.values())).token

    def tracker(self) -> Any:
        return self.runner._tracker


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    one = Started(monkeypatch)
    yield one
    one.runner.close()
    assert one.context.root is not None
    one.context.root.journal.close()


def test_an_unknown_mode_gets_the_close_match() -> None:
    with pytest.raises(ParameterError, match=r"auto, job, array.*Did you mean 'array'"):
        ClusterTaskRunner("mock", mode="arrays")


def test_an_unknown_cluster_is_refused_when_the_runner_is_made() -> None:
    with pytest.raises(UnknownCluster, match="mock"):
        ClusterTaskRunner("mok")


def test_without_a_cluster_there_is_no_runner() -> None:
    with pytest.raises(SettingsError, match="HPC_FLOWS_CLUSTER"):
        ClusterTaskRunner()


def test_the_active_cluster_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "mock")
    assert ClusterTaskRunner().cluster.name == "mock"
    assert SlurmTaskRunner().cluster.name == "mock"


def test_a_slurm_runner_without_a_cluster_takes_the_slurm_of_this_machine() -> None:
    assert SlurmTaskRunner().cluster.name == "generic_slurm"


def test_a_slurm_runner_refuses_another_scheduler() -> None:
    with pytest.raises(ParameterError, match="not by Slurm"):
        SlurmTaskRunner(quick_cluster(scheduler="somewhere:Else"))


def test_a_duplicate_has_the_same_options_and_nothing_else() -> None:
    one = ClusterTaskRunner("mock", mode="job", resources={"cpus": 3})
    two = one.duplicate()
    assert (two.cluster, two.mode, two.resources) == (one.cluster, "job", Resources(cpus=3))


def test_a_site_that_forbids_it_is_not_submitted_to_from_a_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    runner = ClusterTaskRunner(quick_cluster(submit_from_jobs=False))
    with pytest.raises(ClusterError, match=r"does not allow jobs to submit jobs.*4711"):
        runner.start(run_context())


def test_a_site_that_allows_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    runner = ClusterTaskRunner(quick_cluster(submit_from_jobs=True))
    runner.start(run_context())
    runner.close()


def test_what_fits_nowhere_is_refused_when_it_is_submitted(started: Started) -> None:
    with pytest.raises(DoesNotFit):
        started.runner.check(work.with_options(resources=Resources(memory="900T")))


def test_the_runners_resources_lie_under_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Started(monkeypatch, resources=Resources(cpus=1, memory="3G"))
    here.submit(1)
    (spec,) = here.scheduler.specs.values()
    assert (spec.resources.cpus, spec.resources.memory) == (2, 3 * 1024**3)
    here.runner.close()


def test_cancelling_all_cancels_the_array_in_one_command(started: Started) -> None:
    calls = started.submit(1, 2, 3)
    started.runner.cancel(None, "the user pressed Ctrl-C")
    (job,) = started.scheduler.specs
    assert started.scheduler.cancelled == [job]
    for call in calls:
        assert call.future.state.type is StateType.CANCELLED
        assert call.future.state.message == "the user pressed Ctrl-C"


def test_cancelling_one_run_leaves_the_others(started: Started) -> None:
    calls = started.submit(1, 2, 3)
    started.runner.cancel([calls[1]], "not needed")
    (job,) = started.scheduler.specs
    assert started.scheduler.cancelled == [f"{job}_1"]
    assert calls[1].future.state.is_cancelled()
    play_job(started.tracker(), started.token, 0, calls[0], value="still")
    assert calls[0].future.result(120) == "still"


def test_a_run_whose_job_ends_while_it_is_being_cancelled_is_cancelled(started: Started) -> None:
    (call,) = started.submit(1)
    poll = started.scheduler.poll

    def slowly(ids: Any) -> Any:
        if started.scheduler.cancelled and threading.current_thread() is threading.main_thread():
            call.future.wait(120)
        return poll(ids)

    started.scheduler.poll = slowly  # type: ignore[method-assign]
    started.runner.cancel(None, "the user pressed Ctrl-C")
    assert call.future.state.type is StateType.CANCELLED
    assert "the user pressed Ctrl-C" in str(call.future.state.message)


def test_a_journal_that_takes_nothing_does_not_keep_jobs_from_being_cancelled(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    (call,) = started.submit(1)
    journal = started.tracker().root.journal

    def full(*events: Any, **options: Any) -> int:
        if "log" in (events[0], events[0][0]):
            return 0
        raise JournalError("the disk is full")

    monkeypatch.setattr(journal, "write", full)
    monkeypatch.setattr(journal, "write_texts", full)
    started.runner.cancel(None, "stop")
    assert started.scheduler.cancelled == list(started.scheduler.specs)
    assert call.future.state.is_cancelled()


def test_an_end_that_could_not_be_recorded_can_be_recorded_later(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    (call,) = started.submit(1)

    def full(*_: Any) -> int:
        raise JournalError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(started.tracker().root.journal, "write_texts", full)
        with pytest.raises(JournalError, match="the disk is full"):
            call.end(Cancelled("first"))
    assert not call.future.done()
    call.end(Cancelled("second"))
    assert call.future.state.message == "second"


def test_a_job_of_another_name_under_our_id_is_not_cancelled(started: Started) -> None:
    started.submit(1)
    (job,) = started.scheduler.specs
    status = started.scheduler.queue
    assert status is not None
    from dataclasses import replace

    status[job] = replace(status[job], name="somebody-elses")
    started.runner.cancel(None, "stop")
    assert started.scheduler.cancelled == []


def test_a_run_that_was_not_sent_yet_is_cancelled_without_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HPC_FLOWS_ARRAY_WINDOW_SECONDS", "30")
    here = Started(monkeypatch)
    calls = [call_of(here.context, work, 1)]
    here.runner.submit(calls)
    here.runner.cancel(calls, "changed my mind")
    assert calls[0].future.state.is_cancelled()
    assert here.scheduler.commands in ([], ["describe"])
    here.runner.close()


def test_a_scheduler_that_cannot_be_asked_to_cancel_leaves_the_command_to_the_user(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = started.submit(1)
    started.scheduler.queue = None
    started.runner.cancel(None, "stop")
    assert calls[0].future.state.is_cancelled()
    said = capsys.readouterr().err
    assert "the double cannot be asked" in said
    assert f"scancel --name={started.token}" in said


def test_jobs_that_no_cancelling_ends_are_told_with_their_numbers(
    started: Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    started.submit(1, 2)
    (job,) = started.scheduler.specs
    ignored: list[list[str]] = []
    monkeypatch.setattr(started.scheduler, "cancel", lambda ids: ignored.append(list(ids)))
    started.runner.cancel(None, "stop")
    assert ignored == [[job]] * module.TRIES
    said = capsys.readouterr().err
    assert f"still in the queue: {job}" in said
    assert f"scancel --name={started.token}" in said


def test_jobs_that_the_last_try_has_ended_are_not_called_alive(
    started: Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    started.submit(1)
    tries: list[list[str]] = []
    cancelling = started.scheduler.cancel

    def at_last(ids: list[str]) -> None:
        tries.append(ids)
        if len(tries) == module.TRIES:
            cancelling(ids)

    monkeypatch.setattr(started.scheduler, "cancel", at_last)
    started.runner.cancel(None, "stop")
    assert len(tries) == module.TRIES
    assert "scancel" not in capsys.readouterr().err


def test_a_cancelling_that_is_refused_is_told_in_the_schedulers_words(
    started: Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started.submit(1)

    def refuse(ids: list[str]) -> None:
        raise SchedulerError("scancel failed with status 1: Access/permission denied.")

    monkeypatch.setattr(started.scheduler, "cancel", refuse)
    started.runner.cancel(None, "stop")
    said = capsys.readouterr().err
    assert "Access/permission denied" in said
    assert "no answer" not in said


def test_the_command_for_one_run_of_an_array_leaves_the_others_alone(
    started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = started.submit(1, 2, 3)
    (job,) = started.scheduler.specs
    started.scheduler.queue = None
    started.runner.cancel([calls[1]], "not needed")
    said = capsys.readouterr().err
    assert f"scancel {job}_1" in said
    assert "--name" not in said


def test_cancelling_some_runs_says_nothing_of_a_doubt_about_others(
    started: Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = started.submit(1)
    monkeypatch.setattr(started.scheduler, "find", lambda *args, **options: [])
    started.scheduler.refusals = [(SubmissionInDoubt("timed out"), True)]
    other = call_of(started.context, work, 2)
    started.runner.submit([other])
    (token,) = until(started.runner._desk_of().doubtful)
    started.runner.cancel(calls, "not needed")
    assert f"scancel --name={token}" not in capsys.readouterr().err
    started.runner.cancel([other], "nor this")
    assert f"scancel --name={token}" in capsys.readouterr().err


def test_closing_twice_is_no_error_and_jobs_live_on(started: Started) -> None:
    started.submit(1)
    started.runner.close()
    started.runner.close()
    assert "cancel" not in started.scheduler.commands


def test_a_flow_can_name_its_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = DoubleScheduler()
    monkeypatch.setattr(access, "open_scheduler", lambda _: scheduler)

    def end(job: str, spec: Any) -> None:
        scheduler.record(job, Ending.PREEMPTED, "PREEMPTED")

    scheduler.on_submit = end

    @task
    def plain() -> int:
        return 1

    @flow(task_runner=ClusterTaskRunner(quick_cluster()))
    def on_cluster() -> str:
        future = plain.submit()
        future.wait()
        return future.state.name

    assert on_cluster() == "Preempted"


def test_modes_are_documented() -> None:
    assert module.ClusterTaskRunner.__doc__ is not None
    for mode in module.MODES:
        assert f"`{mode}`" in module.ClusterTaskRunner.__doc__


def test_runs_of_a_transaction_that_is_rolled_back_are_cancelled_with_one_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler = DoubleScheduler()
    monkeypatch.setattr(access, "open_scheduler", lambda _: scheduler)

    @flow(task_runner=ClusterTaskRunner(quick_cluster()))
    def all_or_nothing() -> None:
        with transaction():
            futures = work.map(range(5))
            until(lambda: all(f.state.name == "InfrastructurePending" for f in futures))
            raise ValueError("not good enough")

    with pytest.raises(ValueError, match="not good enough"):
        all_or_nothing()
    assert scheduler.cancelled == list(scheduler.specs)
    assert scheduler.commands.count("cancel") == 1
