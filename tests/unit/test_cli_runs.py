"""`hpc-flows runs ls`, `show` and `logs`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from cli_runs import WrittenRun, census_run

from hpc_flows.cli.main import invoke
from hpc_flows.cli.progress import Follower

if TYPE_CHECKING:
    from pathlib import Path

    Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture, *arguments: str) -> str:
    assert invoke(list(arguments)) == 0
    return capsys.readouterr().out


def printed_json(capsys: Capture, *arguments: str) -> Any:
    return json.loads(printed(capsys, *arguments, "--json"))


def refused(capsys: Capture, *arguments: str) -> str:
    assert invoke(list(arguments)) != 0
    return capsys.readouterr().err


def test_runs_are_listed_the_newest_first(home: Path, capsys: Capture) -> None:
    for number, name in enumerate(["old-owl", "new-newt"]):
        WrittenRun(home, f"run-{number}", name=name, created=1_700_000_000.0 + number).end(12.3)
    lines = printed(capsys, "runs", "ls").splitlines()
    assert [line.split()[0] for line in lines] == ["run", "new-newt", "old-owl"]
    assert "Completed" in lines[1]
    assert lines[1].rstrip().endswith("12.3 s")


def test_a_run_whose_driver_is_gone_says_so(home: Path, capsys: Capture) -> None:
    WrittenRun(home)
    assert "Running, driver gone" in printed(capsys, "runs", "ls")
    assert "its driver is gone" in printed(capsys, "runs", "show", "latest")


def test_what_ran_in_a_driver_that_is_gone_does_not_count_as_running(
    home: Path, capsys: Capture
) -> None:
    run = WrittenRun(home)
    for id_ in ("t-0", "t-1"):
        run.task_run(0.1, id_, "measure")
    run.task_run(0.1, "s-0", "summarise")
    run.job(1, "hf-8c3f-1", "351", ["t-0"])
    for id_ in ("t-0", "t-1"):
        run.state(3, id_, "RUNNING", "Running", attempt=1)
    shown = printed(capsys, "runs", "show", "latest").splitlines()
    start = next(n for n, line in enumerate(shown) if line.split()[:2] == ["task", "runs"])
    assert shown[start].split()[:4] == ["task", "runs", "running", "gone"]
    # The job lives on where it is; what the driver ran itself, or had still to submit, does not.
    assert shown[start + 1].split()[:4] == ["measure", "2", "1", "1"]
    assert shown[start + 2].split()[:3] == ["summarise", "1", "1"]


def test_lists_are_cut_and_say_how_to_see_the_rest(home: Path, capsys: Capture) -> None:
    for number in range(4):
        WrittenRun(home, f"run-{number}")
    assert "and 1 run more" in printed(capsys, "runs", "ls", "-n", "3")
    assert len(printed_json(capsys, "runs", "ls", "-n", "0")) == 4


def test_lists_can_be_of_one_state_and_one_flow(home: Path, capsys: Capture) -> None:
    WrittenRun(home, "run-1").end(1, "FAILED", "Failed")
    WrittenRun(home, "run-2", flow="other").end(1)
    assert [r["id"] for r in printed_json(capsys, "runs", "ls", "--state", "failed")] == ["run-1"]
    assert [r["id"] for r in printed_json(capsys, "runs", "ls", "--flow", "other")] == ["run-2"]
    assert "Did you mean 'failed'?" in refused(capsys, "runs", "ls", "--state", "faild")


def test_no_runs_is_an_answer(capsys: Capture) -> None:
    assert "There are no runs yet" in printed(capsys, "runs", "ls")
    assert printed_json(capsys, "runs", "ls") == []


def test_show_counts_task_runs_by_task(home: Path, capsys: Capture) -> None:
    census_run(home)
    lines = printed(capsys, "runs", "show", "merry-fox").splitlines()
    head = next(line for line in lines if line.startswith("task "))
    measure = next(line for line in lines if line.startswith("measure "))
    assert head.split()[:5] == ["task", "runs", "done", "failed", "gone"]
    assert measure.split()[:4] == ["measure", "2", "1", "1"]
    assert "1 cpu, 1G" in measure


def test_show_sets_what_was_used_against_what_was_asked_for(home: Path, capsys: Capture) -> None:
    census_run(home)
    lines = printed(capsys, "runs", "show", "merry-fox").splitlines()
    job = next(line for line in lines if line.startswith("351"))
    assert "300M of 1.0G" in job
    assert "4.0 s of 10 m 00 s" in job
    assert "75% of 1" in job
    assert "standard" in job


def test_show_reads_the_whole_of_a_journal_that_takes_several_looks(
    home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Follower.catch_up, "__defaults__", (2,))  # events for each look
    census_run(home).end(9, "FAILED", "Failed", message="1 of 2 failed")
    shown = printed(capsys, "runs", "show", "merry-fox")
    assert "It used too much." in shown
    assert "1 of 2 failed" in shown
    assert len(printed_json(capsys, "runs", "show", "merry-fox")["task_runs"]) == 3


def test_show_tells_why_task_runs_failed(home: Path, capsys: Capture) -> None:
    census_run(home)
    told = printed(capsys, "runs", "show", "merry-fox")
    assert "measure-1: OutOfMemory" in told
    assert "It used too much." in told


def test_of_many_failures_one_of_each_kind_is_told(home: Path, capsys: Capture) -> None:
    run = WrittenRun(home)
    for number in range(30):
        run.task_run(0, f"t-{number}", "train")
        kind = "NodeFailed" if number == 29 else "OutOfMemory"
        run.state(1, f"t-{number}", "CRASHED", kind, attempt=1, message="gone")
    told = printed(capsys, "runs", "show", "merry-fox")
    assert "t-29: NodeFailed" in told
    assert "and 25 task runs more" in told


def test_show_draws_the_timeline(home: Path, capsys: Capture) -> None:
    census_run(home)
    told = printed(capsys, "runs", "show", "merry-fox")
    assert "Timeline" in told
    assert "░" in told
    assert "█" in told


def test_show_says_why_jobs_wait(home: Path, capsys: Capture) -> None:
    run = WrittenRun(home)
    run.task_run(0, "t-0", "train")
    run.job(1, "tok", "77", ["t-0"])
    status = {"phase": "queued", "raw": "PENDING", "reason": "AssocGrpCpuLimit"}
    run.write(2, "job-status", token="tok", job="77_0", task_run="t-0", **status)
    assert "AssocGrpCpuLimit" in printed(capsys, "runs", "show", "merry-fox")


def test_show_as_json_has_everything(home: Path, capsys: Capture) -> None:
    census_run(home)
    found = printed_json(capsys, "runs", "show", "8c3f2a10")
    assert found["summary"]["name"] == "merry-fox"
    assert [each["state_name"] for each in found["task_runs"]].count("OutOfMemory") == 1
    assert found["jobs"][0]["job"] == "351"


def test_a_misspelt_run_is_answered_with_the_nearest(home: Path, capsys: Capture) -> None:
    census_run(home)
    for command in (["runs", "show"], ["runs", "logs"], ["runs", "cancel"]):
        assert "Did you mean 'merry-fox'?" in refused(capsys, *command, "mery-fox")


def test_logs_are_merged_in_the_order_of_their_times(home: Path, capsys: Capture) -> None:
    census_run(home)
    lines = printed(capsys, "runs", "logs", "merry-fox").splitlines()
    assert [line.rpartition(" - ")[2] for line in lines] == ["counting", "half way", "no such file"]
    assert "| INFO    | Task run 'measure-0' - half way" in lines[1]
    assert "Flow run 'merry-fox' - counting" in lines[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--task", "measure"], ["half way", "no such file"]),
        (["--task", "measure-1"], ["no such file"]),
        (["--level", "warning"], ["no such file"]),
        (["-n", "1"], ["no such file"]),
    ],
)
def test_logs_can_be_of_a_task_a_task_run_or_a_level(
    options: list[str], expected: list[str], home: Path, capsys: Capture
) -> None:
    census_run(home)
    found = printed_json(capsys, "runs", "logs", "latest", *options)
    assert [record["message"] for record in found] == expected


def test_logs_of_a_misspelt_task_are_refused(home: Path, capsys: Capture) -> None:
    census_run(home)
    told = refused(capsys, "runs", "logs", "latest", "--task", "mesure")
    assert "Did you mean 'measure'?" in told


def test_what_jobs_printed_can_be_read(home: Path, capsys: Capture) -> None:
    run = census_run(home)
    folder = os.path.join(run.folder, "jobs", "hf-8c3f-1")
    os.makedirs(folder)
    for index in range(2):
        with open(os.path.join(folder, f"out-{index}.log"), "w", encoding="utf-8") as file:
            file.write(f"hello from {index}\n")
    told = printed(capsys, "runs", "logs", "latest", "--output", "--task", "measure-1")
    assert "hello from 1" in told
    assert "hello from 0" not in told


def test_following_the_logs_of_an_ended_run_ends(home: Path, capsys: Capture) -> None:
    census_run(home).end(9)
    assert "counting" in printed(capsys, "runs", "logs", "latest", "--follow")
