"""Fixtures that every test may use."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

#: The real Slurm of `make test` (the fixture `slurm_site`) and the real services (such as
#: `postgresql_url`), and what becomes of tests where these are missing.
pytest_plugins = ["slurm_site.fixtures", "services.fixtures"]


# A shell that starts the tests with `&` has them ignore Ctrl-C, and the programs that they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test an empty HPC_FLOWS_HOME of its own, and no settings from outside."""
    import os

    for name in list(os.environ):
        if name.startswith(("HPC_FLOWS_", "PREFECT_", "SBATCH_", "SQUEUE_", "SACCT_")):
            monkeypatch.delenv(name)
    folder = tmp_path / "hpc_flows_home"
    monkeypatch.setenv("HPC_FLOWS_HOME", str(folder))
    return folder
