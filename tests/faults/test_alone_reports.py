"""Tasks that are called outside of flows are reported by their own process, as flows are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from relay_doubles import TOKEN, FakeServer
from relay_site import PATIENCE, RealServer, wait_until

from hpc_flows import flow, task
from hpc_flows.journal.index import list_runs
from hpc_flows.reporting import alone, driver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
from hpc_flows import task
from hpc_flows.reporting import driver

driver.FLUSH = {flush}

@task
def double(number):
    return 2 * number

@task
def fail():
    raise ValueError("no such number")

assert double(21) == 42
assert double.submit(1).result() == 2
assert double.map([1, 2, 3]).result() == [2, 4, 6]
try:
    fail()
except ValueError:
    pass
"""


@task
def double(number: int) -> int:
    return 2 * number


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setattr(driver, "FLUSH", PATIENCE)
    server = FakeServer().start()
    monkeypatch.setenv("HPC_FLOWS_API_URL", server.url)
    monkeypatch.setenv("HPC_FLOWS_API_KEY", TOKEN)
    yield server
    alone._end_all(os.getpid())
    server.stop()


def until(done: Callable[[], bool]) -> None:
    wait_until(done, PATIENCE, "what was to be reported")


def run(program: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    own = {"PYTHONPATH": str(ROOT), "HPC_FLOWS_HOME": str(home), **more}
    return subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": "/usr/bin:/bin", **own},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def asked(server: RealServer, path: str) -> Any:
    own = {"Authorization": f"Bearer {server.token}"}
    return httpx.get(f"{server.url}/api/v1{path}", headers=own, timeout=PATIENCE).json()


def test_a_real_server_has_all_when_the_program_has_ended(tmp_path: Path) -> None:
    server = RealServer(tmp_path / "server")
    server.start()
    try:
        named = {"HPC_FLOWS_API_URL": server.url, "HPC_FLOWS_API_KEY": server.token}
        done = run(PROGRAM.format(flush=PATIENCE), tmp_path / "home", **named)
        assert done.returncode == 0, done.stderr
        assert "Not everything" not in done.stderr
        found = []
        for each in list_runs(str(tmp_path / "home")):
            found += asked(server, f"/task-runs?run={each.id}")["items"]
        states = sorted((item["task"], item["state_name"]) for item in found)
        assert states == [("double", "Completed")] * 5 + [("fail", "Failed")]
    finally:
        server.close()


def test_a_task_is_reported_while_the_program_goes_on_and_then_forgotten(
    fake: FakeServer, home: Path
) -> None:
    for number in range(3):
        double(number)
    until(lambda: len(fake.runs) == 3)
    for each in list_runs(str(home)):
        lines = Path(each.path, "journal", "driver.jsonl").read_bytes().splitlines()
        until(lambda id_=each.id, lines=lines: sorted(fake.held(id_)) == sorted(lines))
    (reporting,) = [each for each in alone._reportings.values() if each is not None]
    until(lambda: not any(len(thread.runs) for thread in reporting._threads))
    claims = home / "relay" / "server-i1" / "claims"
    until(lambda: not list(claims.glob("*/lease")))
    double(9)  # by the thread that is there
    until(lambda: len(fake.runs) == 4)
    assert [each for each in alone._reportings.values() if each is not None] == [reporting]


def test_within_a_flow_nothing_is_reported_twice(fake: FakeServer) -> None:
    @flow
    def both() -> int:
        return double(1) + double.submit(2).result()

    assert both() == 6
    assert len(fake.runs) == 1
    assert not alone._reportings


@pytest.mark.parametrize("report", ["off", "relay"])
def test_nothing_is_begun_where_the_settings_leave_it_to_others(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch, report: str
) -> None:
    monkeypatch.setenv("HPC_FLOWS_REPORT", report)
    double(1)
    assert not alone._reportings
    assert not fake.requests


def test_a_program_ends_soon_and_well_though_no_server_answers(tmp_path: Path) -> None:
    nobody = {"HPC_FLOWS_API_URL": "http://127.0.0.1:9", "HPC_FLOWS_API_KEY": TOKEN}
    done = run(PROGRAM.format(flush=5), tmp_path / "home", **nobody)
    assert done.returncode == 0, done.stderr
    assert "Not everything of 4 runs has reached http://127.0.0.1:9" in done.stderr
    assert "hpc-flows relay once" in done.stderr


def test_reports_that_cannot_begin_are_told_once_and_no_task_fails(
    fake: FakeServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpc_flows.exceptions import HpcFlowsError

    def fail(_settings: object) -> None:
        raise HpcFlowsError("The token's file is open to others.")

    monkeypatch.setattr(alone, "configured", fail)
    assert [double(number) for number in range(3)] == [0, 2, 4]
    assert capfd.readouterr().err.count("is open to others") == 1
    assert not fake.requests
