"""`hpc-flows relay`: on a login node, once, for whoever dials in, and as a file that is carried."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from relay_doubles import TOKEN, FakeServer, Journal

from hpc_flows.reporting.login import LoginRelay, running
from hpc_flows.reporting.relay import NEW_RUNS, Relay
from hpc_flows.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer().start()
    yield server
    server.stop()


@pytest.fixture
def environment(fake: FakeServer, home: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "HPC_FLOWS_HOME": str(home),
        "HPC_FLOWS_API_URL": fake.url,
        "HPC_FLOWS_API_KEY": TOKEN,
    }


def call(
    environment: dict[str, str], *words: str, status: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "hpc_flows", "relay", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def wait_until(done: Callable[[], bool], seconds: float = 150.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def has_all(fake: FakeServer, journal: Journal) -> Callable[[], bool]:
    return lambda: fake.held(journal.run) == journal.lines()


def test_a_relay_in_the_background_reports_new_runs_soon_and_stops_when_it_is_told(
    fake: FakeServer, home: Path, environment: dict[str, str]
) -> None:
    home.mkdir()
    told = call(environment, "start", "--background").stdout
    holder = running(str(home))
    assert holder is not None
    assert f"pid {holder.pid} on {os.uname().nodename}" in told
    assert os.getpriority(os.PRIO_PROCESS, holder.pid) == 19
    try:
        assert "runs already" in call(environment, "start", "--background").stdout
        journal = Journal(home)
        journal.write(20)
        wait_until(has_all(fake, journal))
        assert NEW_RUNS < 1.0
        wait_until(lambda: any(beat["runs"] == [journal.run] for beat in fake.beats))
        facts = json.loads(call(environment, "status", "--json").stdout)
        assert facts["relay"]["pid"] == holder.pid
        assert "reporting" in call(environment, "status").stdout
        assert "Stopped" in call(environment, "stop").stdout
        assert running(str(home)) is None
        journal.close()
    finally:
        if running(str(home)) is not None:
            os.kill(holder.pid, signal.SIGKILL)
    assert "none runs" in call(environment, "status").stdout


def test_of_relays_that_are_started_at_once_one_comes_up_and_all_are_told_which(
    home: Path, environment: dict[str, str]
) -> None:
    """As from the start files of several shells."""
    home.mkdir()
    command = [sys.executable, "-m", "hpc_flows", "relay", "start", "--background"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen(command, env=environment, **pipes) for _ in range(3)]  # type: ignore[call-overload] # the pipes are as Popen wants them
    told = [each.communicate(timeout=150)[0] for each in started]
    holder = running(str(home))
    assert holder is not None, told
    try:
        assert [each.returncode for each in started] == [0, 0, 0], told
        assert all(f"pid {holder.pid} on" in words for words in told)
    finally:
        call(environment, "stop")


def test_a_relay_that_was_killed_is_no_hindrance_for_the_next(
    fake: FakeServer, home: Path, environment: dict[str, str]
) -> None:
    journal = Journal(home)
    journal.write(10)
    for _ in range(2):
        call(environment, "start", "--background")
        holder = running(str(home))
        assert holder is not None
        wait_until(has_all(fake, journal))
        os.kill(holder.pid, signal.SIGKILL)
        wait_until(lambda: running(str(home)) is None)
        journal.write(10)
    assert "none runs" in call(environment, "status").stdout
    journal.close()


def test_a_request_to_stop_that_comes_too_late_stops_no_later_relay(
    fake: FakeServer, home: Path, environment: dict[str, str]
) -> None:
    assert fake.port
    (home / "relay" / "login").mkdir(parents=True)
    (home / "relay" / "login" / "stop").write_text("0123456789abcdef")
    call(environment, "start", "--background")
    time.sleep(1.2)
    assert running(str(home)) is not None
    call(environment, "stop")


def test_a_relay_ends_by_itself_some_time_after_the_last_run(
    fake: FakeServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_FLOWS_API_URL", fake.url)
    monkeypatch.setenv("HPC_FLOWS_API_KEY", TOKEN)
    monkeypatch.setattr(os, "nice", lambda _: 19)
    monkeypatch.setattr(LoginRelay, "_listen", lambda _: None)
    journal = Journal(home)
    journal.write(5)
    journal.end()
    said: list[str] = []
    began = time.monotonic()
    assert LoginRelay(get_settings(), said.append, idle=1.5).run() == 0
    assert time.monotonic() - began >= 1.5
    assert "no run has been alive" in said[-1]
    assert has_all(fake, journal)()
    assert running(str(home)) is None


def test_a_relay_with_nothing_to_report_to_says_what_to_do(
    home: Path, environment: dict[str, str]
) -> None:
    home.mkdir()
    del environment["HPC_FLOWS_API_URL"]
    told = call(environment, "start", "--background", status=1).stderr
    assert "api_url" in told
    environment["HPC_FLOWS_REPORT"] = "off"
    assert "switched off" in call(environment, "run", status=1).stderr


def test_once_sends_what_is_there_and_says_what_could_not_be_sent(
    fake: FakeServer, home: Path, environment: dict[str, str]
) -> None:
    first, second = Journal(home), Journal(home, "run-0002")
    for journal in (first, second):
        journal.write(10)
        journal.end()
    assert "11 events sent" in call(environment, "once", second.run).stdout
    assert fake.held(first.run) == set()
    assert "11 events sent" in call(environment, "once").stdout
    assert has_all(fake, first)()
    assert "0 events sent" in call(environment, "once").stdout
    fake.stop()
    told = call(environment, "once", "--timeout", "1", status=1).stdout
    assert "does not answer" in told


def test_whoever_can_only_dial_in_pulls_and_goes_on_from_its_own_cursor(
    fake: FakeServer, home: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    journal = Journal(home)
    journal.write(700)
    mine = {**environment, "HPC_FLOWS_HOME": str(tmp_path / "puller")}
    remote = ["env", "-u", "HPC_FLOWS_API_URL", f"HPC_FLOWS_HOME={home}"]
    # A login shell may print something before the relay begins.
    script = f'echo Welcome; exec {sys.executable} -m hpc_flows relay stdio "$@"'
    command = [*remote, "sh", "-c", script, "sh", "--once"]
    assert "700 events taken" in call(mine, "pull", "--once", "--", *command).stdout
    assert has_all(fake, journal)()
    assert not list(home.glob("relay/*/cursors"))  # nothing is left there
    journal.write(5)
    assert "5 events taken" in call(mine, "pull", "--once", "--", *command).stdout
    assert fake.lines == 705
    fake.restart()
    fake.restore({})
    assert "705 events taken" in call(mine, "pull", "--once", "--", *command).stdout
    assert has_all(fake, journal)()
    journal.close()


def test_pulling_from_what_is_no_relay_says_what_it_said(
    fake: FakeServer, home: Path, environment: dict[str, str]
) -> None:
    assert fake.port
    home.mkdir()
    command = ["sh", "-c", "echo command not found >&2; exit 127"]
    told = call(environment, "pull", "--once", "--", *command, status=1).stdout
    assert "is no relay" in told
    assert "command not found" in told


def test_a_pull_that_is_cut_loses_and_doubles_nothing(
    fake: FakeServer, home: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    journal = Journal(home)
    journal.write(2500)
    mine = {**environment, "HPC_FLOWS_HOME": str(tmp_path / "puller")}
    far = {"HPC_FLOWS_HOME": str(home), "HPC_FLOWS_FAILPOINT": "batch-sent:2"}
    words = [f"{name}={value}" for name, value in far.items()]
    command = ["env", *words, sys.executable, "-m", "hpc_flows", "relay", "stdio", "--once"]
    call(mine, "pull", "--once", "--", *command, status=1)
    assert 0 < len(fake.held(journal.run)) < 2500
    command.remove("HPC_FLOWS_FAILPOINT=batch-sent:2")
    call(mine, "pull", "--once", "--", *command)
    assert has_all(fake, journal)()
    journal.close()


def test_a_run_is_carried_as_a_file_and_the_second_time_changes_nothing(
    fake: FakeServer, home: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    journal = Journal(home)
    script = Path(journal.folder, "jobs", "hf-1-2", "script.sh")
    script.parent.mkdir()
    script.write_text("#!/bin/bash\ntrue\n")
    intent = {"token": "hf-1-2", "cluster": "mock", "scheduler": "slurm", "task_runs": []}
    journal.writer().write("job-intent", {**intent, "script": str(script), "resources": {}})
    journal.write(900)
    journal.end()
    path = tmp_path / "run.hfz"
    assert "902 events and 1 file" in call(environment, "export", "latest", "-f", str(path)).stderr
    for _ in range(2):
        assert "902 events and 1 file" in call(environment, "import", str(path)).stdout
    assert has_all(fake, journal)()
    assert fake.attachments == {(journal.run, "script", "hf-1-2"): script.read_bytes()}
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "whole file" in call(environment, "import", str(path), status=1).stderr
    path.write_bytes(b"something else")
    call(environment, "import", str(path), status=1)


def test_a_relay_of_stdio_ends_when_nobody_listens_any_more(
    home: Path, environment: dict[str, str]
) -> None:
    Journal(home).end()
    child = subprocess.Popen(
        [sys.executable, "-m", "hpc_flows", "relay", "--stdio"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdout.read(10)
    child.stdin.close()
    child.stdout.close()
    assert child.wait(150) == 0


def test_orders_from_a_pulled_server_reach_the_run(
    fake: FakeServer, home: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    del environment
    journal = Journal(home)
    journal.write(1)
    from relay_doubles import server_sink

    from hpc_flows.reporting.cursors import CursorFolder
    from hpc_flows.reporting.pulling import Line, PulledCursors, Puller, PullerLeft, StdioSink

    here, there = os.pipe(), os.pipe()
    with (
        os.fdopen(here[0], "rb") as requests,
        os.fdopen(here[1], "wb") as asking,
        os.fdopen(there[0], "rb") as answers,
        os.fdopen(there[1], "wb") as answering,
    ):
        from threading import Thread

        sink = server_sink(fake)
        puller = Puller(sink, lambda store: CursorFolder(str(tmp_path / store)))
        asking.write(b"\nhpc-flows relay 1\n")
        thread = Thread(target=puller.serve, args=(requests, answering), daemon=True)
        thread.start()
        line = Line(answers, asking)
        relay = Relay(StdioSink(line), str(home), "stdio", store=PulledCursors(line))
        relay.turn()
        fake.commands = [
            {"id": "c", "run": journal.run, "action": "pause", "reason": "", "by": "a"}
        ]
        wait_until(lambda: relay.turn() >= 0 and bool(fake.command_answers))
        assert fake.command_answers[0][1]["status"] == "delivered"
        asked = json.loads(Path(journal.folder, "control", "pause").read_text())
        assert asked["by"] == "a"
        relay.close()
        asking.close()
        thread.join(150)
        assert not thread.is_alive()
        sink.close()
        with pytest.raises((PullerLeft, ValueError)):
            line.call("runs")
    journal.close()
