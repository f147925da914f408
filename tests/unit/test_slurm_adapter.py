"""The adapter's dealings with a Slurm that refuses, hangs, forgets or is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from slurm_samples import (
    history_line,
    nodes_and_gpus,
    queue_line,
    submissions,
    transcript,
)

from hpc_flows.exceptions import (
    AccountingUnavailable,
    CommandNotFound,
    CommandTimedOut,
    SchedulerError,
    SchedulerUnavailable,
    SubmissionInDoubt,
    SubmissionRejected,
    SubmissionThrottled,
    TransportError,
)
from hpc_flows.resources import Resources
from hpc_flows.schedulers import slurm_errors as errors
from hpc_flows.schedulers.base import JobSpec, Phase
from hpc_flows.schedulers.slurm import Slurm
from hpc_flows.transports.base import DEFAULT_TIMEOUT, Completed, Transport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def refusal(stderr: str, status: int = 1, stdout: str = "") -> SchedulerError:
    return errors.refused_submission(
        Completed(("sbatch", "--parsable", "x"), status, stdout, stderr, 0.1)
    )


# Refusals


def test_every_refusal_that_was_seen_is_for_good() -> None:
    seen = [told for told in submissions("rejected.txt") if told.status != 0]
    assert len(seen) > 30
    for told in seen:
        error = refusal(told.stderr, told.status, told.stdout)
        assert type(error) is SubmissionRejected, told.command
        assert "Slurm refused the job" in str(error)


def test_a_dead_controller_has_accepted_nothing() -> None:
    (told,) = submissions("ctld-down.txt")[-1:]
    assert type(refusal(told.stderr)) is SchedulerUnavailable


def test_a_hung_controller_may_have_accepted_the_job() -> None:
    (told,) = [told for told in submissions("ctld-hung.txt") if told.status]
    assert type(refusal(told.stderr)) is SubmissionInDoubt


def test_a_machine_without_munge_has_sent_nothing() -> None:
    (told,) = [told for told in submissions("other-daemons-down.txt") if told.status]
    assert type(refusal(told.stderr)) is SchedulerUnavailable


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("QOSMaxSubmitJobPerUserLimit", SubmissionThrottled),
        ("AssocMaxSubmitJobLimit", SubmissionThrottled),
        ("AssocGrpSubmitJobsLimit", SubmissionThrottled),
        ("QOSMaxWallDurationPerJobLimit", SubmissionRejected),
    ],
)
def test_a_limit_on_queued_jobs_is_not_for_good(text: str, kind: type[SchedulerError]) -> None:
    policy = (
        "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job "
        "submit limit, user's size and/or time limits)\n"
    )
    assert type(refusal(f"sbatch: error: {text}\n{policy}")) is kind


def test_an_sbatch_that_was_killed_is_in_doubt() -> None:
    assert type(refusal("", -9)) is SubmissionInDoubt


def test_a_refusal_says_what_to_do() -> None:
    error = refusal(
        "sbatch: error: invalid partition specified: nosuch\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
    )
    assert str(error) == (
        "Slurm refused the job: invalid partition specified: nosuch; Batch job submission failed: "
        "Invalid partition name specified. `hpc-flows cluster show` lists the partitions; set "
        "partition=."
    )


# Over a transport


class Answers(Transport):
    """A machine whose commands give answers that were prepared."""

    where = "a test"

    def __init__(self, *answers: Completed | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Sequence[str]] = []

    def environment(self) -> dict[str, str]:
        return {"PATH": "/bin", "SBATCH_PARTITION": "gpu", "SLURM_JOB_ID": "7"}

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Completed:
        assert env is not None
        assert not [name for name in env if name in ("SBATCH_PARTITION", "SLURM_JOB_ID")]
        assert timeout < 600
        self.asked.append(argv)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def read(self, path: str) -> bytes:
        raise FileNotFoundError(path)

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        raise TransportError(path)


def answer(stdout: str = "", stderr: str = "", status: int = 0) -> Completed:
    return Completed(("x",), status, stdout, stderr, 0.1)


SPEC = JobSpec(token="token", resources=Resources(), output="/o", workdir="/w")


def test_a_submission_that_is_cut_is_in_doubt() -> None:
    slurm = Slurm(Answers(CommandTimedOut("cut")))
    with pytest.raises(SubmissionInDoubt):
        slurm.submit(SPEC, "s.sh")


def test_a_submission_without_an_id_is_in_doubt() -> None:
    slurm = Slurm(Answers(answer("Thank you!\n")))
    with pytest.raises(SubmissionInDoubt, match="Thank you"):
        slurm.submit(SPEC, "s.sh")


def test_an_id_beside_a_failure_is_in_doubt() -> None:
    slurm = Slurm(Answers(answer("351\n", "sbatch: error: epilogue of the site's wrapper", 1)))
    with pytest.raises(SubmissionInDoubt, match="351"):
        slurm.submit(SPEC, "s.sh")


def test_a_missing_sbatch_is_no_trouble_of_slurms() -> None:
    slurm = Slurm(Answers(CommandNotFound("no sbatch")))
    with pytest.raises(CommandNotFound):
        slurm.submit(SPEC, "s.sh")


WAITING = CommandTimedOut("Slurm temporarily unable to accept job, sleeping and retrying")


def test_a_full_controller_throttles() -> None:
    slurm = Slurm(Answers(WAITING, answer(), answer()))
    with pytest.raises(SubmissionThrottled, match="MaxJobCount"):
        slurm.submit(SPEC, "s.sh")


def test_a_submission_that_went_through_at_the_last_moment_is_not_sent_again() -> None:
    slurm = Slurm(Answers(WAITING, answer(queue_line(JobArrayID="351_4")), answer()))
    assert slurm.submit(SPEC, "s.sh") == "351"


def test_a_last_attempt_that_cannot_be_asked_about_is_in_doubt_and_not_sent_again() -> None:
    down = answer("", "slurm_load_jobs error: Unable to contact slurm controller\n", 1)
    with pytest.raises(SubmissionInDoubt, match="cannot be asked now"):
        Slurm(Answers(WAITING, down)).submit(SPEC, "s.sh")


def test_unknown_ids_are_left_out() -> None:
    error = "slurm_load_jobs error: Invalid job id specified\n"
    assert Slurm(Answers(answer("", error, 1))).poll(["999999"]) == {}


@pytest.mark.parametrize("name", ["ctld-down.txt", "ctld-hung.txt", "other-daemons-down.txt"])
def test_a_queue_that_cannot_be_asked_says_nothing_of_jobs(name: str) -> None:
    told = next(t for t in transcript(name) if t.command.endswith("squeue") and t.status)
    with pytest.raises(SchedulerUnavailable):
        Slurm(Answers(answer(told.stdout, told.stderr, told.status))).poll(["1"])


def test_a_poll_that_is_cut_says_nothing_of_jobs() -> None:
    with pytest.raises(SchedulerUnavailable, match="cut"):
        Slurm(Answers(CommandTimedOut("cut"))).poll(["1"])


def test_an_empty_question_is_not_asked() -> None:
    transport = Answers()
    assert Slurm(transport).poll([]) == {}
    assert Slurm(transport).history([]) == {}
    Slurm(transport).cancel([])
    Slurm(transport).cancel([], token="token")
    assert transport.asked == []


def test_a_site_without_accounting_says_so() -> None:
    told = [t for t in transcript("other-daemons-down.txt") if t.command.startswith("sacct")]
    silent = [t for t in told if t.status]
    assert len(silent) >= 3
    for one in silent:
        with pytest.raises(AccountingUnavailable):
            Slurm(Answers(answer(one.stdout, one.stderr, one.status))).history(["1"])


def test_an_error_beside_an_empty_answer_is_no_answer() -> None:
    with pytest.raises(AccountingUnavailable):
        Slurm(Answers(answer("", "sacct: error: slurmdbd: no reply\n"))).history(["1"])


def test_a_token_is_found_where_there_is_no_accounting() -> None:
    disabled = answer("", "Slurm accounting storage is disabled\n", 1)
    found = Slurm(Answers(answer(queue_line()), disabled)).find("token")
    assert [status.job for status in found] == ["351"]


def test_jobs_of_an_earlier_life_of_a_name_are_not_found() -> None:
    output = queue_line(SubmitTime="1000") + queue_line(JobArrayID="352", SubmitTime="2000")
    found = Slurm(Answers(answer(output), answer())).find("token", since=2000.4)
    assert [status.job for status in found] == ["352"]


def test_the_queue_knows_better_than_the_history() -> None:
    past = history_line("351", "NODE_FAIL")
    (status,) = Slurm(Answers(answer(queue_line()), answer(past))).find("token")
    assert status.phase is Phase.QUEUED


def test_a_cancel_with_a_token_leaves_a_used_again_id_alone() -> None:
    transport = Answers(answer(queue_line(Name="of another")))
    Slurm(transport).cancel(["351"], token="token")
    assert [argv[0] for argv in transport.asked] == ["squeue"]


def test_a_cancel_with_a_token_asks_once_and_cancels_once() -> None:
    queued = queue_line(JobArrayID="351_0") + queue_line(JobArrayID="360", State="RUNNING")
    transport = Answers(answer(queued), answer())
    Slurm(transport).cancel(["351", "360", "351_0", "351_9"], token="token")
    assert transport.asked[1] == ["scancel", "351", "360", "351_0"]


def test_cancelling_what_has_ended_is_no_error() -> None:
    error = "scancel: error: Kill job error on job id 1: Invalid job id specified\n"
    Slurm(Answers(answer("", error, 1))).cancel(["1"])


@pytest.mark.parametrize("name", ["ctld-down.txt", "ctld-hung.txt"])
def test_a_cancel_that_was_not_heard_is_told(name: str) -> None:
    told = next(t for t in transcript(name) if t.command.startswith("scancel"))
    with pytest.raises(SchedulerUnavailable, match="not known what was cancelled"):
        Slurm(Answers(answer(told.stdout, told.stderr, told.status))).cancel(["1"])


def test_a_job_of_another_user_cannot_be_cancelled() -> None:
    told = next(t for t in transcript("cancel.txt") if t.status == 210)
    with pytest.raises(SchedulerError, match="permission denied"):
        Slurm(Answers(answer(told.stdout, told.stderr, told.status))).cancel(["1033"])


def test_accounting_that_does_not_answer_is_not_there() -> None:
    config = answer(nodes_and_gpus("scontrol show config"))
    down = answer("", "sacct: error: Problem talking to the database: Connection refused\n", 1)
    info = Slurm(Answers(config, answer(), answer(), down)).describe()
    assert not info.accounting
