"""The command line as a whole: help, typos, errors, completion, and what is loaded for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import click
import pytest
from cli_runs import WrittenRun

from hpc_flows import logging
from hpc_flows.cli import main as main_module
from hpc_flows.cli.command import Command, LazyGroup
from hpc_flows.cli.main import cli, invoke
from hpc_flows.cli.terminal import harmless
from hpc_flows.exceptions import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def run_python(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from walk(inner, (*path, name))


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def raise_it(*_args: object, **_kwargs: object) -> None:
        raise error

    monkeypatch.setattr(main_module.cli, "main", raise_it)


def test_help_loads_no_command_and_neither_rich_nor_the_engine() -> None:
    code = (
        "import sys; from hpc_flows.cli.main import invoke; invoke(['--help']);"
        "print(sorted(m for m in sys.modules if m.startswith(('rich', 'hpc_flows'))))"
    )
    done = run_python("-c", code)
    loaded = done.stdout.strip().splitlines()[-1]
    assert "rich" not in loaded
    assert "hpc_flows.cli.runs" not in loaded
    assert "hpc_flows.engine" not in loaded
    assert "cluster " in done.stdout


def test_the_short_texts_of_the_first_help_are_those_of_the_commands() -> None:
    for path, command in walk(cli):
        if not isinstance(command, LazyGroup):
            continue
        for name, (_, short) in command.on_use.items():
            loaded = command.get_command(click.Context(command), name)
            assert loaded is not None
            if not isinstance(loaded, click.Group):
                assert loaded.get_short_help_str(limit=80) == short, f"{path} {name}"


def test_every_command_and_option_says_what_it_does() -> None:
    for path, command in walk(cli):
        assert command.help, path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{path} {parameter.opts}"


def test_examples_in_the_help_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "--help"]) == 0
    told = capsys.readouterr().out
    assert "\n    hpc-flows run cv.py --cluster afton\n" in told
    for path, command in walk(cli):
        assert "\\b" not in str(command.help), path


def test_every_command_takes_debug() -> None:
    for path, command in walk(cli):
        options = [option for parameter in command.params for option in parameter.opts]
        assert "--debug" in options, path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["confg", "view"], "config"),
        (["config", "vew"], "view"),
        (["cluster", "shwo"], "show"),
        (["version", "--jsn"], "--json"),
    ],
)
def test_a_typo_is_answered_with_what_was_meant(
    typed: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(typed) == 2
    assert f"Did you mean '{meant}'?" in capsys.readouterr().err


def test_an_error_of_ours_is_one_block_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, ClusterError("The profile says nothing.\nGive it a name."))
    assert invoke([]) == 1
    assert capsys.readouterr().err == "Error: The profile says nothing.\n  Give it a name.\n"


def test_the_cause_of_an_error_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ClusterError("The profile cannot be read.")
    error.__cause__ = PermissionError(13, "Permission denied", "/etc/x.toml")
    fail_with(monkeypatch, error)
    invoke([])
    assert "Because: /etc/x.toml: Permission denied" in capsys.readouterr().err


def test_an_error_that_nobody_foresaw_says_how_to_learn_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, ZeroDivisionError("division by zero"))
    assert invoke([]) == 1
    told = capsys.readouterr().err
    assert "ZeroDivisionError: division by zero" in told
    assert "--debug" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("how", ["option", "environment"])
def test_debug_shows_the_traceback(
    how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if how == "environment":
        monkeypatch.setenv("HPC_FLOWS_DEBUG", "1")
    arguments = ["--debug"] if how == "option" else []
    assert invoke(["cluster", "show", "no-such-cluster", *arguments]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["--help", "runs --help", "config view --json", "runs ls", "runs logs run-1"]
)
def test_a_reader_that_leaves_early_ends_a_command_as_sigpipe_would(words: str, home: Path) -> None:
    written = WrittenRun(home, "run-1")
    written.write(1, "log", level="INFO", message="Hello")
    written.end(2)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "hpc_flows", *words.split()]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("words", "status"),
    [("run flows.py:good", 0), ("run flows.py:bad", 1), ("run flows.py:none", 2), ("runs ls x", 2)],
)
def test_a_full_disk_under_stderr_changes_no_exit_status(
    words: str, status: int, tmp_path: Path
) -> None:
    (tmp_path / "flows.py").write_text(
        "from hpc_flows import flow, task\n"
        "@flow\n"
        "def good(): return task(lambda: 1, name='one')()\n"
        "@flow\n"
        "def bad(): raise ValueError('no')\n"
    )
    command = [sys.executable, "-m", "hpc_flows", *words.split()]
    with open("/dev/full", "w") as full:
        buffered = {**os.environ, "PYTHONUNBUFFERED": ""}  # as users have it
        done = subprocess.run(
            command, stderr=full, cwd=tmp_path, env=buffered, timeout=60, check=False
        )
    assert done.returncode == status


def test_python_dash_m_is_the_same_command_line() -> None:
    done = run_python("-m", "hpc_flows", "--version")
    assert done.returncode == 0
    assert done.stdout.startswith("hpc-flows ")


def test_the_shell_completes_commands() -> None:
    done = run_python(
        "-c",
        "from hpc_flows.cli.main import main; main([])",
        _HPC_FLOWS_COMPLETE="bash_complete",
        COMP_WORDS="hpc-flows conf",
        COMP_CWORD="1",
    )
    assert "plain,config" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_us_back(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["completion", shell]) == 0
    assert f"_HPC_FLOWS_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_completion_finds_the_shell_by_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert invoke(["completion"]) == 0
    assert "zsh_complete" in capsys.readouterr().out
    monkeypatch.setenv("SHELL", "/bin/dash")
    assert invoke(["completion"]) == 2


def test_version_says_where_things_lie(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["version", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["home"] == str(home)
    assert facts["python"].endswith(f"({sys.executable})")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_no_name_is_too_strange_for_a_terminal(encoding: str, home: Path) -> None:
    WrittenRun(home, "run-1", name="\u0645\u0631 \U0001f600", flow="Pr\xfcfung \udce9").end(1)
    told = run_python("-m", "hpc_flows", "runs", "ls", "--json", PYTHONIOENCODING=encoding)
    assert (told.returncode, told.stderr) == (0, "")
    assert json.loads(told.stdout)[0]["name"] == "\u0645\u0631 \U0001f600"
    shown = run_python("-m", "hpc_flows", "runs", "ls", PYTHONIOENCODING=encoding)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Completed" in shown.stdout


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a\x1b]52;c;ZXZpbA==\x07b", "ab"),  # writes into the clipboard
        ("a\x1b[2J\x1b[31mb\x1b[0m", "ab"),
        ("a\x9b2Jb\r\x08", "a2Jb"),
        ("a\x1bPq#1~\x1b\\b\x1bcc\x1b", "abc"),
        ("two\n\tlines \u0645 \U0001f600", "two\n\tlines \u0645 \U0001f600"),
    ],
)
def test_what_others_named_moves_no_terminal(text: str, plain: str) -> None:
    assert harmless(text) == plain
    assert harmless(f"\x1b[1;31m{text}", colours=True).startswith("\x1b[1;31m" + plain[0])


def test_closed_streams_lead_nowhere(home: Path) -> None:
    WrittenRun(home, "run-1").end(1)
    command = f"exec {sys.executable} -m hpc_flows runs ls <&- >&-"
    shown = subprocess.run(
        ["/bin/sh", "-c", command], stderr=subprocess.PIPE, timeout=60, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, b"")
    code = (
        "import os, sys; from hpc_flows.cli import main; main.invoke = lambda words: 0\n"
        "try: main.main([])\n"
        "except SystemExit: pass\n"
        "print('to nobody'); held = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
        "os.write(1, b'of a program'); sys.exit(0 if held > 2 else 9)"
    )
    journal = home / "journal"
    command = f'exec {sys.executable} -c "$CODE" {journal} <&- >&- 2>&-'
    done = subprocess.run(
        ["/bin/sh", "-c", command], env={**os.environ, "CODE": code}, timeout=60, check=False
    )
    assert (done.returncode, journal.read_bytes()) == (0, b"")


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, "on terminals"),
        ({"NO_COLOR": ""}, "on terminals"),
        ({"NO_COLOR": "1"}, "never"),
        ({"HPC_FLOWS_CONSOLE_COLOUR": "never"}, "never"),
        ({"HPC_FLOWS_CONSOLE_COLOUR": "always", "NO_COLOR": "1"}, "always"),
    ],
)
def test_colours_are_told_to_click_and_to_the_log_alike(
    variables: dict[str, str], wanted: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    told: list[bool | None] = []

    @click.command(cls=Command)
    def show() -> None:
        told.append(click.get_current_context().color)

    show.main([], standalone_mode=False)
    assert told == [{"on terminals": None, "never": False, "always": True}[wanted]]
    terminal = SimpleNamespace(isatty=lambda: True)
    setting = variables.get("HPC_FLOWS_CONSOLE_COLOUR", "auto")
    assert logging._is_coloured(setting, terminal) == (wanted != "never")


def test_an_error_is_told_with_the_colours_that_are_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_FLOWS_CONSOLE_COLOUR", "always")
    invoke(["runs", "show", "nobody"])
    assert "\x1b[31m" in capsys.readouterr().err
