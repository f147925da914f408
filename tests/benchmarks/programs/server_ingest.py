"""Send the journals of 50 runs to our server over HTTP, as 50 relays at once; print the rate.

Usage: server_ingest.py DATABASE EVENTS, where DATABASE is `sqlite` or `postgresql`. The lines are
made and compressed before, the server is a process of its own, and the last line has
`per_event` (seconds), `rate` (events a second) and `server_cpu` (seconds of its CPU an event).
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.programs.server_databases import database_url
from tests.benchmarks.server_stock import EVENTS_OF_TASK, Story

if TYPE_CHECKING:
    from collections.abc import Iterator

RELAYS = 50


def main() -> None:
    kind, events = sys.argv[1], int(sys.argv[2])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-server-")))
        url = database_url(kind, folder, stack)
        tasks = max(1, events // RELAYS // EVENTS_OF_TASK)
        bodies = {run: compressed(run, tasks) for run in (str(uuid.uuid4()) for _ in range(RELAYS))}
        server = stack.enter_context(running(url, folder))
        seconds, taken = send_all(server["port"], server["token"], bodies)
        cpu = cpu_of(server["pid"])
    figures = {"per_event": seconds / taken, "rate": taken / seconds, "server_cpu": cpu / taken}
    print(json.dumps(figures))


def compressed(run: str, tasks: int) -> list[bytes]:
    seed = int(uuid.UUID(run)) % 2**32
    return [gzip.compress(body, 6) for body in Story(run, tasks, seed).batches()]


@contextmanager
def running(url: str, folder: Path) -> Iterator[dict[str, Any]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = folder / "home"
    argv = [sys.executable, "-m", "hpc_flows", "server", "start", "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--database", url]
    with (folder / "server.log").open("wb") as log:
        child = subprocess.Popen(
            argv,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "HPC_FLOWS_HOME": str(home)},
        )
    try:
        wait_for(child, port, folder / "server.log")
        token = (home / "server" / "token").read_text().strip()
        yield {"port": port, "token": token, "pid": child.pid}
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and child.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/api/v1/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"the server does not answer: {log.read_text(errors='replace')[-800:]}")


def send_all(port: int, token: str, bodies: dict[str, list[bytes]]) -> tuple[float, int]:
    """Let each run's relay send its batches in order; return the seconds and the events."""
    taken: list[int] = []
    failures: list[str] = []
    gate = threading.Barrier(len(bodies) + 1)

    def relay(run: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        about = json.dumps({"id": run, "created": time.time(), "user": "bench"}).encode()
        try:
            ask(connection, "PUT", f"/api/v1/runs/{run}", token, about, "application/json")
            gate.wait()
            for body in bodies[run]:
                kind = "application/vnd.hpc-flows.journal"
                path = f"/api/v1/runs/{run}/events"
                answer = ask(connection, "POST", path, token, body, kind)
                taken.append(answer["taken"])
        except (OSError, RuntimeError, threading.BrokenBarrierError) as error:
            failures.append(repr(error))
            gate.abort()

    threads = [threading.Thread(target=relay, args=(run,)) for run in bodies]
    for thread in threads:
        thread.start()
    try:
        gate.wait()
    except threading.BrokenBarrierError:
        sys.exit(f"a relay failed: {failures[:1]}")
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if failures:
        sys.exit(f"{len(failures)} relays failed: {failures[0]}")
    return seconds, sum(taken)


def ask(  # a request has as many parts
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    token: str,
    body: bytes,
    kind: str,
) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    if kind.endswith("journal"):
        headers["Content-Encoding"] = "gzip"
    while True:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status in (429, 503):
            time.sleep(float(response.headers.get("Retry-After", 1)))
            continue
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {content[:300]!r}")
        found: dict[str, Any] = json.loads(content)
        return found


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


main()
