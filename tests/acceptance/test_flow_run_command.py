"""`hpc-flows flow-run`, `task-run` and `watch`: the same with a server and without."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any

import pytest
from cli_process import Shell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FLOWS = """
import os, sys, time
from hpc_flows import flow, task

@task(log_prints=True)
def step(x):
    print("this is step", x)
    return x

@task
def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.02)

@flow(flow_run_name="calm-study")
def study(path="go"):
    step.map(range(3)).result()
    wait_for(path)
    return step(99)

@flow(flow_run_name="bad-study")
def bad():
    raise ValueError("no such mesh")

if __name__ == "__main__":
    {"study": study, "bad": bad}[sys.argv[1]]()
"""

#: What only a server knows, or counts in its own way.
SERVERS_OWN = {"heard", "skew", "version", "project"}


#: For what the driver does soon: a busy machine needs more than people would wait.
LONG = ("--timeout", "110")


@pytest.fixture
def shell(home: Path, tmp_path: Path) -> Iterator[Shell]:
    with Shell(tmp_path, {"HPC_FLOWS_HOME": str(home)}) as shell:
        shell.write("flows.py", FLOWS)
        yield shell


@pytest.fixture
def server(shell: Shell) -> Iterator[dict[str, str]]:
    """Start a server in the home; give what another home needs to ask it."""
    shell.good("server", "start", "--background", "--port", "0")
    try:
        folder = shell.folder / "hpc_flows_home" / "server"
        url = json.loads((folder / "endpoint.json").read_text())["url"]
        token = (folder / "token").read_text().strip()
        yield {"HPC_FLOWS_API_URL": url, "HPC_FLOWS_API_KEY": token}
    finally:
        shell.run("server", "stop")


@pytest.fixture
def far(shell: Shell, server: dict[str, str], tmp_path: Path) -> Iterator[Shell]:
    """Another machine: a home without runs, and the server's address."""
    del shell
    with Shell(tmp_path, {"HPC_FLOWS_HOME": str(tmp_path / "far"), **server}) as far:
        yield far


def _drive(shell: Shell, flow: str = "study") -> subprocess.Popen[str]:
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "flows.py", flow],
        cwd=shell.folder,
        env={**os.environ, **shell.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    shell.started.append(process)
    return process


def _state(shell: Shell, *more: str) -> str:
    found = shell.run("flow-run", "inspect", "latest", "--json", *more)
    return str(json.loads(found.stdout)["state_name"]) if found.returncode == 0 else found.stderr


def _until(condition: Callable[[], bool], seconds: float = 150.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def _waits(shell: Shell, *, local: bool = True) -> bool:
    """Tell whether the study is, as far as is known there, where it waits for the file."""
    rows = shell.run("task-run", "ls", "--task", "wait_for", "--json", *["--local"] * local)
    return '"RUNNING"' in rows.stdout


def _ended(shell: Shell, flow: str = "study") -> None:
    (shell.folder / "go").touch()
    process = _drive(shell, flow)
    process.wait(150)


def test_the_same_is_shown_with_a_server_and_without(shell: Shell, far: Shell) -> None:
    _ended(shell)
    _until(lambda: _state(far) == "Completed")
    run = shell.json("flow-run", "inspect", "calm-study", "--local")
    assert run["tasks"] == {"COMPLETED": 5}
    there = far.json("flow-run", "inspect", "calm-study")
    assert {k: v for k, v in there.items() if k not in SERVERS_OWN} == {
        k: v for k, v in run.items() if k not in SERVERS_OWN
    }
    for command in (
        ("flow-run", "ls"),
        ("flow-run", "ls", "--json", "--state", "completed", "--flow", "study"),
        ("flow-run", "inspect", run["id"]),
        ("flow-run", "logs", "calm-study"),
        ("flow-run", "logs", "calm-study", "-n", "2", "--reverse"),
        ("flow-run", "logs", "calm-study", "-n", "2", "--head", "--level", "info"),
        ("task-run", "ls", "--flow-run", run["id"][:8]),
        ("task-run", "ls", "--json", "--task", "step", "--state", "completed", "-n", "2"),
    ):
        assert far.good(*command) == shell.good(*command, "--local")
    task_run = shell.json("task-run", "ls", "--task", "wait_for", "--local")[0]
    for command in (
        ("task-run", "inspect", task_run["id"]),
        ("task-run", "inspect", task_run["name"], "--flow-run", "latest"),
        ("task-run", "logs", task_run["id"]),
    ):
        assert far.good(*command) == shell.good(*command, "--local")
    records = shell.json("flow-run", "logs", "latest", "--local")
    assert [r["message"] for r in records if "this is" in r["message"]][-1] == "this is step 99"
    there = far.json("flow-run", "logs", "latest")
    assert [{**r, "id": ""} for r in there] == [{**r, "id": ""} for r in records]


@pytest.mark.parametrize("through_server", [False, True])
def test_a_run_is_paused_and_goes_on(
    shell: Shell, request: pytest.FixtureRequest, *, through_server: bool
) -> None:
    who: Shell = request.getfixturevalue("far") if through_server else shell
    driver = _drive(shell)
    _until(lambda: _waits(shell) and (not through_server or _state(who) == "Running"))
    assert "is not paused" in shell.run("flow-run", "resume", "latest").stderr
    assert "calm-study is paused" in who.good(
        "flow-run", "pause", "latest", "--reason", "lunch", *LONG
    )
    _until(lambda: _state(who) == "Paused")
    (shell.folder / "go").touch()
    _until(lambda: not _waits(shell))
    time.sleep(1.0)
    assert driver.poll() is None
    assert _state(who) == "Paused"
    assert "lunch" in who.good("flow-run", "inspect", "latest")
    assert "calm-study goes on" in who.good("flow-run", "resume", "latest", *LONG)
    assert driver.wait(150) == 0
    _until(lambda: _state(who) == "Completed")


@pytest.mark.parametrize("through_server", [False, True])
def test_a_run_is_cancelled(
    shell: Shell, request: pytest.FixtureRequest, *, through_server: bool
) -> None:
    who: Shell = request.getfixturevalue("far") if through_server else shell
    driver = _drive(shell)
    _until(lambda: _waits(shell) and (not through_server or _state(who) == "Running"))
    who.good("flow-run", "cancel", "latest", "--reason", "the wrong mesh", *LONG)
    assert driver.wait(150) != 0
    _until(lambda: _state(who) == "Cancelled")
    assert "the wrong mesh" in who.good("flow-run", "inspect", "latest")
    assert who.run("watch", "latest").returncode == 130


def test_a_driver_that_is_gone_is_told_of(shell: Shell, far: Shell) -> None:
    driver = _drive(shell)
    _until(lambda: _waits(shell) and _state(far) == "Running")
    driver.send_signal(signal.SIGKILL)
    driver.wait(150)
    done = shell.run("flow-run", "pause", "latest")
    assert (done.returncode, "is gone" in done.stderr) == (1, True)
    assert "driver gone" in shell.good("flow-run", "ls", "--local")
    done = far.run("flow-run", "pause", "latest", "--timeout", "1")
    assert done.returncode == 1
    assert re.search(r"could not pass it on.*relay was last heard .* ago", done.stderr)
    assert shell.run("watch", "latest").returncode == 1


def test_a_server_that_is_down_is_told_of_and_the_journals_are_read(
    shell: Shell, server: dict[str, str]
) -> None:
    shell.environment["HPC_FLOWS_REPORT"] = "off"
    _ended(shell)
    assert "There are no flow runs on the server" in shell.good("flow-run", "ls")
    shell.good("server", "stop")
    shell.environment |= server
    done = shell.run("flow-run", "ls")
    assert done.returncode == 0
    assert re.search(r"Warning: .*cannot be asked.*from the journals", done.stderr, re.DOTALL)
    assert "calm-study" in done.stdout
    assert "Warning" not in shell.run("flow-run", "ls", "--local").stderr


def test_a_server_that_refuses_us_is_an_error(shell: Shell, server: dict[str, str]) -> None:
    wrong = server["HPC_FLOWS_API_KEY"][:-4] + "AAAA"
    shell.environment |= {**server, "HPC_FLOWS_API_KEY": wrong}
    done = shell.run("flow-run", "ls")
    assert done.returncode == 1
    assert "--local" in done.stderr
    assert wrong not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("flow-run", "inspect", "calm-studi"), "Did you mean 'calm-study'"),
        (("flow-run", "logs", "nobody"), "There is no run 'nobody'"),
        (("flow-run", "pause", "calm-study"), "has ended: Completed. Nothing was paused"),
        (("flow-run", "resume", "calm-study"), "has ended: Completed. Nothing was resumed"),
        (("flow-run", "pause", "nobody"), "There is no"),
        (("flow-run", "ls", "--state", "compleet"), "Did you mean 'completed'"),
        (("flow-run", "logs", "latest", "-f", "--json"), "--follow prints all records"),
        (("flow-run", "logs", "latest", "-f", "-n", "3"), "--follow prints all records"),
        (("task-run", "ls", "--task", "stepp"), "Did you mean 'step'"),
        (("task-run", "inspect", "step", "--flow-run", "latest"), "no task run 'step'"),
        (("task-run", "inspect", "wait"), "Name its flow run with --flow-run"),
        (("watch", "nobody"), "There is no run 'nobody'"),
    ],
)
def test_what_is_not_there_is_refused_with_a_hint(
    shell: Shell, arguments: tuple[str, ...], told: str
) -> None:
    _ended(shell)
    done = shell.run(*arguments)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_is_deleted_once_it_has_ended(shell: Shell, far: Shell, home: Path) -> None:
    driver = _drive(shell)
    _until(lambda: _waits(shell) and _state(far) == "Running")
    done = shell.run("flow-run", "delete", "latest", "--local", "-y")
    assert (done.returncode, "has not ended" in done.stderr) == (1, True)
    (shell.folder / "go").touch()
    driver.wait(150)
    _until(lambda: _state(far) == "Completed")
    far.good("flow-run", "delete", "latest", "-y")
    assert far.json("flow-run", "ls") == []
    assert len(shell.json("flow-run", "ls", "--local")) == 1
    shell.good("flow-run", "delete", "calm-study", "--local", "-y")
    assert shell.json("flow-run", "ls", "--local") == []
    assert list((home / "runs").iterdir()) == list((home / "deleted").iterdir()) == []


@pytest.mark.parametrize("through_server", [False, True])
def test_a_watched_run_ends_the_watch_with_its_status(
    shell: Shell, request: pytest.FixtureRequest, *, through_server: bool
) -> None:
    who: Shell = request.getfixturevalue("far") if through_server else shell
    _drive(shell)
    _until(lambda: _waits(who, local=not through_server))
    watching = who.start("watch", "latest")
    assert watching.stdout is not None
    first = watching.stdout.readline()
    assert watching.poll() is None
    (shell.folder / "go").touch()
    rest, err = watching.communicate(timeout=150)
    assert watching.returncode == 0, err
    out = first + rest
    lines = out.splitlines()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d calm-study Running - step: 3 done; wait_for: 1 running", lines[0]
    )
    assert lines[-1].endswith("calm-study Completed - step: 4 done; wait_for: 1 done")
    assert "\x1b" not in out
    _ended(shell, "bad")
    _until(lambda: _state(who) == "Failed")
    done = who.run("watch", "bad-study")
    assert done.returncode == 1
    assert "no such mesh" in done.stdout


class _Terminal:
    """A terminal of 80 columns and 24 lines with a command in it."""

    def __init__(self, shell: Shell, *arguments: str, **environment: str) -> None:
        self.screen, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        shell.environment |= {"TERM": "xterm", "LC_ALL": "C.UTF-8", **environment}
        self.process = shell.start(*arguments, stdin=inside, stdout=inside, stderr=inside)
        self.before = termios.tcgetattr(inside)
        self.inside = inside
        self.seen = ""

    def until(self, text: str, seconds: float = 150.0) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen[-3000:]!r}"
            if select.select([self.screen], [], [], 0.2)[0]:
                self.seen += os.read(self.screen, 65536).decode(errors="replace")

    def type(self, keys: str) -> None:
        self.seen = ""
        os.write(self.screen, keys.encode())

    def end(self) -> int:
        while self.process.poll() is None:
            if select.select([self.screen], [], [], 0.1)[0]:
                self.seen += os.read(self.screen, 65536).decode(errors="replace")
        while select.select([self.screen], [], [], 0.2)[0]:
            self.seen += os.read(self.screen, 65536).decode(errors="replace")
        assert termios.tcgetattr(self.inside) == self.before  # keys are shown again
        os.close(self.inside)
        os.close(self.screen)
        return self.process.returncode


def test_on_a_terminal_keys_show_logs_and_leave(shell: Shell) -> None:
    driver = _drive(shell)
    _until(lambda: _waits(shell))
    terminal = _Terminal(shell, "watch", "latest")
    terminal.until("q leave")
    assert "study (calm-study)" in _plain(terminal.seen)
    assert re.search(r"wait_for 0/1", _plain(terminal.seen))
    assert "running" in terminal.seen
    terminal.type("l")
    terminal.until("this is step 2")
    terminal.type("kkj")
    terminal.until("q leave")
    terminal.type("t")
    terminal.until("wait_for")
    terminal.type("q")
    assert terminal.end() == 0
    assert "calm-study goes on" in _plain(terminal.seen)
    assert driver.poll() is None
    (shell.folder / "go").touch()
    assert driver.wait(150) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_watch_gives_the_terminal_back_and_leaves_the_run(
    shell: Shell, number: int, status: int
) -> None:
    driver = _drive(shell)
    _until(lambda: _waits(shell))
    terminal = _Terminal(shell, "watch", "latest")
    terminal.until("q leave")
    terminal.process.send_signal(number)
    assert terminal.end() == status
    assert driver.poll() is None
    (shell.folder / "go").touch()
    assert driver.wait(150) == 0


def test_without_colours_nothing_is_coloured(shell: Shell) -> None:
    _drive(shell)
    _until(lambda: _waits(shell))
    terminal = _Terminal(shell, "watch", "latest", NO_COLOR="1")
    terminal.until("q leave")
    (shell.folder / "go").touch()
    assert terminal.end() == 0
    assert "Completed" in terminal.seen
    coloured: Any = re.findall(r"\x1b\[[0-9;]*m", terminal.seen)
    assert not [code for code in coloured if re.search(r"\b(3[0-7]|9[0-7]|38)\b", code)]


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
