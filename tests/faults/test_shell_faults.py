"""Shell commands that do not end by themselves, and what stands in their way."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpc_flows import flow, task
from hpc_flows.engine import family
from hpc_flows.exceptions import ShellError, ShellTimeout, TaskRunTimeoutError
from hpc_flows.journal.reader import read_run
from hpc_flows.shell import ShellOperation, process, shell_run_command
from hpc_flows.task_runners import ProcessPoolTaskRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds that a machine under load may take for what happens at once.
PATIENCE = 150.0

#: Commands that start children in every place where children can hide, and write their numbers
#: into `$PIDS`; the last command is the one that is waited for.
HIDING = [
    'note() { echo "$1" >> "$PIDS"; }',
    "sleep 300 & note $!",  # in the script's own group
    "( sleep 300 & note $! ) ",  # its parent has ended
    "(trap '' TERM; echo $BASHPID >> \"$PIDS\"; while :; do sleep 300; done) &",  # ignores TERM
    "set -m; sleep 300 & note $!; set +m",  # in a group of its own
    "setsid bash -c 'echo $$ >> \"$PIDS\"; sleep 300; :' &",  # in a session of its own
    "note $$",
    "wait",
]
HIDDEN = 6


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "GRACE", 0.5)
    monkeypatch.setattr(process, "LINGER", 0.5)


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    return tmp_path / "pids"


def hiding(pids: Path, **options: Any) -> ShellOperation:
    return ShellOperation(HIDING, env={"PIDS": str(pids)}, **options)


def noted(pids: Path) -> list[int]:
    return [int(line) for line in pids.read_text().split()] if pids.exists() else []


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def limits(pids: Path) -> Iterator[int]:
    """Give longer and longer limits of time, until all children have started within one."""
    for limit in (2, 8, 32):
        yield limit
        until(lambda: not any(is_alive(pid) for pid in noted(pids)))
        if all_started(pids):
            return
        pids.unlink(missing_ok=True)
    pytest.fail(f"the children have not started within {limit} s")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def all_started(pids: Path) -> bool:
    return len(noted(pids)) == HIDDEN


def assert_all_ended(pids: Path) -> None:
    started = noted(pids)
    assert len(started) == HIDDEN
    until(lambda: not any(is_alive(pid) for pid in started))


def test_a_time_limit_ends_children_wherever_they_hide(pids: Path) -> None:
    for limit in limits(pids):
        with pytest.raises(ShellTimeout, match=f"took longer than {limit} s") as caught:
            hiding(pids, timeout_seconds=limit).run()
        assert isinstance(caught.value, TimeoutError)
    assert_all_ended(pids)


def test_a_time_limit_holds_when_nobody_waits(pids: Path) -> None:
    for limit in limits(pids):
        running = hiding(pids, timeout_seconds=limit).trigger()
        until(lambda: running.return_code is not None)  # noqa: B023 - it is called in this turn
        with pytest.raises(ShellTimeout):
            running.wait_for_completion()
    assert_all_ended(pids)


def test_leaving_the_block_ends_children_wherever_they_hide(pids: Path) -> None:
    with hiding(pids) as operation:
        operation.trigger()
        until(lambda: all_started(pids))
    assert_all_ended(pids)


def test_leaving_the_block_by_an_error_ends_them_too(pids: Path) -> None:
    def breaks(operation: ShellOperation) -> None:
        with operation:
            operation.trigger()
            until(lambda: all_started(pids))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        breaks(hiding(pids))
    assert_all_ended(pids)


def test_the_time_limit_of_a_task_ends_its_commands(pids: Path) -> None:
    @task
    def solve() -> Any:
        return hiding(pids).run()

    @flow
    def study(limit: int) -> Any:
        return solve.with_options(timeout_seconds=limit)()

    for limit in limits(pids):
        with pytest.raises(TaskRunTimeoutError):
            study(limit)
    assert_all_ended(pids)


def test_the_time_limit_of_a_task_in_a_thread_ends_its_commands(pids: Path) -> None:
    @task
    def solve() -> Any:
        return hiding(pids).run()

    @flow
    def study(limit: int) -> Any:
        return solve.with_options(timeout_seconds=limit).submit().result()

    for limit in limits(pids):
        with pytest.raises(TaskRunTimeoutError):
            study(limit)
    assert_all_ended(pids)


def test_the_time_limit_of_a_task_in_a_process_ends_its_commands(pids: Path) -> None:
    @task
    def solve() -> Any:
        return hiding(pids).run()

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def study(limit: int) -> Any:
        return solve.with_options(timeout_seconds=limit).submit().result()

    for limit in limits(pids):
        with pytest.raises(TaskRunTimeoutError):
            study(limit)
    assert_all_ended(pids)


def test_cancelling_async_code_ends_its_commands(pids: Path) -> None:
    async def cancelled() -> None:
        running = asyncio.ensure_future(hiding(pids).arun())
        await asyncio.to_thread(until, lambda: all_started(pids))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(cancelled())
    assert_all_ended(pids)


def test_the_time_limit_of_an_async_task_ends_its_commands(pids: Path) -> None:
    @task
    async def solve() -> Any:
        return await hiding(pids).run()

    for limit in limits(pids):
        with pytest.raises(TaskRunTimeoutError):
            asyncio.run(solve.with_options(timeout_seconds=limit)())
    assert_all_ended(pids)


DRIVER = """
import sys
from hpc_flows import flow, task
from hpc_flows.engine import family
from hpc_flows.shell import ShellOperation
family.GRACE = 0.5

@task
def solve():
    ShellOperation({commands!r}, env={{"PIDS": {pids!r}}}).run()

@flow
def study():
    {call}

study()
"""


def assert_ends_with_its_commands(program: Path, number: int, pids: Path, **env: str) -> None:
    """Send `number` to a driver once its commands run: it fails, and none of them is left."""
    with subprocess.Popen(
        [sys.executable, str(program)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    ) as driver:
        try:
            until(lambda: all_started(pids))
            driver.send_signal(number)
            driver.communicate(timeout=PATIENCE)
        finally:
            driver.kill()
    assert driver.returncode != 0
    assert_all_ended(pids)


@pytest.mark.parametrize("call", ["solve()", "solve.submit().result()"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_commands_end_with_a_driver_that_is_interrupted_or_ended(
    pids: Path, tmp_path: Path, call: str, number: int
) -> None:
    program = tmp_path / "driver.py"
    program.write_text(DRIVER.format(commands=HIDING, pids=str(pids), call=call))
    assert_ends_with_its_commands(program, number, pids)


SLOW_BIRTH = """
import time
from hpc_flows.shell import process
start = process._start
def slowly(*args, **options):
    begun = start(*args, **options)
    time.sleep(1)
    return begun
process._start = slowly
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_commands_end_with_a_driver_that_did_not_know_yet_that_they_have_begun(
    pids: Path, tmp_path: Path, number: int
) -> None:
    """A busy machine runs a child long before its parent hears of it."""
    program = tmp_path / "driver.py"
    code = DRIVER.format(commands=HIDING, pids=str(pids), call="solve()")
    program.write_text(SLOW_BIRTH + code)
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    assert_ends_with_its_commands(program, number, pids, TMPDIR=str(scripts))
    assert list(scripts.iterdir()) == []


def test_a_child_that_keeps_the_output_open_does_not_hold_the_flow(home: Path, pids: Path) -> None:
    @flow
    def starts_a_server() -> list[str]:
        commands = ["sleep 300 &", 'echo $! > "$PIDS"', "echo started"]
        return list(ShellOperation(commands, env={"PIDS": str(pids)}).run())

    assert starts_a_server() == ["started"]
    (server,) = noted(pids)
    until(lambda: not is_alive(server))
    log = [
        event.data["message"]
        for run in home.glob("runs/*")
        for event in read_run(str(run))
        if event.kind == "log"
    ]
    assert any(f"sleep ({server})" in str(text) and "put `wait`" in str(text) for text in log)


def test_what_is_still_printed_after_the_script_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LINGER", PATIENCE)
    commands = ["(sleep 0.1; echo late) &", "echo early"]
    assert ShellOperation(commands).run() == ["early", "late"]


def test_what_has_left_the_session_on_purpose_outlives_a_script_that_ends_well(
    pids: Path,
) -> None:
    commands = [
        "setsid sleep 300 > /dev/null 2>&1 < /dev/null &",
        'echo $! > "$PIDS"',
        "until read -r _ _ _ _ _ session _ < /proc/$!/stat && [ $session = $! ]; do :; done",
    ]
    ShellOperation(commands, env={"PIDS": str(pids)}).run()
    (daemon,) = noted(pids)
    assert is_alive(daemon)
    os.kill(daemon, signal.SIGKILL)


def test_a_script_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    commands = ["exec > /dev/null 2>&1", "sleep 0.5", f"touch {tmp_path}/done"]
    assert ShellOperation(commands).run() == []
    assert (tmp_path / "done").exists()


def test_a_stopped_child_is_ended(pids: Path) -> None:
    commands = ['echo $$ >> "$PIDS"', "kill -STOP $$"]
    with pytest.raises(ShellTimeout):
        ShellOperation(commands, env={"PIDS": str(pids)}, timeout_seconds=1).run()
    until(lambda: not any(is_alive(pid) for pid in noted(pids)))


def test_programs_that_put_their_affairs_in_order_have_time_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "GRACE", PATIENCE)
    saved, ready = tmp_path / "checkpoint", tmp_path / "ready"
    commands = [
        f"trap 'seq 30000; echo saved > {saved}; exit 0' TERM",
        f"sleep 300 & touch {ready}; wait",
    ]
    seconds = 1.0
    while not ready.exists():  # a slow machine does not begin within that time
        with pytest.raises(ShellTimeout):
            ShellOperation(commands, timeout_seconds=seconds, stream_output=False).run()
        seconds *= 3
    assert saved.read_text() == "saved\n"


def test_parents_are_asked_to_end_before_their_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell whose child ended first would go on behind its `wait`, as if all were well."""
    line = [9, 8, 16, 1, 24]  # each the parent of the next; 8 has come out of its session
    parents = dict(zip(line, [2, *line], strict=False))
    table = {
        pid: family._Process(parent, 8 if pid == 8 else 9, 1, "sh")
        for pid, parent in parents.items()
    }
    monkeypatch.setattr(family, "_table", table.items)
    sent: list[tuple[int, int]] = []

    def note(pid: int, number: int) -> None:
        sent.append((number, pid))
        if number == signal.SIGKILL:
            del table[pid]

    monkeypatch.setattr(family, "_signal", note)
    family.Family(9).end(0.0)
    numbers = (signal.SIGTERM, signal.SIGCONT, signal.SIGKILL)
    assert sent == [(number, pid) for number in numbers for pid in line]


def test_a_full_disk_says_where_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.open

    def full(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path).endswith("script.sh"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", full)
    with pytest.raises(ShellError, match=r"No space left on device.*TMPDIR"):
        ShellOperation(["echo"]).run()


def test_no_folder_for_temporary_files_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", "/proc/no-such-folder")
    with pytest.raises(ShellError, match="TMPDIR"):
        ShellOperation(["echo"]).run()


def test_a_reader_that_breaks_is_told_and_leaves_nothing_behind(
    pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[str]:
        raise MemoryError

    monkeypatch.setattr(process.LineSplitter, "split", broken)
    commands = ['echo $$ > "$PIDS"', "echo a", "sleep 300"]
    with pytest.raises(MemoryError):
        ShellOperation(commands, env={"PIDS": str(pids)}).run()
    until(lambda: not any(is_alive(pid) for pid in noted(pids)))


def test_a_forked_child_ends_nothing_of_its_parents(tmp_path: Path) -> None:
    with ShellOperation([f"cat {tmp_path}/gate; echo survived"]) as operation:
        os.mkfifo(tmp_path / "gate")
        running = operation.trigger()
        running._owner = os.getpid() + 1  # as it is seen by a child
        operation._processes[0].terminate()
        running._owner = os.getpid()
        (tmp_path / "gate").write_text("")
        running.wait_for_completion()
    assert running.fetch_result() == ["survived"]


def test_a_failing_helper_keeps_the_command_from_running(tmp_path: Path) -> None:
    with pytest.raises(ShellError, match="cd /no/such/folder"):
        shell_run_command(f"touch {tmp_path}/made", helper_command="cd /no/such/folder")
    assert not (tmp_path / "made").exists()
