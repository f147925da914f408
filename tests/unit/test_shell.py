"""Shell commands: what they return, what they log, and what their errors say."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest

import hpc_flows
from hpc_flows import flow, task
from hpc_flows.exceptions import ParameterError, ShellError, ShellTimeout
from hpc_flows.journal.reader import read_run
from hpc_flows.shell import ShellOperation, ShellProcess, shell_run_command

if TYPE_CHECKING:
    from pathlib import Path

    from hpc_flows.journal.event import Event


def records(home: Path) -> list[Event]:
    runs = [read_run(str(path)) for path in home.glob("runs/*")]
    return [event for run in runs for event in run if event.kind == "log"]


def messages(home: Path) -> list[str]:
    return [str(event.data["message"]) for event in records(home)]


def test_calling_an_operation_gives_one_text() -> None:
    assert ShellOperation(commands=["echo one", "echo two"])() == "one\ntwo"


def test_running_an_operation_gives_a_list_of_lines() -> None:
    assert ShellOperation(commands=["echo one", "printf 'two\\n\\nthree'"]).run() == [
        "one",
        "two",
        "",
        "three",
    ]


def test_commands_of_one_operation_share_one_shell() -> None:
    assert ShellOperation(["cd /", "X=1", 'echo "$X in $PWD"'])() == "1 in /"


def test_what_is_left_open_in_one_command_may_be_closed_in_the_next() -> None:
    commands = ["for i in 1 2; do", "echo $i", "done", "cat <<END", "text", "END"]
    assert ShellOperation(commands).run() == ["1", "2", "text"]


def test_one_text_is_one_command() -> None:
    assert ShellOperation("echo alone").commands == ["echo alone"]


def test_the_first_command_that_fails_ends_the_script() -> None:
    with pytest.raises(ShellError, match="return code 3") as caught:
        ShellOperation(["echo before", "(exit 3)", "echo after"]).run()
    assert caught.value.return_code == 3
    assert caught.value.command == "( exit 3 )"
    assert caught.value.output == ("before",)


def test_an_error_repeats_what_was_printed_last_on_both_outputs() -> None:
    with pytest.raises(RuntimeError, match="No such file or directory") as caught:
        ShellOperation(["echo looking", "ls this/is/invalid"]).run()
    assert "ls this/is/invalid" in str(caught.value)
    assert "looking" in str(caught.value)


def test_a_script_that_exits_by_itself_is_named_by_its_first_command() -> None:
    with pytest.raises(ShellError, match=r"return code 4: echo a … \(and 1 more\)"):
        ShellOperation(["echo a", "exit 4"]).run()


def test_a_command_that_is_killed_names_the_signal() -> None:
    with pytest.raises(ShellError, match="was killed by SIGKILL, perhaps for its memory"):
        ShellOperation(["kill -KILL $$"]).run()


def test_shells_without_notes_stop_at_the_first_failure_too() -> None:
    with pytest.raises(ShellError, match="return code 1: echo a"):
        ShellOperation(["echo a", "false", "echo b"], shell="sh").run()  # noqa: S604 - names a program


def test_other_programs_can_be_the_shell() -> None:
    operation = ShellOperation(["print(6 * 7)"], shell="python3", extension=".py")  # noqa: S604 - names a program
    assert operation() == "42"


def test_names_of_shells_may_be_written_in_capitals() -> None:
    assert ShellOperation(["echo $0"], shell="BASH")().endswith(".sh")  # noqa: S604 - names a program


def test_continue_on_error_runs_the_rest_and_tells_what_failed(home: Path) -> None:
    @flow
    def tolerant() -> list[str]:
        commands = ["echo a", "no_such_command_at_all", "false", "echo b"]
        return list(ShellOperation(commands, continue_on_error=True).run())

    assert tolerant() == ["a", "b"]
    told = [text for text in messages(home) if text.startswith("Some commands failed")]
    assert len(told) == 1
    assert told[0].endswith("no_such_command_at_all (return code 127); false (return code 1)")


def test_continue_on_error_forgives_the_last_command_too() -> None:
    assert ShellOperation(["echo a", "false"], continue_on_error=True)() == "a"


def test_return_all_puts_errors_among_the_lines_in_their_place() -> None:
    commands = ["echo 1", "echo 2 >&2", "echo 3"]
    assert ShellOperation(commands).run() == ["1", "3"]
    assert ShellOperation(commands, return_all=True).run() == ["1", "2", "3"]


def test_values_in_env_are_not_read_as_code(tmp_path: Path) -> None:
    evil = f"$(touch {tmp_path}/made); touch {tmp_path}/made"
    assert ShellOperation(['echo "$NAME"'], env={"NAME": evil})() == evil
    assert not (tmp_path / "made").exists()


def test_nothing_is_put_into_commands() -> None:
    assert ShellOperation(["echo '{name} {0} %s'"], env={"name": "x"})() == "{name} {0} %s"


def test_the_environment_of_the_process_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSIDE", "seen")
    assert ShellOperation(['echo "$OUTSIDE $MINE"'], env={"MINE": "too"})() == "seen too"


def test_commands_run_in_the_working_dir(tmp_path: Path) -> None:
    assert ShellOperation(["pwd -P"], working_dir=tmp_path)() == str(tmp_path.resolve())


def test_commands_are_in_no_argument_list(tmp_path: Path) -> None:
    operation = ShellOperation(["tr '\\0' ' ' < /proc/$$/cmdline; : a-secret"])
    assert "a-secret" not in operation()


def test_the_script_is_readable_by_its_owner_only_and_removed() -> None:
    mode, owner, path = ShellOperation(
        ['stat -c %a "${0%/*}"', 'stat -c %u "$0"', 'echo "$0"']
    ).run()
    assert (mode, owner) == ("700", str(os.getuid()))
    assert not os.path.exists(path)


def test_each_line_is_a_log_record_of_the_task_as_it_comes(home: Path) -> None:
    @task
    def solve(home: str) -> str:
        # The command sees its own first line in the journal while it runs.
        look = f"until grep -qs -e 'step on''e' {home}/runs/*/journal/*; do sleep 0.05; done"
        return str(ShellOperation(["echo step one", look, "echo step two >&2"])())

    @flow
    def study() -> str:
        return str(solve(str(home)))

    assert study() == "step one"
    logged = [event for event in records(home) if str(event.data["message"]).startswith("step")]
    assert [event.data["message"] for event in logged] == ["step one", "step two"]
    assert all(event.data["task_run"] for event in logged)


def test_output_that_is_not_streamed_is_returned_and_not_logged(home: Path) -> None:
    @flow
    def quiet() -> str:
        return str(ShellOperation(["echo silence"], stream_output=False)())

    assert quiet() == "silence"
    assert "silence" not in messages(home)


def test_without_a_run_lines_are_shown_on_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    ShellOperation(["echo shown"]).run()
    assert "| INFO    | shown" in capsys.readouterr().err


def test_bytes_that_are_no_text_are_replaced() -> None:
    lines = ShellOperation(["printf 'a\\377b\\n\\000\\n'"]).run()
    assert lines == ["a\ufffdb", "\x00"]


def test_lines_may_end_as_on_windows_and_progress_bars_are_logged_once(home: Path) -> None:
    @flow
    def bars() -> list[str]:
        return list(ShellOperation(["printf 'dos\\r\\n10%%\\r50%%\\r100%%\\n'"]).run())

    assert bars() == ["dos", "10%\r50%\r100%"]
    assert "100%" in messages(home)


def test_a_long_line_is_returned_whole_and_logged_cut(home: Path) -> None:
    @flow
    def long() -> int:
        made = ShellOperation(["head -c 3000000 /dev/zero | tr '\\0' x"])()
        return len(made)

    assert long() == 3_000_000
    assert any("cut here; 3000000 characters" in text for text in messages(home))


def test_a_hundred_thousand_lines_come_through() -> None:
    lines = ShellOperation(["seq 100000"], stream_output=False).run()
    assert lines == [str(number) for number in range(1, 100_001)]


def test_commands_read_nothing_from_the_terminal() -> None:
    assert ShellOperation(["cat"])() == ""


def test_a_missing_shell_is_named_with_the_path() -> None:
    with pytest.raises(ShellError, match=r"no shell 'tcsh-of-old' on this machine; PATH is"):
        ShellOperation(["echo"], shell="tcsh-of-old").run()  # noqa: S604 - names a program


def test_a_missing_working_dir_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShellError, match=r"gone' of the shell commands is not there"):
        ShellOperation(["echo"], working_dir=tmp_path / "gone").run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"commands": []}, "takes a list of commands"),
        ({"commands": [1]}, "takes a list of commands"),
        ({"commands": ["a\0b"]}, "zero byte"),
        ({"commands": ["a"], "env": {"N": 1}}, "env of ShellOperation holds texts; 'N' is 1"),
        ({"commands": ["a"], "working_directory": "/"}, "Did you mean 'working_dir'"),
        ({"commands": ["a"], "timeout_seconds": -1}, "timeout_seconds"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        ShellOperation(**options)


def test_triggered_commands_run_until_they_are_waited_for() -> None:
    with ShellOperation(["read -t 0.2 < <(sleep 1) || true", "echo done"]) as operation:
        process = operation.trigger()
        assert isinstance(process, ShellProcess)
        assert process.return_code is None
        assert "running" in repr(process)
        process.wait_for_completion()
        assert process.return_code == 0
        assert process.fetch_result() == ["done"]
        assert process.pid > 0


def test_what_a_triggered_command_printed_can_be_had_before_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    with ShellOperation(["echo early", f"cat {tmp_path}/gate"]) as operation:
        process = operation.trigger()
        while not process.fetch_result():
            process.wait_at_most(0.01)
        assert process.fetch_result() == ["early"]
        (tmp_path / "gate").write_text("late\n")
        process.wait_for_completion()
    assert process.fetch_result() == ["early", "late"]


def test_a_triggered_command_is_never_held_up_by_a_full_pipe() -> None:
    with ShellOperation(["seq 100000", "seq 100000 >&2"], stream_output=False) as operation:
        process = operation.trigger()
        process.wait_at_most(60)
        assert process.return_code == 0


def test_waiting_for_a_triggered_command_that_failed_raises() -> None:
    with ShellOperation(["false"]) as operation, pytest.raises(ShellError, match="return code 1"):
        operation.trigger().wait_for_completion()


def test_async_code_awaits_all_of_it() -> None:
    async def everything() -> list[Any]:
        operation = ShellOperation(["echo a", "echo b"])
        async with ShellOperation(["echo c"]) as other:
            process = await other.trigger()
            await process.wait_for_completion()
            fetched = await process.fetch_result()
            again = await process.afetch_result()
        first = await (await operation.atrigger()).await_for_completion()
        several = await asyncio.gather(*[operation.run() for _ in range(2)])
        return [await operation.run(), await operation(), fetched, again, first, several]

    assert asyncio.run(everything()) == [
        ["a", "b"],
        "a\nb",
        ["c"],
        ["c"],
        None,
        [["a", "b"], ["a", "b"]],
    ]


def test_plain_code_that_async_code_calls_is_not_given_something_to_await() -> None:
    def plain() -> list[str]:
        return list(ShellOperation(["echo a"]).run())

    async def outer() -> list[str]:
        return plain()

    assert asyncio.run(outer()) == ["a"]


def test_others_run_while_async_code_waits_for_a_command(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")

    async def both() -> list[str]:
        async def open_the_gate() -> None:
            await asyncio.to_thread((tmp_path / "gate").write_text, "opened\n")

        waiting = asyncio.ensure_future(ShellOperation([f"cat {tmp_path}/gate"]).arun())
        await open_the_gate()
        return await waiting

    assert asyncio.run(both()) == ["opened"]


def test_shell_run_command_is_a_task_that_returns_its_last_line(home: Path) -> None:
    @flow
    def listing() -> Any:
        return shell_run_command("echo one; echo two", stream_level=logging.WARNING)

    assert listing() == "two"
    logged = [event for event in records(home) if event.data["message"] == "two"]
    assert [event.data["level"] for event in logged] == ["WARNING"]
    assert logged[0].data["task_run"]


def test_shell_run_command_takes_prefects_options(tmp_path: Path) -> None:
    @flow
    def listing() -> Any:
        return shell_run_command(  # noqa: S604 - names a program
            command='pwd -P; echo "$A $B"',
            env={"A": "1"},
            helper_command="B=2",
            shell="bash",
            extension=".bash",
            return_all=True,
            cwd=tmp_path,
        )

    assert listing() == [str(tmp_path.resolve()), "1 2"]


def test_shell_run_command_prints_nothing_and_returns_an_empty_text() -> None:
    assert shell_run_command("true") == ""


def test_shell_run_command_is_awaited_in_async_flows() -> None:
    @flow
    async def listing() -> Any:
        return await shell_run_command("echo x")

    assert asyncio.run(listing()) == "x"


def test_shell_run_command_can_be_submitted_mapped_and_given_options() -> None:
    @flow
    def several() -> list[Any]:
        mapped = shell_run_command.map(["echo a", "echo b"])
        named = shell_run_command.with_options(name="ls", retries=1)
        return [*mapped.result(), named("echo c"), named.submit("echo d").result()]

    assert several() == ["a", "b", "c", "d"]


def test_shell_run_command_fails_with_what_was_printed() -> None:
    with pytest.raises(RuntimeError, match="No such file or directory"):
        shell_run_command("ls this/is/invalid")


def test_an_operation_can_be_sent_to_other_processes() -> None:
    operation = ShellOperation(["echo $A"], env={"A": "sent"}, timeout_seconds=60)
    assert pickle.loads(pickle.dumps(operation))() == "sent"  # noqa: S301 - made here


def test_errors_can_be_sent_to_other_processes() -> None:
    error = pickle.loads(pickle.dumps(ShellTimeout("late", -15, "sleep", ("a",))))  # noqa: S301 - made here
    assert (str(error), error.return_code, error.command, error.output) == (
        "late",
        -15,
        "sleep",
        ("a",),
    )


def test_the_names_are_at_the_top_too() -> None:
    assert hpc_flows.ShellOperation is ShellOperation
    assert hpc_flows.shell_run_command is shell_run_command
