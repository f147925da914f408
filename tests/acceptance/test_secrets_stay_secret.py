"""Secrets that a run is given are nowhere but where their owner put them (T5 of the threat model).

A flow runs with keys that are known to the test, on the mock cluster and on real Slurm, and reports
to a server. Afterwards every file of the run, of the home, of the scheduler and of the server is
searched for them, and every command line of the machine while it runs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_process import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOWS = """
import time
from hpc_flows import Resources, flow, task

@task(resources=Resources(cpus=1, memory="100MB", walltime="5m"))
def measured(n):
    print("measuring", n)
    time.sleep(1)
    if n == 2:
        raise ValueError("two is wrong")
    return n

@flow(log_prints=True)
def study(key: str = "a parameter"):
    states = [future.wait() or future.state for future in measured.map(range(3))]
    print("states", [state.name for state in states])
"""

#: What only its owner may read holds them by design.
_HOLDERS = {"profiles.toml", "token"}
_PREFECT_KEY = "pnu_canary_9f3c61aa77"
_PREFECT_LOGIN = "ada:canary_5d20cc81"


@pytest.fixture
def shell(home: Path, tmp_path: Path) -> Iterator[Shell]:
    environment = {
        "HPC_FLOWS_HOME": str(home),
        # Nobody listens there: the run goes on, and says so.
        "HPC_FLOWS_PREFECT_API_URL": "http://127.0.0.1:9/api",
        "HPC_FLOWS_PREFECT_API_KEY": _PREFECT_KEY,
        "PREFECT_API_AUTH_STRING": _PREFECT_LOGIN,
    }
    with Shell(tmp_path, environment) as shell:
        shell.write("study.py", FLOWS)
        shell.good("server", "start", "--background", "--port", "0")
        try:
            yield shell
        finally:
            shell.good("server", "stop")


def test_no_artefact_of_a_run_holds_a_secret(
    shell: Shell, home: Path, cluster: str, tmp_path: Path
) -> None:
    token = shell.json("token", "create", "reporter", "--scope", "report")["token"]
    shell.environment["HPC_FLOWS_API_KEY"] = token
    admin = (home / "server" / "token").read_text().strip()
    secrets = [token, admin, _PREFECT_KEY, _PREFECT_LOGIN]

    lines, output = _run(shell)
    shell.good("runs", "show", "latest")
    shell.good("config", "view")
    server = json.loads((home / "server" / "endpoint.json").read_text())

    assert "two is wrong" in output
    assert not [line for line in lines if any(secret in line for secret in secrets)]
    assert not any(secret in output for secret in secrets), output
    searched = [path for path in _files(home, tmp_path) if path.name not in _HOLDERS]
    assert any(path.suffix == ".jsonl" for path in searched)
    assert any(path.suffix == ".db" for path in searched), server
    for path in searched:
        content = path.read_bytes()
        found = [secret for secret in secrets if secret.encode() in content]
        assert not found, f"{path} holds {found}"
    if cluster == "slurm":
        told = subprocess.run(
            [str(shutil.which("scontrol")), "show", "jobs", "--details"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert not any(secret in told for secret in secrets)


def _run(shell: Shell) -> tuple[set[str], str]:
    """Run the flow; return all command lines that were seen meanwhile, and what it printed."""
    process = shell.start("run", "study.py:study", stderr=subprocess.STDOUT)
    lines: set[str] = set()
    while process.poll() is None:
        lines |= _command_lines()
        time.sleep(0.05)
    output, _ = process.communicate(timeout=60)
    return lines, output


def _command_lines() -> set[str]:
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found.add((folder / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:  # it has ended
                continue
    return found


def _files(*folders: Path) -> list[Path]:
    seen = {
        Path(at, name) for folder in folders for at, _, names in os.walk(folder) for name in names
    }
    return sorted(path for path in seen if path.is_file() and not path.is_symlink())
