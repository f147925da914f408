"""A real server that several tests look at, because what is in it takes long to make."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from browsing import Site
from made_run import about, journal

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("run_flows.py")
#: Bytes of journal that are sent at once, well below the server's limit.
BATCH = 8 << 20


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return this process's environment with a home of its own and no other settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HPC_FLOWS_")}
    return {**kept, "HPC_FLOWS_HOME": str(home), **more}


@contextmanager
def started(home: Path) -> Iterator[Site]:
    """Start a server with a home, on a free port of loopback, and end it."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    command = [sys.executable, "-m", "hpc_flows", "server", "start"]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0"],
            env=environment(home),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            endpoint = home / "server" / "endpoint.json"
            until = time.monotonic() + 150
            while not endpoint.exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            url = json.loads(endpoint.read_text())["url"].rstrip("/")
            yield Site(url, (home / "server" / "token").read_text().strip(), home)
        finally:
            process.terminate()
            process.wait(60)


def run_everything(home: Path) -> Path:
    """Run run_flows.py with jobs on a mock cluster, and return its run's folder."""
    there = environment(home, HPC_FLOWS_CLUSTER="mock", HPC_FLOWS_REPORT="off")
    try:
        subprocess.run(
            [sys.executable, str(PROGRAM)], env=there, check=True, capture_output=True, timeout=300
        )
    finally:
        stop = [sys.executable, "-m", "hpc_flows.mock_cluster", "stop", "--home", str(home)]
        subprocess.run(stop, env=there, capture_output=True, timeout=60, check=False)
    (folder,) = (home / "runs").iterdir()
    return folder


def send_made(site: Site, run: str, count: int) -> None:
    """Report a made run with so many task runs through the server's ingest."""
    site.call("PUT", f"runs/{run}", about(run))
    batch = bytearray()
    for line in journal(run, count):
        batch += line
        if len(batch) > BATCH:
            _send(site, run, bytes(batch))
            batch.clear()
    _send(site, run, bytes(batch))


def _send(site: Site, run: str, lines: bytes) -> None:
    kind = "application/vnd.hpc-flows.journal"
    site.call(
        "POST",
        f"runs/{run}/events",
        gzip.compress(lines, 1),
        Content_Type=kind,
        Content_Encoding="gzip",
    )
