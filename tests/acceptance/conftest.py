"""Acceptance tests run a user's script in a process of its own and look at its end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Script = "Callable[..., subprocess.CompletedProcess[str]]"


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Write a script into a folder of the test and run it, as a user would."""
    folder = tmp_path / "project"
    folder.mkdir(exist_ok=True)

    def run(
        source: str, *args: str, timeout: float = 150, **env: str
    ) -> subprocess.CompletedProcess[str]:
        path = folder / "script.py"
        path.write_text(textwrap.dedent(source))
        return subprocess.run(
            [sys.executable, str(path), *args],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=folder,
            env={**os.environ, **env},
            check=False,
        )

    return run


@pytest.fixture
def mock_cluster(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make the shipped mock cluster the active one; it starts by itself and is stopped here."""
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "mock")
    yield "mock"
    stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(home)]
    subprocess.run(stop, capture_output=True, timeout=60, check=False)


@pytest.fixture(params=["mock", pytest.param("slurm", marks=pytest.mark.slurm)])
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test once on the mock cluster and once on the real Slurm of the test site."""
    if request.param == "mock":
        return str(request.getfixturevalue("mock_cluster"))
    request.getfixturevalue("slurm_site")
    monkeypatch.setenv("HPC_FLOWS_CLUSTER", "generic_slurm")
    return "slurm"
