"""Reports that are pulled through a real sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from relay_doubles import TOKEN, FakeServer, Journal
from services.sshd import Sshd

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
        timeout=150,
        check=False,
    )
    assert "600 events taken" in done.stdout, done.stdout + done.stderr
    assert fake.held(journal.run) == journal.lines()
    journal.close()
