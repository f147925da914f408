"""Flows report by themselves: soon, without being slowed, and without failing because of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from relay_doubles import TOKEN, Failure, FakeServer

from hpc_flows import flow, task
from hpc_flows.journal.index import list_runs
from hpc_flows.journal.reader import decode, read_run
from hpc_flows.journal.replay import replay
from hpc_flows.reporting import driver, relay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
#: Seconds that a busy machine may take for what is done at once.
PATIENCE = 150.0


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def flush(monkeypatch: pytest.MonkeyPatch) -> float:
    """Give the end of a flow as long as a busy machine needs; return the seconds of users."""
    usual = driver.FLUSH
    monkeypatch.setattr(driver, "FLUSH", PATIENCE)
    return usual


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    server = FakeServer().start()
    monkeypatch.setenv("HPC_FLOWS_API_URL", server.url)
    monkeypatch.setenv("HPC_FLOWS_API_KEY", TOKEN)
    yield server
    server.stop()


@task
def double(number: int) -> int:
    return 2 * number


@flow
def numbers(count: int) -> int:
    return sum(double.map(range(count)).result())


def _state_of(fake: FakeServer, run: str) -> object:
    events = sorted((decode(line) for line in fake.held(run)), key=lambda event: event.order)
    return _shown(replay(events))


def _shown(view: object) -> object:
    return {
        run.id: (run.name, run.state_type, run.state_name, run.started, run.ended)
        for runs in (view.flow_runs, view.task_runs)  # type: ignore[attr-defined]
        for run in runs.values()
    }


def test_all_of_a_flow_is_on_the_server_when_it_returns(fake: FakeServer, home: Path) -> None:
    assert numbers(50) == 2450
    (run,) = list_runs(str(home))
    assert _state_of(fake, run.id) == _shown(replay(read_run(run.path)))
    assert not list((home / "relay" / "status").iterdir())


def test_a_change_is_on_the_server_while_the_flow_goes_on(fake: FakeServer) -> None:
    arrived: list[int] = []

    def held(number: int) -> bool:
        text = f'"message":"here I am: {number}"'.encode()
        return any(text in line for run in list(fake.runs) for line in fake.held(run))

    @flow
    def telling() -> None:
        from hpc_flows import get_run_logger

        for number in range(3):
            get_run_logger().info("here I am: %s", number)
            until(lambda: held(number))  # noqa: B023 - it is called in this turn
            arrived.append(number)

    telling()
    assert arrived == [0, 1, 2]
    # Two seconds are promised: so much is waited on purpose, the rest is work.
    assert driver._COLLECT + relay.BEAT_LIVE < 2.0


def test_heartbeats_name_the_living_run(fake: FakeServer) -> None:
    def beats() -> list[dict[str, Any]]:
        return [beat for beat in fake.beats if beat["runs"]]

    @flow
    def slow() -> None:
        until(lambda: len(beats()) >= 2)

    slow()
    assert len(beats()) >= 2
    assert beats()[-1]["mode"] == "driver"
    assert list(fake.runs) == beats()[-1]["runs"]


def test_a_server_that_is_down_neither_fails_nor_keeps_a_flow_and_is_told(
    fake: FakeServer,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # If the flow waited as for a server that answers, this test would not end.
    monkeypatch.setattr(driver, "FLUSH", 3600.0)

    def trouble() -> bool:
        told = [path.read_text() for path in home.glob("relay/status/*.json")]
        return any("does not answer" in text for text in told)

    @flow
    def until_there_is_trouble() -> int:
        until(trouble)
        return int(numbers(3))

    fake.stop()
    assert until_there_is_trouble() == 6
    told = capsys.readouterr().err
    assert f"has reached {fake.url}" in told
    assert "hpc-flows relay once" in told
    assert len(list_runs(str(home))) == 1


def test_a_long_silence_of_the_server_is_told_once_and_so_is_its_end(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "TELL_AFTER", 0.1)
    heard: list[str] = []

    def told(words: str) -> bool:
        heard.append(capsys.readouterr().err)
        return words in "".join(heard)

    @flow
    def through_a_cut() -> None:
        until(lambda: fake.lines)
        fake.failures = [Failure("", 0, times=10**6)]
        until(lambda: told("hpc-flows relay status"))
        tried = fake.failures[0].used
        until(lambda: fake.failures[0].used > tried + 1)
        fake.failures = []
        until(lambda: told("takes reports again"))

    through_a_cut()
    assert not told("Not everything")
    console = "".join(heard)
    assert console.count(f"Nothing has reached {fake.url} for") == 1
    assert console.count("takes reports again") == 1


def test_a_server_that_hangs_keeps_the_end_of_a_flow_for_five_seconds_at_most(
    fake: FakeServer,
    flush: float,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert flush == 5.0
    monkeypatch.setattr(driver, "FLUSH", 0.5)
    enough = threading.Event()

    def hang(_: bytes) -> bool:
        enough.wait(PATIENCE)
        return True

    fake.failures = [Failure("events", 200, times=10**6, when=hang)]
    try:
        assert numbers(3) == 6
        # It has gone without those that still wait for the server.
        left = [thread for thread in threading.enumerate() if "report to" in thread.name]
        assert len(left) == 1
        assert "It took too long" in capsys.readouterr().err
    finally:
        fake.failures = []
        enough.set()
    left[0].join(PATIENCE)
    assert not left[0].is_alive()


def test_a_token_that_is_none_is_told_and_fails_nothing(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HPC_FLOWS_API_KEY", "not-a-token-secret")
    assert numbers(2) == 2
    told = capsys.readouterr().err
    assert "no token of a hpc_flows server" in told
    assert "not-a-token-secret" not in told
    assert fake.requests.total() == 0


@pytest.mark.parametrize("report", ["off", "relay"])
def test_a_flow_that_shall_not_report_opens_no_connection(
    report: str, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_FLOWS_REPORT", report)
    assert numbers(2) == 2
    assert fake.requests.total() == 0


def test_a_file_gets_the_events_of_all_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home.parent / "events.jsonl"
    monkeypatch.setenv("HPC_FLOWS_REPORT_FILE", str(path))
    numbers(3)
    numbers(4)
    lines = path.read_bytes().splitlines()
    events = [decode(line) for line in lines]
    for run in list_runs(str(home)):
        assert [each for each in events if each.run == run.id] == read_run(run.path)
    assert path.stat().st_mode & 0o077 == 0


def test_what_is_asked_on_the_server_reaches_the_driver(fake: FakeServer, home: Path) -> None:
    @flow
    def waiting() -> None:
        (run,) = fake.runs or ["?"]
        fake.commands = [
            {"id": "c1", "run": run, "action": "cancel", "reason": "enough", "by": "ada"},
            {"id": "c2", "run": "../../etc", "action": "cancel", "reason": "", "by": "eve"},
        ]
        until(lambda: False)

    @flow
    def outer() -> None:
        while not fake.runs:
            time.sleep(0.05)
        waiting()

    with pytest.raises(KeyboardInterrupt):
        outer()
    (run,) = list_runs(str(home))
    assert run.state_type == "CANCELLED"
    assert "enough" in str(run.message)
    answers = dict(fake.command_answers)
    assert answers["c1"]["status"] == "delivered"
    assert "c2" not in answers  # not of this run: not this driver's to answer


CLUSTER_FLOW = """
import os, sys, time
from hpc_flows.reporting import driver
driver.FLUSH = 150.0  # a busy machine
from hpc_flows import Resources, flow, task

@task(resources=Resources(cpus=1, memory="100MB", walltime="5m"))
def speak(number):
    print("this is number", number)
    if number == 2:
        raise ValueError(number)

@flow
def speaking():
    speak.map(range(3), return_state=True)
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.1)

speaking(return_state=True)
"""


def test_scripts_output_and_the_state_of_the_cluster_come_along(
    fake: FakeServer, home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "speaking.py"
    path.write_text(CLUSTER_FLOW)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HPC_FLOWS_CLUSTER": "mock",
    }
    enough = tmp_path / "enough"
    program = [sys.executable, str(path), str(enough)]
    try:
        with subprocess.Popen(program, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                until(lambda: process.poll() is not None or _surveys(fake))
            finally:
                enough.touch()
            assert process.wait(PATIENCE) == 0
    finally:
        words = [sys.executable, "-m", "hpc_flows", "mock", "stop"]
        subprocess.run(words, env=environment, check=True, timeout=PATIENCE, capture_output=True)
    (run,) = list_runs(str(home))
    view = replay(read_run(run.path))
    (job,) = view.jobs.values()
    script = fake.attachments[run.id, "script", job.token]
    assert script == Path(run.path, "jobs", job.token, "script.sh").read_bytes()
    outputs = {key: text for (_, kind, key), text in fake.attachments.items() if kind == "output"}
    assert {view.task_runs[key].map_index for key in outputs} <= {0, 1, 2}
    failed = next(each.id for each in view.task_runs.values() if each.state_type == "FAILED")
    assert b"number" in outputs[failed]
    assert _state_of(fake, run.id) == _shown(view)
    surveys = _surveys(fake)
    assert surveys, "no heartbeat told of the cluster"
    assert surveys[-1]["error"] is None
    assert sum(row["cpus"] for row in surveys[-1]["partitions"]) > 0


def _surveys(fake: FakeServer) -> list[dict[str, Any]]:
    return [beat["clusters"]["mock"] for beat in list(fake.beats) if beat["clusters"]]


def test_nothing_of_reporting_is_loaded_when_nothing_is_configured(home: Path) -> None:
    code = (
        "import sys\nfrom hpc_flows import flow\n@flow\ndef one(): return 1\none()\n"
        "print([n for n in sys.modules if n.startswith(('hpc_flows.reporting', 'hpc_flows.client'))"
        " or n in ('http.client', 'ssl', 'socket')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HPC_FLOWS_HOME": str(home)},
    )
    assert found.stdout.strip() == "[]"
