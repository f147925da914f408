"""What Slurm answers, read from outputs of real Slurm (tests/data/slurm-*)."""

from __future__ import annotations

import pytest
from slurm_samples import REAL, history_line, nodes_and_gpus, queue_line, submissions

from hpc_flows.schedulers import slurm_parse as read
from hpc_flows.schedulers import slurm_site as site
from hpc_flows.schedulers import slurm_states as states
from hpc_flows.schedulers.base import Ending, JobStatus, Phase
from hpc_flows.schedulers.slurm_commands import SEPARATOR

GIB = 1024**3


# Ids


@pytest.mark.parametrize(
    ("output", "job"),
    [
        ("351\n", "351"),
        ("351;afton\n", "351"),
        ("Submitted batch job 351\n", "351"),
        ("Submitted batch job 351 on cluster afton\n", "351"),
        ("Welcome!\nYou have 12 unread mails.\n351\n", "351"),
        ("2026\n\n  351;afton  \nThank you for computing with us.\n", "351"),
        ("Allocation mylab: 4000 hours left\nSubmitted batch job 351\n----\n", "351"),
        ("Your job will cost 351 units\n", None),
        ("", None),
    ],
)
def test_the_id_is_found_among_a_sites_banners(output: str, job: str | None) -> None:
    assert read.job_id(output) == job


def test_every_id_that_real_sbatch_printed_is_read() -> None:
    printed = [told.stdout for told in submissions("submit.txt") if told.status == 0]
    assert [read.job_id(text) for text in printed] == ["1", "2", "3", "4", "351"]


# States


def test_there_are_twenty_four_states() -> None:
    assert len(states.LONG_NAMES) == len(states.MEANINGS) == 24


@pytest.mark.parametrize("compact", sorted(states.LONG_NAMES))
def test_a_compact_state_means_what_its_long_name_means(compact: str) -> None:
    assert states.long_name(compact) == states.LONG_NAMES[compact]
    assert states.long_name(states.LONG_NAMES[compact]) == states.LONG_NAMES[compact]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("CANCELLED by 1001", "CANCELLED"),
        ("OUT_OF_ME+", "OUT_OF_MEMORY"),
        ("completed", "COMPLETED"),
        ("COMP", "COMP"),
        ("FROM_THE_FUTURE", "FROM_THE_FUTURE"),
        ("", ""),
    ],
)
def test_states_are_read_as_they_are_printed(word: str, name: str) -> None:
    assert states.long_name(word) == name


def test_a_state_that_is_not_known_has_not_ended() -> None:
    assert states.meaning("FROM_THE_FUTURE") == (Phase.RUNNING, None)


@pytest.mark.parametrize("name", ["SUSPENDED", "CONFIGURING", "COMPLETING", "STOPPED", "SIGNALING"])
def test_a_job_that_stands_still_has_not_ended(name: str) -> None:
    assert states.meaning(name).phase is not Phase.ENDED
    assert states.meaning(name).ending is None


@pytest.mark.parametrize("name", ["NODE_FAIL", "PREEMPTED", "REQUEUED", "BOOT_FAIL"])
def test_an_ending_that_slurm_may_take_back_is_known(name: str) -> None:
    status = JobStatus(job="1", name="t", raw=name, **states.meaning(name)._asdict())
    assert status.may_run_again


@pytest.mark.parametrize("name", ["FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED", "PENDING"])
def test_other_states_are_not_taken_back(name: str) -> None:
    status = JobStatus(job="1", name="t", raw=name, **states.meaning(name)._asdict())
    assert not status.may_run_again


# The queue


def polled(name: str) -> dict[str, JobStatus]:
    return read.queue((REAL / name).read_text())


def test_an_array_is_read_element_by_element() -> None:
    found = polled("poll-array-midway.txt")
    assert sorted(found) == [f"140_{index}" for index in range(6)]
    ended = found["140_3"]
    assert (ended.raw, ended.phase, ended.ending) == ("FAILED", Phase.ENDED, Ending.FAILED)
    assert (ended.exit_code, ended.signal, ended.nodes) == (3, None, "c2")
    assert (ended.submitted, ended.started, ended.ended) == (1795256387, 1795256387, 1795256388)
    assert ended.elapsed == 1
    assert found["140_0"].ending is Ending.COMPLETED
    assert found["140_0"].exit_code == 0
    assert found["140_4"].phase is Phase.RUNNING


def test_expected_times_are_not_taken_for_real_ones() -> None:
    found = polled("poll-array-started.txt")
    waiting, running = found["140_4"], found["140_0"]
    assert (waiting.phase, waiting.started, waiting.ended) == (Phase.QUEUED, None, None)
    assert (running.phase, running.started, running.ended) == (Phase.RUNNING, 1795256387, None)


def test_a_wait_has_its_reason() -> None:
    found = polled("poll-kinds.txt")
    assert found["153"].reason == "JobHeldUser"
    assert found["154"].reason == "Dependency"
    assert polled("poll-array-started.txt")["140_0"].reason == ""


def test_a_job_that_was_queued_again_says_how_often() -> None:
    again = polled("poll-kinds.txt")["149"]
    assert (again.phase, again.restarts, again.reason) == (Phase.QUEUED, 1, "BeginTime")
    assert again.submitted == 1795256399


def test_a_death_by_signal_has_no_exit_status() -> None:
    died = polled("poll-kinds.txt")["150"]
    assert (died.ending, died.exit_code, died.signal) == (Ending.FAILED, None, 11)


def test_what_was_cancelled_has_no_exit_status_of_its_own() -> None:
    found = polled("poll-kinds.txt")
    assert (found["146_0"].ending, found["146_0"].exit_code) == (Ending.CANCELLED, None)
    assert (found["146_5"].started, found["146_5"].elapsed) == (None, None)


def test_a_reason_may_be_a_sentence() -> None:
    reason = (
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority "
        "partitions"
    )
    assert read.queue(queue_line(Reason=reason))["351"].reason == reason


def test_a_hostile_name_stays_a_name() -> None:
    name = f"a|b\t\n352{SEPARATOR}x\n%j"
    output = queue_line(Name=name) + queue_line(JobArrayID="353")
    found = read.queue(output)
    assert sorted(found) == ["351", "353"]
    assert found["351"].name.startswith("a|b")


def test_lines_that_are_no_records_are_left_out() -> None:
    assert list(read.queue("squeue is slow today\n" + queue_line())) == ["351"]
    assert read.queue("") == {}


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("0", (0, None)),
        ("1792", (7, None)),
        ("11", (0, 11)),
        ("139", (0, 11)),
        ("125", (0, None)),
        ("7:0", (7, None)),
        ("0:53", (0, 53)),
        ("N/A", (None, None)),
    ],
)
def test_wait_statuses_are_read(text: str, pair: tuple[int | None, int | None]) -> None:
    assert read.wait_status(text) == pair


# The history


def recorded(name: str) -> dict[str, JobStatus]:
    return read.history((REAL / name).read_text())


def test_the_history_counts_jobs_and_folds_their_steps_in() -> None:
    found = recorded("history-kinds.txt")
    assert not [job for job in found if "." in job]
    assert found["151"].max_rss == 68164 * 1024
    assert found["140_4"].max_rss == 3224 * 1024
    assert found["140_0"].max_rss is None
    assert (found["140_4"].exit_code, found["140_4"].elapsed) == (4, 9)
    assert found["151"].source == "history"


def test_who_cancelled_is_known() -> None:
    found = recorded("history-kinds.txt")
    assert found["146_0"].ending is Ending.CANCELLED
    assert found["146_0"].raw == "CANCELLED"
    assert found["146_0"].cancelled_by == 1001
    assert found["140_1"].cancelled_by is None


def test_elements_that_share_a_record_are_told_apart() -> None:
    found = recorded("history-kinds.txt")
    assert {f"146_{index}" for index in range(6)} <= set(found)
    assert found["146_4"].started is None
    assert {"148_0", "148_3", "148_5"} <= set(found)
    assert "148_1" not in found
    assert found["148_3"].phase is Phase.QUEUED


def test_times_that_are_not_known_are_none() -> None:
    held = recorded("history-kinds.txt")["153"]
    assert (held.started, held.ended, held.nodes) == (None, None, "")


def test_the_last_record_of_a_job_counts() -> None:
    output = history_line("9", "NODE_FAIL") + history_line("9", "RUNNING", submit="200")
    assert read.history(output)["9"].phase is Phase.RUNNING
    assert read.history(output)["9"].submitted == 200


def test_a_name_that_accounting_has_not_heard_yet_is_no_name() -> None:
    assert read.history(history_line("9", "FAILED", name="allocation"))["9"].name == ""


def test_a_stranger_who_got_an_id_next_does_not_hide_the_record_of_our_job() -> None:
    ours = history_line("9", "FAILED", code="0:9", name="hf-1", submit="100")
    step = history_line("9.batch", "FAILED", name="batch", rss="100K")
    other = history_line("9", "RUNNING", name="stranger", submit="200")
    output = "".join((ours, step, other, history_line("9.batch", "RUNNING", rss="900K")))
    status = read.history(output, {"hf-1"})["9"]
    assert (status.name, status.signal, status.max_rss) == ("hf-1", 9, 100 * 1024)
    assert read.history(output)["9"].name == "stranger"


@pytest.mark.parametrize(
    ("state", "code", "ending", "exit_code", "signal"),
    [
        ("FAILED", "7:0", Ending.FAILED, 7, None),
        ("FAILED", "127:0", Ending.FAILED, 127, None),
        ("FAILED", "0:11", Ending.FAILED, None, 11),
        ("FAILED", "0:53", Ending.FAILED, None, 53),
        ("TIMEOUT", "0:0", Ending.WALLTIME, None, None),
        ("OUT_OF_MEMORY", "0:125", Ending.MEMORY, None, None),
        ("CANCELLED by 0", "0:0", Ending.CANCELLED, None, None),
        ("NODE_FAIL", "0:0", Ending.NODE, None, None),
        ("PREEMPTED", "0:0", Ending.PREEMPTED, None, None),
        ("DEADLINE", "1:0", Ending.OTHER, 1, None),
        ("TIMEOUT", "143:0", Ending.WALLTIME, None, None),
        ("TIMEOUT", "3:0", Ending.WALLTIME, 3, None),
        ("FAILED", "143:0", Ending.FAILED, 143, None),
        ("COMPLETED", "0:0", Ending.COMPLETED, 0, None),
        ("REQUEUED", "0:0", Ending.REQUEUED, None, None),
    ],
)
def test_every_ending_that_was_seen_is_read(
    state: str, code: str, ending: Ending, exit_code: int | None, signal: int | None
) -> None:
    status = read.history(history_line("9", state, code))["9"]
    assert (status.ending, status.exit_code, status.signal) == (ending, exit_code, signal)


def test_a_job_that_waits_again_has_not_ended() -> None:
    assert read.history(history_line("9", "REQUEUED"))["9"].phase is Phase.QUEUED


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("3288K", 3288 * 1024), ("1.50G", GIB * 3 // 2), ("4096", 4096), ("0", 0), ("", None)],
)
def test_sizes_are_read(text: str, bytes_: int | None) -> None:
    assert read.size(text) == bytes_


# What was asked for


@pytest.mark.parametrize(
    ("printed", "ids"),
    [
        ("351", ["351"]),
        ("351_7", ["351_7"]),
        ("351_[3-5]", ["351_3", "351_4", "351_5"]),
        ("351_[1,3,5-9:2%4]", ["351_1", "351_3", "351_5", "351_7", "351_9"]),
        ("351_[0-1,...]", ["351_0", "351_1", "351"]),
        ("1178+1", ["1178+1"]),
    ],
)
def test_a_printed_id_stands_for_its_elements(printed: str, ids: list[str]) -> None:
    assert read.elements(printed) == ids


def test_only_what_was_asked_for_is_answered() -> None:
    found = polled("poll-kinds.txt")
    assert sorted(read.asked(["146_2", "150", "999"], found)) == ["146_2", "150"]
    assert len(read.asked(["147"], found)) == 6


def test_one_record_for_the_rest_of_an_array_answers_for_each_of_them() -> None:
    output = queue_line(JobArrayID="23", State="CANCELLED") + queue_line(
        JobArrayID="23_0", State="RUNNING", NodeList="c1"
    )
    found = read.queue(output)
    answer = read.asked(["23_0", "23_4"], found)
    assert answer["23_0"].phase is Phase.RUNNING
    assert (answer["23_4"].job, answer["23_4"].ending) == ("23_4", Ending.CANCELLED)
    assert sorted(read.asked(["23"], found)) == ["23", "23_0"]


# The site


def test_a_site_describes_itself() -> None:
    info = site.describe(
        nodes_and_gpus("scontrol show config"),
        nodes_and_gpus("scontrol show partition -o"),
        nodes_and_gpus("scontrol show node -o"),
        accounting=True,
    )
    assert (info.kind, info.version, info.cluster) == ("slurm", "22.05.8", "testcluster")
    assert (info.max_array_size, info.max_jobs, info.forgets_after) == (1001, 20000, 30)
    standard, parallel = info.partitions["standard"], info.partitions["parallel"]
    assert (standard.default, standard.up, standard.max_nodes) == (True, True, 1)
    assert (standard.max_walltime, standard.default_walltime) == (7 * 86400, 5 * 3600)
    assert (standard.cpus_per_node, standard.memory_per_node) == (40, 384000 * 1024**2)
    assert standard.default_memory_per_cpu == 9000 * 1024**2
    assert (parallel.min_nodes, parallel.max_nodes, parallel.default) == (2, None, False)


def test_gpus_of_a_node_are_read_with_and_without_types() -> None:
    lines = (
        "NodeName=g1 CPUTot=64 RealMemory=512000 Gres=gpu:a100:4(S:0-1) Partitions=gpu\n"
        "NodeName=g2 CPUTot=64 RealMemory=512000 Gres=gpu:2,shard:8 Partitions=gpu\n"
    )
    assert [node.gpus for node in site.nodes(lines)] == [("a100:4",), ("2",)]


def test_a_comment_cannot_change_a_nodes_size() -> None:
    lines = "NodeName=g1 CPUTot=64 RealMemory=512000 Partitions=a Comment=x RealMemory=1 \n"
    assert site.nodes(lines)[0].memory == 512000 * 1024**2


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("accounting_storage/slurmdbd", True),
        ("accounting_storage/none", False),
        ("(null)", False),
    ],
)
def test_a_site_that_keeps_no_accounts_is_known(kind: str, *, kept: bool) -> None:
    assert site.keeps_accounts(f"AccountingStorageType   = {kind}\n") is kept
