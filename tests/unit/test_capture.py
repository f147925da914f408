"""What a task's process writes becomes log records: in jobs, and in worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import capture_tasks
import pytest
from job_doubles import until
from test_job_run import Node

from hpc_flows import flow
from hpc_flows.context import current
from hpc_flows.journal.reader import read_run
from hpc_flows.task_runners import ProcessPoolTaskRunner

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    write(1, "6 C\n", 4);
    if (fork() == 0) {
        write(1, "7 child of C\n", 13);
        _exit(0);
    }
    wait(NULL);
    printf("8 printf \xff, flushed at the end only");
    printf("\n");
    return 0;
}
"""

LIBRARY = r"""
#include <stdio.h>

void say(const char *text) { printf("%s", text); }
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    def build(source: str, name: str, *flags: str) -> str:
        folder = tmp_path_factory.mktemp("c")
        (folder / "it.c").write_text(source)
        argv = ["gcc", "-w", "-o", str(folder / name), *flags, str(folder / "it.c")]
        try:
            subprocess.run(argv, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("there is no gcc")
        return str(folder / name)

    return build


class Job(Node):
    """A job whose output goes to a file, as a scheduler has it, or to a pipe."""

    def __init__(self, task: Any, *args: Any, piped: bool = False) -> None:
        super().__init__(task, args)
        self.piped = piped
        self.out = Path(self.root.run_dir, "out.log")

    def start(self, index: int = 0, *flags: str, **env: str) -> subprocess.Popen[str]:
        if self.piped:
            return super().start(index, *flags, **env)
        wrap = 'exec "$@" >"$0" 2>&1'
        real = subprocess.Popen

        def to_a_file(argv: list[str], **options: Any) -> Any:
            return real(["sh", "-c", wrap, str(self.out), *argv], **options)

        try:
            subprocess.Popen = to_a_file  # type: ignore[assignment,misc]
            return super().start(index, *flags, **env)
        finally:
            subprocess.Popen = real  # type: ignore[misc]

    def messages(self) -> list[str]:
        run = self.calls[0].run.id
        return [e.data["message"] for e in self.events("log") if e.data.get("task_run") == run]


EVERY_WAY = [
    "1 print",
    "2 os.write",
    "3 echo",
    "4 sys.stdout",
    "5 logger",
    "6 C",
    "7 child of C",
    "8 printf \\xff, flushed at the end only",
    "9 to stderr",
    "10 print",
    "11 no newline",
]


@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
def test_all_that_a_job_writes_is_logged_once_and_in_order(
    compiled: Callable[..., str], *, piped: bool
) -> None:
    job = Job(capture_tasks.in_every_way, compiled(PROGRAM, "program"), piped=piped)
    process = job.start()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert job.messages() == [*EVERY_WAY, "Finished in state Completed()"]
    text = out + err if piped else job.out.read_bytes().decode("utf-8", "replace")
    for words in EVERY_WAY:
        if "xff" not in words:
            assert text.count(words) == 1, words
    final = job.events("state")[-1]
    before = [e.data["message"] for e in job.events("log") if e.order < final.order]
    assert before == EVERY_WAY


def test_what_c_code_in_the_process_has_buffered_is_logged(compiled: Callable[..., str]) -> None:
    library = compiled(LIBRARY, "libsay.so", "-shared", "-fPIC")
    job = Job(capture_tasks.from_c_in_this_process, library)
    job.run()
    assert "said by C, and never flushed" in job.messages()


def test_the_fault_handler_reaches_the_log() -> None:
    job = Job(capture_tasks.traceback_of_all_threads)
    job.run()
    assert any("in traceback_of_all_threads" in message for message in job.messages())


def test_a_child_that_lives_on_holds_up_nothing() -> None:
    job = Job(capture_tasks.leaves_a_child, 600)
    assert job.run()[0] == 0
    value = job.root.results.load(job.final()["result"])
    os.kill(value, signal.SIGKILL)
    assert job.messages() == ["begun", "Finished in state Completed()"]


def test_a_job_that_is_killed_leaves_what_it_wrote() -> None:
    job = Job(capture_tasks.writes_and_waits)
    process = job.start()
    until(lambda: "2 echo" in job.messages())
    process.kill()
    process.communicate()
    assert job.messages() == ["1 print", "2 echo"]
    assert "2 echo" in job.out.read_text()


def test_a_job_that_kills_itself_at_once_keeps_it_in_its_output() -> None:
    job = Job(capture_tasks.crashes)
    assert job.run()[0] == -signal.SIGKILL
    assert job.out.read_text() == "last words\n"


def test_a_job_that_is_asked_to_end_logs_the_rest_first() -> None:
    job = Job(capture_tasks.writes_and_waits)
    process = job.start()
    until(lambda: "2 echo" in job.out.read_text() if job.out.exists() else "")
    process.terminate()
    process.communicate()
    assert job.messages() == ["1 print", "2 echo"]


def test_a_flood_is_cut_and_the_log_says_where_all_of_it_is() -> None:
    job = Job(capture_tasks.floods, 200_000)
    job.run()
    lines = job.messages()
    warnings = [line for line in lines if "too fast" in line]
    numbers = [int(line) for line in lines if line.isdecimal()]
    assert numbers == sorted(set(numbers))
    assert 1000 < len(numbers) < 100_000
    lost = sum(int(warning.partition(" ")[0]) for warning in warnings)
    assert len(numbers) + lost == 200_000
    for warning in warnings:
        assert warning.endswith(f"came too fast to be logged; all of it is in {job.out}.")
    assert "end" in lines
    assert job.out.read_text().count("\n") > 200_000


def test_output_stands_before_the_failure_that_it_explains() -> None:
    job = Job(capture_tasks.fails)
    job.run()
    why, error, *_ = job.messages()
    assert why == "why"
    assert "because" in error


def test_prints_of_forked_children_are_logged_once() -> None:
    job = Job(capture_tasks.forks)
    job.run()
    assert job.messages() == ["from a child", "Finished in state Completed()"]


def test_tasks_that_do_not_ask_for_it_keep_their_output() -> None:
    job = Job(capture_tasks.says_nothing_of_it)
    job.run()
    assert job.messages() == ["Finished in state Completed()"]
    assert "plain" in job.out.read_text()


def test_the_setting_leaves_it_to_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPC_FLOWS_LOG_OUTPUT", "false")
    job = Job(capture_tasks.writes_and_waits)
    process = job.start()
    until(lambda: "2 echo" in job.out.read_text() if job.out.exists() else "")
    process.terminate()
    process.communicate()
    assert job.messages() == ["1 print"]


def _logged(home: Path) -> dict[str, list[str]]:
    (folder,) = (home / "runs").iterdir()
    found: dict[str, list[str]] = {}
    for event in read_run(str(folder)):
        if event.kind == "log" and "task_run" in event.data:
            found.setdefault(event.data["task_run"], []).append(event.data["message"])
    return found


def test_each_task_of_a_process_pool_gets_its_own_lines(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    @flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
    def main() -> list[str]:
        futures = capture_tasks.speaks.map([f"w{number}" for number in range(6)])
        return [f"{future.task_run_id} {future.result()}" for future in futures]

    runs = [line.split() for line in main()]
    logged = _logged(home)
    for run, word in runs:
        said = logged[run][:-1]
        assert said == [f"{word} 1 print", f"{word} 2 echo", f"{word} 3 os.write"]
    shown = capfd.readouterr().err
    for _, word in runs:
        assert shown.count(f"{word} 2 echo") == 1
    assert list((next((home / "runs").iterdir()) / "output").iterdir()) == []


def test_a_worker_that_dies_leaves_its_output_in_the_run(home: Path) -> None:
    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def main() -> None:
        capture_tasks.crashes.submit().wait()

    main()
    (left,) = (next((home / "runs").iterdir()) / "output").iterdir()
    assert left.read_text() == "last words\n"


def test_a_task_runs_without_capture_where_there_is_no_room_for_it(home: Path) -> None:
    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def main() -> str:
        context = current()
        assert context is not None
        Path(context.root.run_dir, "output").write_text("in the way")
        return str(capture_tasks.speaks.submit("w").result())

    assert main() == "w"
    (messages,) = _logged(home).values()
    assert any(message.startswith("Output is not captured: ") for message in messages)
    assert "w 1 print" in messages
