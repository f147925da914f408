"""The list of runs, and finding the one that is meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runs import gone_pid

from hpc_flows.exceptions import JournalError, UnknownRun
from hpc_flows.journal.folder import create_run
from hpc_flows.journal.index import find_run, list_runs
from hpc_flows.journal.writer import JournalWriter


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path)


def make(root: str, id_: str, name: str, *states: str, created: float = 0.0, logs: int = 0) -> str:
    path = create_run(root, id_, {"name": name, "flow": "cv", "created": created})
    with JournalWriter(path, id_, "driver") as journal:
        journal.write("flow-run", {"id": id_, "name": name, "flow": "cv"})
        for state in states:
            data = {"subject": "flow", "id": id_, "type": state, "name": state.capitalize()}
            journal.write("state", data | {"attempt": 1})
            for number in range(logs):
                journal.write("log", {"message": f"{number} " + "x" * 200})
    return path


def test_a_home_without_runs_lists_none(root: str) -> None:
    assert list_runs(root) == []
    assert list_runs(os.path.join(root, "nothing", "here")) == []


def test_runs_are_listed_newest_first_with_how_they_stand(root: str) -> None:
    make(root, "aaaa-1", "merry-fox", "RUNNING", "COMPLETED", created=100.0)
    make(root, "bbbb-2", "sad-owl", "RUNNING", created=time.time())
    newest, oldest = list_runs(root)
    assert (newest.name, newest.state_type, newest.ended) == ("sad-owl", "RUNNING", None)
    assert (oldest.name, oldest.state_name, oldest.flow) == ("merry-fox", "Completed", "cv")
    assert oldest.ended is not None
    assert (newest.alive, oldest.alive) == (True, False)
    assert newest.to_dict()["id"] == "bbbb-2"


def test_the_end_of_a_long_run_is_found_without_reading_all_of_it(root: str) -> None:
    make(root, "aaaa-1", "long", "RUNNING", "FAILED", logs=150)
    path = make(root, "bbbb-2", "longer", "RUNNING", "RUNNING", "RUNNING", "FAILED", logs=600)
    assert os.path.getsize(os.path.join(path, "journal", "driver.jsonl")) > 400_000
    states = {run.name: run.state_type for run in list_runs(root)}
    assert states["long"] == "FAILED"
    running = make(root, "cccc-3", "goes-on", "RUNNING", logs=2000)
    assert {run.path: run.state_type for run in list_runs(root)}[running] == "RUNNING"


@pytest.mark.parametrize("driver", ["gone", "elsewhere and quiet"])
def test_an_end_is_found_before_all_that_hooks_logged_after_it(root: str, driver: str) -> None:
    path = make(root, "aaaa-1", "hooked", "RUNNING", "COMPLETED", logs=2000)
    if driver == "gone":
        facts = {"name": "hooked", "host": os.uname().nodename, "pid": gone_pid()}
    else:
        facts = {"name": "hooked", "host": "login2", "pid": 1}
        long_ago = time.time() - 3600
        os.utime(os.path.join(path, "journal", "driver.jsonl"), (long_ago, long_ago))
    Path(path, "run.json").write_text(json.dumps(facts))
    run = list_runs(root)[0]
    assert (run.state_type, run.ended is None) == ("COMPLETED", False)


def test_a_driver_that_died_shows(root: str) -> None:
    code = "import os; print(os.getpid())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    create_run(root, "aaaa-1", {"name": "dead", "pid": int(done.stdout)})
    create_run(root, "bbbb-2", {"name": "elsewhere", "host": "another-node"})
    alive = {run.name: run.alive for run in list_runs(root)}
    assert alive == {"dead": False, "elsewhere": None}


@pytest.mark.parametrize(
    ("ends", "stand"),
    [
        ("COMPLETED COMPLETED", "COMPLETED"),
        ("FAILED COMPLETED", "FAILED"),
        ("COMPLETED RUNNING", None),  # its driver was killed
        ("", None),
    ],
)
def test_a_task_outside_of_any_flow_has_ended_as_its_runs_have(
    root: str, ends: str, stand: str | None
) -> None:
    facts = {"task": "add", "name": "add", "host": os.uname().nodename, "pid": gone_pid()}
    path = create_run(root, "aaaa-1", facts)
    with JournalWriter(path, "aaaa-1", "driver") as journal:
        for number, type_ in enumerate(ends.split()):
            state = {"subject": "task", "id": f"t-{number}", "attempt": 1}
            journal.write("state", state | {"type": "RUNNING", "name": "Running"})
            journal.write("state", state | {"type": type_, "name": type_.capitalize()})
    run = list_runs(root)[0]
    assert (run.state_type, run.ended is None) == (stand, stand is None)


def test_damaged_runs_are_listed_with_what_is_left(root: str) -> None:
    for id_, text in (("aaaa-1", "{"), ("bbbb-2", "[]"), ("cccc-3", '{"created": "x", "pid": {}}')):
        path = create_run(root, id_)
        Path(path, "run.json").write_text(text)
    path = make(root, "dddd-4", "garbled", "RUNNING")
    with Path(path, "journal", "driver.jsonl").open("ab") as file:
        file.write(b'\xff\x00 "kind":"state" dddd-4\n')
    assert sorted(run.id for run in list_runs(root)) == ["aaaa-1", "bbbb-2", "cccc-3", "dddd-4"]
    assert {run.state_type for run in list_runs(root)} == {None, "RUNNING"}


def test_a_run_is_found_by_id_beginning_name_and_latest(root: str) -> None:
    first = make(root, "aaaa-1111", "merry-fox", created=1.0)
    second = make(root, "bbbb-2222", "sad-owl", created=2.0)
    assert find_run(root, "aaaa-1111") == first
    assert find_run(root, "aaaa") == first
    assert find_run(root, "merry-fox") == first
    assert find_run(root, "latest") == second


def test_of_several_runs_of_a_name_the_newest_is_meant(root: str) -> None:
    make(root, "aaaa-1", "merry-fox", created=1.0)
    newer = make(root, "bbbb-2", "merry-fox", created=2.0)
    assert find_run(root, "merry-fox") == newer


def test_a_typo_gets_the_close_match(root: str) -> None:
    make(root, "aaaa-1", "merry-fox")
    with pytest.raises(UnknownRun, match=r"Did you mean 'merry-fox'\?.*runs ls"):
        find_run(root, "mery-fox")


def test_a_beginning_that_fits_several_names_them(root: str) -> None:
    make(root, "aaaa-1", "one")
    make(root, "aaaa-2", "two")
    with pytest.raises(UnknownRun, match=r"aaaa-1, aaaa-2.*more"):
        find_run(root, "aaaa")
    with pytest.raises(UnknownRun, match="There is no run"):
        find_run(root, "aaa")  # too short to be taken for an id's beginning


def test_without_any_run_the_error_says_so(root: str) -> None:
    with pytest.raises(UnknownRun, match="no runs yet"):
        find_run(root, "x")


def test_a_home_that_cannot_be_read_is_told(root: str) -> None:
    Path(root, "runs").write_text("")
    with pytest.raises(JournalError, match="HPC_FLOWS_HOME"):
        list_runs(root)


def test_a_file_in_place_of_the_runs_is_not_taken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(JournalError, match="Move away what is there, which is no folder"):
        create_run(str(tmp_path), "aaaa-1")


def test_a_driver_that_has_ended_and_was_not_waited_for_is_gone(root: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        driver.stdout.read()  # to its end, which the end of the process makes
        os.waitid(os.P_PID, driver.pid, os.WEXITED | os.WNOWAIT)
        facts = {"name": "x", "flow": "cv", "created": time.time(), "pid": driver.pid}
        create_run(root, "a1", facts)
        (run,) = list_runs(root)
        assert run.alive is False


def test_a_process_that_is_younger_than_the_run_is_not_its_driver(root: str) -> None:
    for id_, created in (("a1", 1_000_000.0), ("b1", time.time())):
        create_run(root, id_, {"name": id_, "flow": "cv", "created": created, "pid": os.getpid()})
    assert [(run.name, run.alive) for run in list_runs(root)] == [("b1", True), ("a1", False)]
