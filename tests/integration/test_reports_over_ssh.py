"""Reports through a real sshd: by both clients, with restarts of sshd in mid-run, and pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from relay_doubles import TOKEN, FakeServer, Journal
from services.sshd import Sshd

from hpc_flows import flow, task
from hpc_flows.journal.index import list_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.services
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer().start()
    yield server
    server.stop()


@pytest.fixture
def sshd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """Give an sshd in a folder with a short path, as sockets need."""
    folder = Path(tempfile.mkdtemp(prefix="hf-ssh-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    with Sshd(folder / "sshd") as server:
        monkeypatch.setenv("HPC_FLOWS_SSH_CONFIG", str(server.config))
        yield server
    shutil.rmtree(folder)


@task
def wait_a_little(number: int) -> int:
    time.sleep(0.2)
    return number


@flow
def patient() -> int:
    return sum(wait_a_little(number) for number in range(25))


def _journalled(home: Path) -> set[bytes]:
    (run,) = list_runs(str(home))
    return set(Path(run.path, "journal", "driver.jsonl").read_bytes().splitlines())


@pytest.mark.parametrize("client", ["openssh", "paramiko"])
def test_nothing_is_lost_when_sshd_is_restarted_in_mid_run(
    client: str, fake: FakeServer, sshd: Sshd, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if client == "paramiko":
        pytest.importorskip("paramiko")
    monkeypatch.setenv("HPC_FLOWS_REPORT", f"ssh://{sshd.host}/127.0.0.1:{fake.port}")
    monkeypatch.setenv("HPC_FLOWS_SSH_CLIENT", client)
    monkeypatch.setenv("HPC_FLOWS_API_KEY", TOKEN)
    seen: list[int] = []

    def misfortune() -> None:
        time.sleep(2.0)
        seen.append(fake.lines)
        sshd.stop()
        time.sleep(0.5)
        sshd.start()

    trouble = threading.Thread(target=misfortune)
    trouble.start()
    assert patient() == 300
    trouble.join()
    assert seen[0] > 0, "nothing had come through the tunnel before sshd was restarted"
    (run,) = list_runs(str(home))
    if fake.held(run.id) != _journalled(home):  # the tunnel may be dialled again a little later
        words = [sys.executable, "-m", "hpc_flows", "relay", "once"]
        subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=60)
    assert fake.held(run.id) == _journalled(home)


def test_a_laptop_pulls_over_ssh(
    fake: FakeServer, sshd: Sshd, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(home)
    journal.write(600)
    wrapper = tmp_path / "hpc-flows"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m hpc_flows "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("HPC_FLOWS_API_URL", fake.url)
    monkeypatch.setenv("HPC_FLOWS_API_KEY", TOKEN)
    monkeypatch.setenv("HPC_FLOWS_HOME", str(tmp_path / "laptop"))
    words = ["relay", "pull", f"ssh://{sshd.host}", "--once", "--home", str(home)]
    done = subprocess.run(
        [sys.executable, "-m", "hpc_flows", *words, "--remote-command", str(wrapper)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "600 events taken" in done.stdout, done.stdout + done.stderr
    assert fake.held(journal.run) == journal.lines()
    journal.close()
