"""Following jobs: by their journals first, by the scheduler second, each future resolved once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from job_doubles import call_of, play_job, quick_cluster, until
from test_submit import Office, office, work

from hpc_flows.clusters.parts import Grace
from hpc_flows.exceptions import (
    CancelledByScheduler,
    JobLost,
    JournalError,
    NodeFailed,
    PayloadError,
    WalltimeExceeded,
)
from hpc_flows.jobs.asking import Pace
from hpc_flows.jobs.tail import DirectoryWatch, parse_name
from hpc_flows.schedulers.base import Ending, Phase

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["office"]


def sent(here: Office, *values: Any) -> tuple[str, str, list[Any]]:
    """Submit; return the job's id, its token and the calls."""
    calls = here.take(*values)
    job = here.submitted()[-1]
    return job, here.scheduler.specs[job].token, calls


def test_an_outcome_in_the_journal_ends_the_run_without_asking_the_scheduler(
    office: Callable[..., Office],
) -> None:
    from hpc_flows.clusters.parts import Poll

    here = office(quick_cluster(poll=Poll(first=60.0)))
    _, token, (first, second) = sent(here, 1, 2)
    play_job(here.tracker, token, 1, second, value="two")
    assert second.future.result(120) == "two"
    play_job(here.tracker, token, 0, first, value="one")
    assert first.future.result(120) == "one"
    assert "poll" not in here.scheduler.commands


def test_a_job_that_has_started_makes_its_run_running(office: Callable[..., Office]) -> None:
    here = office()
    job, token, (call,) = sent(here, 1)
    here.scheduler.say(job, Phase.RUNNING, "RUNNING")
    play_job(here.tracker, token, 0, call)
    state = until(lambda: call.future.state if call.future.state.is_running() else None)
    assert state.details["node"] == "c1"


def test_an_error_of_the_users_code_comes_back_with_its_type(
    office: Callable[..., Office],
) -> None:
    here = office()
    _, token, (call,) = sent(here, 1)
    reference = here.root.results.keep_error(KeyError("missing"))
    play_job(here.tracker, token, 0, call, type="FAILED", name="Failed", result=reference)
    with pytest.raises(KeyError, match="missing"):
        call.future.result(120)


def test_a_cancelled_job_ends_its_run_with_who_did_it(office: Callable[..., Office]) -> None:
    here = office()
    job, _, (call,) = sent(here, 1)
    here.scheduler.record(job, Ending.CANCELLED, "CANCELLED by 0", cancelled_by=0, nodes="c7")
    error = here.ended(call)
    assert isinstance(error, CancelledByScheduler)
    assert "administrator (root)" in str(error)
    assert error.details["node"] == "c7"


def test_a_vanished_job_is_lost_in_bounded_time(office: Callable[..., Office]) -> None:
    here = office()
    job, _, (call,) = sent(here, 1)
    assert here.scheduler.queue is not None
    until(lambda: "poll" in here.scheduler.commands)
    here.scheduler.queue.clear()
    error = here.ended(call)
    assert isinstance(error, JobLost)
    assert job in str(error)


def test_a_site_without_accounts_still_loses_its_vanished_jobs_in_bounded_time(
    office: Callable[..., Office],
) -> None:
    here = office()
    here.scheduler.accounts = None
    _, _, (call,) = sent(here, 1)
    assert here.scheduler.queue is not None
    here.scheduler.queue.clear()
    assert isinstance(here.ended(call), JobLost)


def test_nothing_fails_while_the_scheduler_cannot_be_asked(office: Callable[..., Office]) -> None:
    here = office()
    job, token, (call,) = sent(here, 1)
    until(lambda: "poll" in here.scheduler.commands)
    table, here.scheduler.queue = here.scheduler.queue, None
    before = here.scheduler.commands.count("poll")
    until(lambda: here.scheduler.commands.count("poll") > before + 15)
    assert not call.future.done()
    here.scheduler.queue = table
    here.scheduler.say(job, Phase.RUNNING, "RUNNING")
    play_job(here.tracker, token, 0, call, value=3)
    assert call.future.result(120) == 3


def test_a_requeued_job_is_followed_to_its_second_end(office: Callable[..., Office]) -> None:
    here = office()
    job, token, (call,) = sent(here, 1)
    here.scheduler.say(job, Phase.RUNNING, "RUNNING")
    play_job(here.tracker, token, 0, call)
    until(lambda: call.future.state.name == "Running")
    here.scheduler.say(job, Phase.QUEUED, "PENDING", reason="BeginTime")
    until(lambda: call.future.state.name == "InfrastructurePending")
    time.sleep(0.3)
    assert not call.future.done()
    play_job(here.tracker, token, 0, call, restart=1, value="again")
    assert call.future.result(120) == "again"


def test_a_node_failure_in_accounting_is_not_final_while_the_queue_has_the_job(
    office: Callable[..., Office],
) -> None:
    here = office()
    job, _, (call,) = sent(here, 1)
    here.scheduler.record(job, Ending.NODE, "NODE_FAIL")
    here.scheduler.say(job, Phase.QUEUED, "PENDING", reason="BeginTime")
    time.sleep(0.5)
    assert not call.future.done()
    assert here.scheduler.queue is not None
    here.scheduler.queue.clear()
    assert isinstance(here.ended(call), NodeFailed)


def test_what_accounting_said_of_a_jobs_first_life_does_not_decide_its_second(
    office: Callable[..., Office],
) -> None:
    here = office(quick_cluster(grace=Grace(file_system=60.0, accounting=60.0, lost=60.0)))
    job, _, (call,) = sent(here, 1)
    (element,) = here.tracker.elements()
    here.scheduler.record(job, Ending.NODE, "NODE_FAIL")
    until(lambda: element.history)
    here.scheduler.say(job, Phase.RUNNING, "RUNNING")
    until(lambda: element.queue)
    here.scheduler.record(job, Ending.WALLTIME, "TIMEOUT")
    assert isinstance(here.ended(call), WalltimeExceeded)


def test_a_used_again_id_is_not_taken_for_our_job(office: Callable[..., Office]) -> None:
    here = office()
    job, _, (call,) = sent(here, 1)
    here.scheduler.say(job, Phase.ENDED, "FAILED", name="strange", ending=Ending.FAILED)
    error = here.ended(call)
    assert isinstance(error, JobLost)
    assert "neither the queue nor accounting knows" in str(error)


def test_the_tail_of_the_output_is_in_the_message(office: Callable[..., Office]) -> None:
    here = office()
    job, token, (call,) = sent(here, 1)
    path = f"{here.root.run_dir}/jobs/{token}/out-0.log"
    with open(path, "w", encoding="utf-8") as file:
        file.write("step 1\nstep 2: too slow\n")
    here.scheduler.record(job, Ending.WALLTIME, "TIMEOUT")
    error = here.ended(call)
    assert isinstance(error, WalltimeExceeded)
    assert "step 2: too slow" in str(error)
    assert path in str(error)


def test_a_refused_payload_is_a_payload_error(
    office: Callable[..., Office], capfd: pytest.CaptureFixture[str]
) -> None:
    here = office()
    _, token, (call,) = sent(here, 1)
    details = {"job": "1", "node": "c1", "error": "PayloadError"}
    message = "Wrong Python on the node: 3.8"
    final = {"type": "CRASHED", "name": "Crashed", "message": message, "result": None}
    play_job(here.tracker, token, 0, call, details=details, **final)
    error = here.ended(call)
    assert isinstance(error, PayloadError)
    first = str(error).partition("\n")[0]
    for fact in ("could not be loaded by job 1 on c1", "Wrong Python", "It asked for"):
        assert fact in first
    assert call.future.state.details["requested"]
    assert capfd.readouterr().err.count('Finished in state Crashed("Task run') == 1


def test_a_result_file_that_appears_late_is_waited_for(
    office: Callable[..., Office], tmp_path: Path
) -> None:
    here = office(quick_cluster(grace=Grace(file_system=20.0)))
    _, token, (call,) = sent(here, 1)
    reference = here.root.results.keep("big", bytes(200_000))
    import os

    path = os.path.join(here.root.run_dir, reference["file"])
    os.rename(path, tmp_path / "late")
    play_job(here.tracker, token, 0, call, result=reference)
    time.sleep(0.3)
    assert not call.future.done()
    os.rename(tmp_path / "late", path)
    assert len(call.future.result(120)) == 200_000


def test_a_result_file_that_never_appears_is_lost(office: Callable[..., Office]) -> None:
    import os

    here = office()
    _, token, (call,) = sent(here, 1)
    reference = here.root.results.keep("big", bytes(200_000))
    os.unlink(os.path.join(here.root.run_dir, reference["file"]))
    play_job(here.tracker, token, 0, call, result=reference)
    error = here.ended(call)
    assert isinstance(error, JobLost)
    assert "did not arrive" in str(error)


def test_a_held_job_warns_once_and_waits(
    office: Callable[..., Office], capsys: pytest.CaptureFixture[str]
) -> None:
    here = office()
    job, _, (call,) = sent(here, 1)
    here.scheduler.say(job, Phase.QUEUED, "PENDING", reason="JobHeldUser")
    seen = ""

    def warned() -> bool:
        nonlocal seen
        seen += capsys.readouterr().err
        return "scontrol release" in seen

    until(warned)
    time.sleep(0.2)
    seen += capsys.readouterr().err
    assert seen.count("scontrol release") == 1
    assert not call.future.done()


def test_logs_of_jobs_are_shown_here(
    office: Callable[..., Office], capsys: pytest.CaptureFixture[str]
) -> None:
    from hpc_flows.journal.writer import JournalWriter

    here = office()
    _, token, (call,) = sent(here, 1)
    writer = JournalWriter(here.root.run_dir, here.root.run_id, f"{token}-0-0", background=False)
    record = {"level": "INFO", "message": "from afar", "task_run": call.run.id}
    writer.write("log", record)
    writer.close()
    shown = ""

    def has_it() -> bool:
        nonlocal shown
        shown += capsys.readouterr().err
        return "from afar" in shown

    until(has_it)
    assert call.run.name in shown


def test_a_doubled_job_is_followed_under_the_id_that_really_runs(
    office: Callable[..., Office],
) -> None:
    here = office()
    job, token, (call,) = sent(here, 1)
    play_job(here.tracker, token, 0, call, job="777")
    assert here.scheduler.queue is not None
    here.scheduler.specs["777"] = here.scheduler.specs[job]
    here.scheduler.say("777", Phase.RUNNING, "RUNNING")
    here.scheduler.record(job, Ending.COMPLETED, "COMPLETED", exit_code=0)
    time.sleep(0.6)
    assert not call.future.done()
    here.scheduler.record("777", Ending.WALLTIME, "TIMEOUT")
    assert isinstance(here.ended(call), WalltimeExceeded)


# Pace ---------------------------------------------------------------------------------------------


def test_questions_come_further_apart_while_nothing_changes() -> None:
    pace = Pace(first=5.0, interval=20.0, slowest=60.0)
    pace.begin(100.0)
    assert pace.due == 105.0
    gaps = []
    now = 105.0
    for changed in (False, False, False, True, False):
        pace.answered(now, changed=changed)
        assert pace.due is not None
        gaps.append(pace.due - now)
        now = pace.due
    assert gaps == [30.0, 45.0, 60.0, 20.0, 30.0]


def test_a_new_submission_does_not_begin_the_series_again() -> None:
    pace = Pace(first=5.0, interval=20.0, slowest=60.0)
    pace.begin(0.0)
    pace.answered(5.0, changed=False)
    due = pace.due
    pace.begin(6.0)
    assert pace.due == due


def test_an_urgent_question_keeps_its_distance_from_the_last_one() -> None:
    pace = Pace(first=5.0, interval=20.0, slowest=60.0)
    pace.answered(100.0, changed=False)
    pace.hurry(100.1)
    assert pace.due == 101.0


# The folder ---------------------------------------------------------------------------------------


def test_only_names_of_jobs_are_taken_for_jobs() -> None:
    assert parse_name("hf-1b4e28ba-7c9a10d2-12-1.jsonl") == (
        "hf-1b4e28ba-7c9a10d2",
        12,
        1,
        "jsonl",
    )
    for name in ("driver.jsonl", "driver-2.jsonl", "hf-1-2.jsonl.tmp", "hf-x-y-1.jsonl", ".ended"):
        assert parse_name(name) is None


def test_a_large_folder_is_listed_more_seldom(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    watch = DirectoryWatch(str(tmp_path), quickest=0.0, slowest=0.0, share=0.05)
    for number in range(300):
        (tmp_path / "journal" / f"hf-a-b-{number}-0.jsonl").touch()
    began = time.thread_time()
    assert len(watch.new_entries()) == 300
    cost = time.thread_time() - began
    assert watch.pause >= cost
    assert watch.new_entries() == []


def test_calls_of_two_runs_do_not_meet(office: Callable[..., Office]) -> None:
    here = office()
    _, token, (call,) = sent(here, 1)
    stranger = call_of(here.context, work, 9)
    play_job(here.tracker, token, 0, stranger, value="not yours")
    time.sleep(0.2)
    assert not call.future.done()


def test_trouble_with_one_run_ends_it_and_no_other(
    office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc_flows.jobs import outcome

    here = office()
    _, token, (bad, good) = sent(here, 1, 2)
    take_state = outcome.take_state

    def stumble(element: Any, event: Any) -> None:
        if element.call is bad:
            raise RuntimeError("an event that nobody foresaw")
        take_state(element, event)

    monkeypatch.setattr(outcome, "take_state", stumble)
    play_job(here.tracker, token, 0, bad, value=1)
    play_job(here.tracker, token, 1, good, value=2)
    assert good.future.result(120) == 2
    bad.future.wait(120)
    assert bad.future.state.is_crashed()
    assert "nobody foresaw" in str(bad.future.state.message)


def test_an_answer_that_cannot_be_read_decides_nothing(office: Callable[..., Office]) -> None:
    here = office()
    job, token, (call,) = sent(here, 1)

    def garbage(ids: Any) -> Any:
        here.scheduler.commands.append("garbage")
        raise ValueError("not a number: '~~~'")

    here.scheduler.poll = garbage  # type: ignore[method-assign]
    until(lambda: here.scheduler.commands.count("garbage") > 3)
    assert not call.future.done()
    play_job(here.tracker, token, 0, call, job=job, value="fine")
    assert call.future.result(120) == "fine"


# Withdrawing --------------------------------------------------------------------------------------


def test_an_array_that_can_never_start_is_withdrawn_with_one_command(
    office: Callable[..., Office],
) -> None:
    here = office()
    job, _, calls = sent(here, *range(40))
    here.scheduler.say(job, Phase.QUEUED, "PENDING", reason="PartitionTimeLimit")
    assert all(call.future.wait(120) is None for call in calls)
    assert {call.future.state.name for call in calls} == {"Rejected"}
    until(lambda: len(here.scheduler.cancelled) == 40)
    assert here.scheduler.commands.count("cancel") == 1


def test_a_flow_that_ends_at_once_has_withdrawn_what_can_never_start(
    office: Callable[..., Office],
) -> None:
    here = office()
    job, _, (call,) = sent(here, 1)
    cancel = here.scheduler.cancel

    def slowly(*args: Any, **kwargs: Any) -> None:
        time.sleep(0.3)
        cancel(*args, **kwargs)

    here.scheduler.cancel = slowly  # type: ignore[method-assign]
    here.scheduler.say(job, Phase.QUEUED, "PENDING", reason="PartitionTimeLimit")
    call.future.wait(120)
    here.tracker.close()
    assert here.scheduler.cancelled == [job]


# A journal that takes nothing ---------------------------------------------------------------------


def refuse_to_journal(monkeypatch: pytest.MonkeyPatch, here: Office, kind: str) -> list[str]:
    """Have the journal refuse events of a kind while the returned list has a word in it."""
    full = ["the disk is full"]
    journal = here.root.journal
    write, write_texts = journal.write, journal.write_texts

    def one(named: str, data: Any, **options: Any) -> int:
        if named == kind and full:
            raise JournalError(full[0])
        return write(named, data, **options)

    def texts(*events: Any) -> int:
        if full and any(named == kind for named, _ in events):
            raise JournalError(full[0])
        return write_texts(*events)

    monkeypatch.setattr(journal, "write", one)
    monkeypatch.setattr(journal, "write_texts", texts)
    return full


def test_an_end_that_cannot_be_journalled_resolves_its_future_and_stops_no_other(
    office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = office()
    job, token, (bad, good) = sent(here, 1, 2)
    until(lambda: good.future.state.name == "InfrastructurePending")
    refuse_to_journal(monkeypatch, here, "state")
    here.scheduler.record(f"{job}_0", Ending.WALLTIME, "TIMEOUT")
    assert isinstance(here.ended(bad), WalltimeExceeded)
    play_job(here.tracker, token, 1, good, value="good")
    assert good.future.result(120) == "good"


def test_the_scheduler_is_asked_on_when_its_answer_could_not_be_journalled(
    office: Callable[..., Office], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = office()
    job, _, (call,) = sent(here, 1)
    full = refuse_to_journal(monkeypatch, here, "job-status")
    here.scheduler.say(job, Phase.RUNNING, "RUNNING")
    (element,) = here.tracker.elements()
    until(lambda: element.queue is not None and element.queue.phase is Phase.RUNNING)
    full.clear()
    here.scheduler.record(job, Ending.WALLTIME, "TIMEOUT")
    assert isinstance(here.ended(call), WalltimeExceeded)
