"""Submitting: once, after it was said, in groups, and held back where the site wants that."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from job_doubles import (
    DoubleScheduler,
    call_of,
    play_job,
    quick_cluster,
    run_context,
    until,
)

from hpc_flows import Resources, task
from hpc_flows.clusters.parts import Limits
from hpc_flows.exceptions import (
    CommandNotFound,
    DoesNotFit,
    PayloadError,
    SchedulerUnavailable,
    SubmissionInDoubt,
    SubmissionRejected,
    SubmissionThrottled,
)
from hpc_flows.jobs import access, submit
from hpc_flows.jobs.limits import Bucket, backoff
from hpc_flows.jobs.submit import Desk
from hpc_flows.jobs.tracker import Tracker
from hpc_flows.journal.reader import read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpc_flows.clusters import Cluster
    from hpc_flows.journal.event import Event
    from hpc_flows.task_runners.base import TaskCall


@task
def work(x: int) -> int:
    return x


@task
def other(x: int) -> int:
    return -x


class Office:
    """A desk with a double of a scheduler behind it."""

    def __init__(self, cluster: Cluster, mode: str = "auto", window: float = 0.02) -> None:
        self.scheduler = DoubleScheduler()
        self.context = run_context()
        assert self.context.root is not None
        self.root = self.context.root
        self.tracker = Tracker(self.context)
        self.desk = Desk(cluster, self.tracker, mode, window)

    def take(self, *values: Any, asked: Resources | None = None, of: Any = work) -> list[TaskCall]:
        calls = [call_of(self.context, of, value) for value in values]
        self.desk.take(calls, asked or Resources())
        return calls

    def events(self, kind: str) -> list[Event]:
        return [event for event in read_run(self.root.run_dir) if event.kind == kind]

    def submitted(self, count: int = 1) -> list[str]:
        """Wait until so many submissions were accepted; return their ids."""
        until(lambda: len(self.events("job-submitted")) >= count)
        return list(self.scheduler.specs)

    def ended(self, call: TaskCall) -> BaseException:
        call.future.wait(120)
        error = call.future.state.result(raise_on_failure=False)
        assert isinstance(error, BaseException)
        return error

    def close(self) -> None:
        self.desk.close()
        self.tracker.close()
        self.root.journal.close()


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Office]]:
    made: list[Office] = []
    monkeypatch.setattr(submit, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(submit, "backoff", lambda tries: 0.02)

    def make(cluster: Cluster | None = None, **options: Any) -> Office:
        one = Office(cluster or quick_cluster(), **options)
        monkeypatch.setattr(access, "open_scheduler", lambda _: one.scheduler)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


# Grouping -----------------------------------------------------------------------------------------


def test_like_runs_within_the_window_are_one_array(office: Callable[..., Office]) -> None:
    here = office(window=0.2)
    for number in range(5):
        here.take(number)
    (job,) = here.submitted()
    assert here.scheduler.specs[job].array == "0-4"


def test_a_single_run_is_a_plain_job(office: Callable[..., Office]) -> None:
    here = office()
    here.take(1)
    (job,) = here.submitted()
    assert here.scheduler.specs[job].array is None
    assert here.scheduler.specs[job].output.endswith("out-0.log")


def test_mode_job_gives_each_run_a_job_of_its_own(office: Callable[..., Office]) -> None:
    here = office(mode="job")
    here.take(1, 2, 3)
    jobs = here.submitted(3)
    assert [here.scheduler.specs[job].array for job in jobs] == [None, None, None]


def test_mode_array_makes_an_array_even_of_one(office: Callable[..., Office]) -> None:
    here = office(mode="array")
    here.take(1)
    (job,) = here.submitted()
    assert here.scheduler.specs[job].array == "0"


def test_arrays_are_cut_where_the_site_wants_it(office: Callable[..., Office]) -> None:
    here = office(quick_cluster(limits=Limits(max_array_size=4, submit_burst=100)))
    here.take(*range(10))
    jobs = here.submitted(3)
    assert [here.scheduler.specs[job].array for job in jobs] == ["0-3", "0-3", "0-1"]


def test_runs_that_ask_for_different_things_are_not_mixed(office: Callable[..., Office]) -> None:
    here = office(window=0.1)
    here.take(1, 2, asked=Resources(cpus=1))
    here.take(3, asked=Resources(cpus=2))
    here.take(4, 5, of=other, asked=Resources(cpus=1))
    jobs = here.submitted(3)
    arrays = sorted(str(here.scheduler.specs[job].array) for job in jobs)
    assert arrays == ["0-1", "0-1", "None"]


# Saying it before doing it ------------------------------------------------------------------------


def test_the_intent_with_the_token_is_journalled_before_sbatch(
    office: Callable[..., Office],
) -> None:
    here = office()
    seen: list[str] = []

    def look(job: str, spec: Any) -> None:
        seen.extend(event.data["token"] for event in here.events("job-intent"))

    here.scheduler.on_submit = look
    calls = here.take(1, 2)
    (job,) = here.submitted()
    assert seen == [here.scheduler.specs[job].token]
    (intent,) = here.events("job-intent")
    assert intent.data["task_runs"] == [call.run.id for call in calls]
    with open(intent.data["script"], encoding="utf-8") as script:
        assert f"--job-name={seen[0]}" in script.read()


def test_accepted_runs_are_infrastructure_pending_with_their_job(
    office: Callable[..., Office],
) -> None:
    here = office()
    calls = here.take(1, 2)
    (job,) = here.submitted()
    state = until(lambda: calls[1].future.state if calls[1].run.state else None)
    assert state.name == "InfrastructurePending"
    assert state.details["job"] == f"{job}_1"


# Answers of sbatch --------------------------------------------------------------------------------


def test_a_refusal_fails_the_runs_of_that_group_with_the_schedulers_words(
    office: Callable[..., Office],
) -> None:
    here = office()
    here.scheduler.refusals = [SubmissionRejected("Invalid account or account/partition")]
    calls = here.take(1, 2)
    good = here.take(3, of=other)
    for call in calls:
        error = here.ended(call)
        assert isinstance(error, SubmissionRejected)
        assert "Invalid account" in str(call.future.state.message)
    here.submitted()
    assert not good[0].future.done()
    assert here.events("job-refused")[0].data["message"].startswith("Invalid account")


def test_a_machine_without_sbatch_is_told_apart(office: Callable[..., Office]) -> None:
    here = office()
    here.scheduler.refusals = [CommandNotFound("There is no command sbatch on this machine.")]
    (call,) = here.take(1)
    assert isinstance(here.ended(call), CommandNotFound)


def test_a_request_that_fits_nowhere_fails_before_anything_is_written(
    office: Callable[..., Office],
) -> None:
    here = office()
    (call,) = here.take(1, asked=Resources(memory="900T"))
    assert isinstance(here.ended(call), DoesNotFit)
    assert "submit" not in here.scheduler.commands
    assert not here.events("job-intent")


def test_a_full_scheduler_is_tried_again_and_nothing_fails(office: Callable[..., Office]) -> None:
    here = office()
    here.scheduler.refusals = [SubmissionThrottled("QOSMaxSubmitJobPerUserLimit")] * 3
    here.take(1)
    here.submitted()
    assert here.scheduler.commands.count("submit") == 4
    assert len(here.events("job-intent")) == 1


def test_a_scheduler_that_cannot_be_reached_holds_submissions_back(
    office: Callable[..., Office],
) -> None:
    here = office()
    here.scheduler.refusals = [SchedulerUnavailable("connect failure")] * 2
    here.take(1)
    here.submitted()
    assert here.scheduler.commands.count("submit") == 3


def test_holding_back_has_an_end(
    office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "LONGEST_HOLD", 0.1)
    here = office()
    here.scheduler.refusals = [SchedulerUnavailable("connect failure")] * 1000
    (call,) = here.take(1)
    error = here.ended(call)
    assert isinstance(error, SchedulerUnavailable)
    assert "connect failure" in str(call.future.state.message)


def test_a_doubtful_submission_that_happened_is_adopted_and_not_repeated(
    office: Callable[..., Office],
) -> None:
    here = office()
    here.scheduler.refusals = [(SubmissionInDoubt("timed out"), True)]
    calls = here.take(1, 2)
    (job,) = here.submitted()
    assert here.scheduler.commands.count("submit") == 1
    assert here.events("job-submitted")[0].data["job"] == job
    assert until(lambda: calls[0].future.state.details.get("job")) == f"{job}_0"


def test_a_doubtful_submission_that_did_not_happen_is_repeated_with_its_token(
    office: Callable[..., Office],
) -> None:
    here = office()
    here.scheduler.refusals = [SubmissionInDoubt("timed out")]
    here.take(1)
    (job,) = here.submitted()
    assert here.scheduler.commands.count("find") == submit.LOOKS
    assert here.scheduler.commands.count("submit") == 2
    assert here.scheduler.specs[job].token == here.events("job-intent")[0].data["token"]


def test_nothing_is_sent_again_while_the_scheduler_cannot_be_asked(
    office: Callable[..., Office],
) -> None:
    here = office()
    here.scheduler.refusals = [(SubmissionInDoubt("timed out"), True)]
    table, here.scheduler.queue = here.scheduler.queue, None
    here.scheduler.say = lambda *a, **k: None  # type: ignore[method-assign]
    here.take(1)
    until(lambda: here.scheduler.commands.count("find") >= 5)
    assert here.scheduler.commands.count("submit") == 1
    del here.scheduler.say
    here.scheduler.queue = table
    from hpc_flows.schedulers.base import Phase

    (job,) = here.scheduler.specs
    here.scheduler.say(job, Phase.RUNNING, "RUNNING")
    here.submitted()
    assert here.scheduler.commands.count("submit") == 1


def test_the_jobs_own_journal_settles_a_doubt_where_no_command_can(
    office: Callable[..., Office],
) -> None:
    here = office()
    here.scheduler.refusals = [(SubmissionInDoubt("timed out"), True)]
    here.scheduler.find = lambda *a, **k: (_ for _ in ()).throw(  # type: ignore[method-assign]
        SchedulerUnavailable("down")
    )
    (call,) = here.take(1)
    token = until(lambda: [e.data["token"] for e in here.events("job-intent")])[0]
    play_job(here.tracker, token, 0, call, job="101", value="done")
    assert call.future.result(120) == "done"


# Holding back -------------------------------------------------------------------------------------


def test_no_more_jobs_are_queued_than_the_site_lets_a_user_have(
    office: Callable[..., Office],
) -> None:
    limits = Limits(max_array_size=1001, max_submitted=3, submit_burst=100)
    here = office(quick_cluster(limits=limits))
    calls = here.take(*range(5))
    (job,) = here.submitted()
    assert here.scheduler.specs[job].array == "0-2"
    time.sleep(0.1)
    assert len(here.scheduler.specs) == 1
    token = here.scheduler.specs[job].token
    for index in range(3):
        play_job(here.tracker, token, index, calls[index], value=index)
    assert len(here.submitted(2)) == 2


def test_submissions_keep_to_the_sites_rate() -> None:
    bucket = Bucket(3, 0.5)
    assert [bucket.wait() for _ in range(3)] == [0.0, 0.0, 0.0]
    assert 0 < bucket.wait() <= 2.0


def test_pauses_grow_and_stop_growing() -> None:
    assert [backoff(n) for n in (1, 2, 3, 50)] == [2.0, 4.0, 8.0, 60.0]


# Arguments ----------------------------------------------------------------------------------------


def test_a_call_that_cannot_be_pickled_fails_alone(office: Callable[..., Office]) -> None:
    here = office()
    bad, good = here.take(threading.Lock(), 5)
    error = here.ended(bad)
    assert isinstance(error, PayloadError)
    assert "_thread.lock" in str(error)
    (job,) = here.submitted()
    token = here.scheduler.specs[job].token
    play_job(here.tracker, token, 0, good, value=5)
    assert good.future.result(120) == 5


def test_what_refuses_a_whole_array_is_said_once_in_full(office: Callable[..., Office]) -> None:
    here = office()
    why = "Invalid account." + " Ask the help desk." * 20
    here.scheduler.refusals = [SubmissionRejected(why)]
    calls = here.take(1, 2, 3)
    assert {str(here.ended(call)) for call in calls} == {why}
    said = [event.data["message"] for event in here.events("log")]
    assert len([text for text in said if why in text]) == 1
    assert all(len(str(call.future.state.message)) < 300 for call in calls)


def test_a_run_that_is_cancelled_while_its_submission_is_in_doubt_does_not_run_on(
    office: Callable[..., Office],
) -> None:
    from hpc_flows.states import Cancelled

    here = office()
    table = here.scheduler.queue
    here.scheduler.refusals = [(SubmissionInDoubt("timed out"), True)]
    find = here.scheduler.find
    here.scheduler.find = lambda *a, **k: []  # type: ignore[method-assign]
    (call,) = here.take(1)
    until(here.desk.doubtful)
    (element,) = here.tracker.elements()
    here.tracker.end(element, Cancelled("enough"))
    here.scheduler.find = find  # type: ignore[method-assign]
    (job,) = here.scheduler.specs
    assert table is not None
    until(lambda: here.scheduler.cancelled == [job])
    assert call.future.state.is_cancelled()


def test_runs_whose_calls_are_ended_before_their_submission_are_not_sent(
    office: Callable[..., Office],
) -> None:
    from hpc_flows.states import Cancelled

    here = office(window=0.05)
    ended = here.take(1)[0]
    ended.end(Cancelled("enough"))
    here.take(2, of=other)
    (job,) = here.submitted()
    assert here.scheduler.specs[job].array is None
    assert len(here.events("job-intent")) == 1


def test_a_job_whose_run_is_ended_while_sbatch_is_at_work_does_not_run_on(
    office: Callable[..., Office],
) -> None:
    from hpc_flows.states import Cancelled

    here = office()
    calls: list[TaskCall] = []
    submitting = here.scheduler.submit

    def slowly(*args: Any) -> str:
        until(lambda: len(calls) == 1)
        calls[0].end(Cancelled("enough"))
        return submitting(*args)

    here.scheduler.submit = slowly  # type: ignore[method-assign]
    calls += here.take(1)
    (job,) = here.submitted()
    until(lambda: here.scheduler.cancelled == [job])


def test_runs_that_come_while_the_desk_looks_away_are_not_forgotten(
    office: Callable[..., Office],
) -> None:
    here = office(window=0.0)
    for number in range(60):
        here.take(number, of=work if number % 2 else other)
        if number % 7 == 0:
            time.sleep(0.002)
    total = until(lambda: sum(len(e.data["task_runs"]) for e in here.events("job-intent")) == 60)
    assert total
