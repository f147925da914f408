"""Flows that report through an SSH tunnel while the login node's sshd comes and goes.

The server is a real one, at a port or at a Unix socket behind the tunnel. At the end it holds what
the journals say, each event once. `HPC_FLOWS_TEST_SOAK_CUT` says for how many seconds sshd stays
away each time, if it shall be longer than the test itself needs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("fastapi", reason="the server's packages are not installed")

from relay_site import PATIENCE, LoginRelayProcess, RealServer, wait_until
from reported_state import Expected
from services.sshd import Sshd

from hpc_flows.client import Api, Client
from hpc_flows.client.errors import NOT_FOUND, ServerRefusal
from hpc_flows.journal.index import list_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.services

ROOT = Path(__file__).resolve().parents[2]

#: Read before the fixture `home` takes such names out of the environment.
AWAY = float(os.environ.get("HPC_FLOWS_TEST_SOAK_CUT", "0"))

FLOW = """
import sys, time
from pathlib import Path
from hpc_flows import Resources, flow, get_run_logger, task
from hpc_flows.artifacts import create_markdown_artifact
from hpc_flows.events import emit_event

@task
def near(number):
    get_run_logger().info("near %s", number)
    return number

@task(resources=Resources(cpus=1, memory="100MB", walltime="30m"))
def far(number, gate):
    while not Path(gate).exists():
        time.sleep(0.05)
    print("far", number)
    return number

@flow(log_prints=True)
def stepwise(gates):
    jobs = far.map(range(2), f"{gates}/0")
    for step in range(3):
        near.map(range(20)).result()
        emit_event("step.done", {"prefect.resource.id": f"step.{step}"})
        create_markdown_artifact("much " * 20_000)
        print(f"step {step}")
        while not Path(f"{gates}/{step}").exists():
            time.sleep(0.05)
    jobs.result()

if __name__ == "__main__":
    stepwise(sys.argv[1])
"""


class Tunnelled:
    """A driver whose only way to the server leads through an sshd.

    Args:
        folder: with a short path, as sockets need.
        client: `openssh` or `paramiko`.
        server: behind the tunnel.
    """

    def __init__(self, folder: Path, client: str, server: RealServer) -> None:
        self.folder = folder
        self.home = folder / "flows"
        self.server = server
        self.sshd = Sshd(folder / "sshd")
        self.sshd.start()
        self.api = Api(Client(server.url, server.token))
        (folder / "stepwise.py").write_text(FLOW)
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "XDG_RUNTIME_DIR": str(folder),
            "HPC_FLOWS_HOME": str(self.home),
            "HPC_FLOWS_REPORT": f"ssh://{self.sshd.host}/{server.target}",
            "HPC_FLOWS_API_KEY": server.token,
            "HPC_FLOWS_SSH_CONFIG": str(self.sshd.config),
            "HPC_FLOWS_SSH_CLIENT": client,
            "HPC_FLOWS_CLUSTER": "mock",
        }
        self.console = folder / "console"
        words = [sys.executable, str(folder / "stepwise.py"), str(folder)]
        with self.console.open("wb") as log:
            self.driver = subprocess.Popen(words, env=self.environment, stdout=log, stderr=log)

    def await_step(self, step: int) -> None:
        """Wait until the driver has done a step, whoever knows of it."""
        wanted = f'"message":"step {step}"'.encode()

        def is_done() -> bool:
            assert self.driver.poll() is None, self.console.read_text()
            journals = self.home.glob("runs/*/journal/driver.jsonl")
            return any(wanted in path.read_bytes() for path in journals)

        wait_until(is_done, PATIENCE, f"step {step}")

    def await_report(self, step: int) -> None:
        """Wait until the server knows that the driver has done a step."""
        self.await_step(step)
        (run,) = list_runs(str(self.home))

        def is_known() -> bool:
            try:
                found = self.api.all_logs(run=run.id)
                return any(log["message"] == f"step {step}" for log in found)
            except ServerRefusal as error:
                if error.status != NOT_FOUND:
                    raise
                return False  # not registered yet

        wait_until(is_known, PATIENCE + 2 * AWAY, f"the report of step {step}")

    def go_on(self, step: int) -> None:
        """Let the driver leave a step behind."""
        (self.folder / str(step)).touch()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `hpc-flows`."""
        return subprocess.run(
            [sys.executable, "-m", "hpc_flows", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE + 300,
            check=False,
        )

    def close(self) -> None:
        self.driver.kill()
        self.driver.wait()
        self.command("mock", "stop")
        self.api.client.close()
        self.sshd.stop()


@pytest.fixture(scope="module", params=["port", "socket"])
def server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    folder = Path(tempfile.mkdtemp(prefix="hf-far-", dir="/tmp"))
    made = RealServer(folder / "server", on_socket=request.param == "socket")
    made.start()
    yield made
    made.close()
    shutil.rmtree(folder)


@pytest.fixture
def drivers(server: RealServer) -> Iterator[list[Tunnelled]]:
    """Give a driver with each client; they run side by side, as each of them mostly waits."""
    pytest.importorskip("paramiko")
    made: list[Tunnelled] = []
    folder = Path(tempfile.mkdtemp(prefix="hf-ssh-", dir="/tmp"))
    try:
        for client in ("openssh", "paramiko"):
            own = folder / client
            own.mkdir()
            made.append(Tunnelled(own, client, server))
        yield made
    finally:
        for each in made:
            each.close()
        shutil.rmtree(folder)


@pytest.mark.timeout(6 * PATIENCE + 6 * AWAY)
def test_nothing_is_lost_or_doubled_when_sshd_is_restarted_and_then_stays_away(
    drivers: list[Tunnelled], tmp_path: Path
) -> None:
    for each in drivers:
        each.await_report(0)
        each.sshd.stop()
        each.go_on(0)
    for each in drivers:
        each.await_step(1)
    time.sleep(AWAY)
    for each in drivers:
        each.sshd.start()
    for each in drivers:
        each.await_report(1)
        each.sshd.restart()
        each.go_on(1)
    for each in drivers:
        each.await_report(2)
        each.sshd.stop()
    time.sleep(AWAY)
    for each in drivers:
        each.go_on(2)
    for each in drivers:
        assert each.driver.wait(PATIENCE) == 0, each.console.read_text()
        told = each.console.read_text()
        assert told.count("Not everything of run") == 1, told
        assert "To send it: hpc-flows relay once" in told
        expected = Expected(each.home, tmp_path / each.folder.name)
        assert expected.differences(each.server.store.url)
        each.sshd.start()
        _send_the_rest(each, expected)
        assert expected.differences(each.server.store.url) == []


def _send_the_rest(each: Tunnelled, expected: Expected) -> None:
    """Do what the console says; or what people do who have many runs: start a relay."""
    if each.server.socket:
        relay = LoginRelayProcess(each.environment)
        relay.start()
        url = each.server.store.url
        wait_until(lambda: not expected.differences(url), PATIENCE, "the rest")
        relay.kill()
    else:
        done = each.command("relay", "once")
        assert done.returncode == 0, done.stdout + done.stderr
