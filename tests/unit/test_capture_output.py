"""`capture_output`: exact for the children that a block starts, whatever other threads do."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, task
from hpc_flows.exceptions import MissingContextError
from hpc_flows.journal.reader import read_run
from hpc_flows.logging import WARNING, capture_output

if TYPE_CHECKING:
    from pathlib import Path

ECHO, SH = "/bin/echo", "/bin/sh"


def _records(home: Path) -> list[dict[str, Any]]:
    (folder,) = (home / "runs").iterdir()
    logs = [event.data for event in read_run(str(folder)) if event.kind == "log"]
    return [log for log in logs if log["logger"] == "hpc_flows.task_runs.output"]


def test_threads_do_not_get_each_others_lines(home: Path) -> None:
    @task
    def work(word: str) -> str:
        with capture_output():
            for number in range(10):
                subprocess.run([ECHO, f"{word} {number}"], check=True)
        return word

    @flow
    def main() -> list[str]:
        words = [f"w{number}" for number in range(4)]
        futures = work.map(words)
        return [f"{future.task_run_id} {future.result()}" for future in futures]

    for line in main():
        run, word = line.split()
        mine = [r["message"] for r in _records(home) if r["task_run"] == run]
        assert mine == [f"{word} {number}" for number in range(10)]


def test_grandchildren_and_both_streams_are_taken(home: Path) -> None:
    @flow
    def main() -> None:
        with capture_output(level=WARNING):
            subprocess.run([SH, "-c", "echo a; (echo b >&2); printf c"], check=True)

    main()
    assert [(r["message"], r["level"]) for r in _records(home)] == [
        ("a", "WARNING"),
        ("b", "WARNING"),
        ("c", "WARNING"),
    ]


def test_children_with_places_of_their_own_keep_them(home: Path) -> None:
    @flow
    def main() -> bytes:
        with capture_output():
            return subprocess.run([ECHO, "kept"], capture_output=True, check=True).stdout

    assert main() == b"kept\n"
    assert _records(home) == []


def test_subprocesses_of_asyncio_are_taken(home: Path) -> None:
    @flow
    async def main() -> None:
        with capture_output():
            process = await asyncio.create_subprocess_exec(ECHO, "async")
            await process.wait()

    asyncio.run(main())
    assert [r["message"] for r in _records(home)] == ["async"]


def test_popen_looks_as_before() -> None:
    @flow
    def main() -> None:
        with capture_output():
            subprocess.run([ECHO, "x"], check=True)

    main()
    assert "stdout" in inspect.signature(subprocess.Popen).parameters


def test_before_and_after_the_block_nothing_is_taken(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    @flow
    def main() -> None:
        subprocess.run([ECHO, "before"], check=True)
        with capture_output():
            subprocess.run([ECHO, "inside"], check=True)
        subprocess.run([ECHO, "after"], check=True)

    main()
    assert capfd.readouterr().out == "before\nafter\n"
    assert [r["message"] for r in _records(home)] == ["inside"]


def test_a_child_that_lives_on_neither_waits_nor_breaks(home: Path) -> None:
    @flow
    def main() -> subprocess.Popen[bytes]:
        with capture_output():
            child = subprocess.Popen([SH, "-c", "echo begun; read x; echo late"], stdin=-1)
            give_up = time.monotonic() + 30
            while not _records(home) and time.monotonic() < give_up:
                time.sleep(0.01)
        return child

    child = main(return_state=True).data
    child.communicate(b"\n")
    assert child.returncode == 0
    assert [r["message"] for r in _records(home)] == ["begun"]


def test_all_of_it_can_be_kept_in_a_file(home: Path, tmp_path: Path) -> None:
    @flow
    def main() -> None:
        with capture_output(path=tmp_path / "solver.log"):
            subprocess.run([ECHO, "kept"], check=True)

    main()
    assert (tmp_path / "solver.log").read_text() == "kept\n"
    assert [r["message"] for r in _records(home)] == ["kept"]


def test_it_can_be_handed_to_what_starts_processes_otherwise(home: Path) -> None:
    @flow
    def main() -> None:
        with capture_output() as output:
            os.write(output.fileno(), b"by hand\n")
        with pytest.raises(ValueError, match="only inside"):
            output.fileno()

    main()
    assert [r["message"] for r in _records(home)] == ["by hand"]


def test_outside_of_runs_it_says_what_to_use() -> None:
    with pytest.raises(MissingContextError, match="capture_output=True"), capture_output():
        raise AssertionError("not reached")
