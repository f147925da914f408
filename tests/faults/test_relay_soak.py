"""A soak: real flows, real relays, a real server, and everything between them fails in turn.

At the end the server shows what the journals say: each flow run, each task run with its state,
times and attempt, and every log record, once.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from relay_site import LoginRelayProcess, Network, RealServer, wait_until

from hpc_flows.client import Api, Client, ClientError
from hpc_flows.journal.index import list_runs
from hpc_flows.journal.reader import read_run
from hpc_flows.journal.replay import replay

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("fastapi", reason="the server's packages are not installed")

ROOT = Path(__file__).resolve().parents[2]

#: Seconds for which things go wrong.
SECONDS = 20.0
#: How many things must have gone wrong.
_LEAST = 6

FLOW = """
import random, sys, time
from hpc_flows import Resources, flow, get_run_logger, task

@task(retries=1)
def work(number):
    get_run_logger().info("at %s", number)
    time.sleep(random.random() / 20)
    if number % 7 == 3:
        raise ValueError(number)
    return number

@task(resources=Resources(cpus=1, memory="100MB", walltime="5m"))
def far(number):
    print("far away", number)
    return number

@flow
def inner(count):
    return [state.name for state in work.map(range(count), return_state=True)]

@flow(log_prints=True)
def outer(count, there):
    if there:
        far.map(range(4)).result()
    for _ in range(3):
        inner(count)
        print("a line")

outer(int(sys.argv[1]), sys.argv[2] == "far")
"""


class Site:
    """All that takes part in the soak."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "flows"
        self.server = RealServer(folder / "server")
        self.server.start()
        self.network = Network(self.server.port)
        (folder / "soak_flow.py").write_text(FLOW)
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "HPC_FLOWS_HOME": str(self.home),
            "HPC_FLOWS_API_URL": self.network.url,
            "HPC_FLOWS_API_KEY": self.server.token,
            "HPC_FLOWS_CLUSTER": "mock",
        }
        self.relay = LoginRelayProcess(self.environment | {"HPC_FLOWS_REPORT": "relay"})
        self.api = Api(Client(f"http://127.0.0.1:{self.server.port}", self.server.token))
        self.flows: list[subprocess.Popen[bytes]] = []

    def start_flow(self, count: int, where: str, report: str) -> None:
        words = [sys.executable, str(self.folder / "soak_flow.py"), str(count), where]
        environment = self.environment | {"HPC_FLOWS_REPORT": report}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.flows.append(subprocess.Popen(words, env=environment, **quiet))  # type: ignore[call-overload]

    def close(self) -> None:
        self.relay.kill()
        for process in self.flows:
            process.kill()
            process.wait()
        self.api.client.close()
        self.network.close()
        self.server.close()
        words = [sys.executable, "-m", "hpc_flows", "mock", "stop"]
        subprocess.run(words, env=self.environment, capture_output=True, check=False)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def misfortunes(site: Site, chance: random.Random, ends: threading.Event, done: list[str]) -> None:
    """Let things go wrong, one after the other, until it is time; note what it was."""
    copy = site.folder / "copy.db"

    def cut() -> None:
        site.network.cut()
        ends.wait(chance.uniform(0.3, 2.0))
        site.network.mend()

    def kill_server() -> None:
        site.server.kill()
        ends.wait(chance.uniform(0.0, 1.0))
        site.server.start()

    def restore() -> None:
        site.server.kill()
        site.server.put_back(copy)
        site.server.start()

    def kill_relay() -> None:
        site.relay.kill()
        site.relay.start()

    site.server.copy(copy)
    # Each at least once, then by chance.
    row = [kill_relay, cut, restore, kill_relay, kill_server, restore]
    while not ends.is_set():
        ends.wait(chance.uniform(0.3, 1.5))
        what = row.pop(0) if row else chance.choice([cut, kill_server, restore, kill_relay])
        what()
        done.append(what.__name__)
        if chance.random() < 0.4:
            site.server.copy(copy)


@pytest.mark.timeout(300)
def test_after_every_misfortune_the_server_shows_what_the_journals_say(site: Site) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    site.relay.start()
    ends = threading.Event()
    done: list[str] = []
    trouble = threading.Thread(target=misfortunes, args=(site, chance, ends, done))
    began = time.monotonic()
    site.start_flow(2, "far", "auto")
    trouble.start()
    while time.monotonic() - began < SECONDS or len(done) < _LEAST:
        assert time.monotonic() - began < 120, done
        site.start_flow(chance.randrange(5, 60), "here", chance.choice(["auto", "relay"]))
        time.sleep(chance.uniform(0.5, 2.5))
    for process in site.flows:
        process.wait(60)
    ends.set()
    trouble.join(30)
    site.relay.kill()
    site.relay.start()
    runs = list_runs(str(site.home))
    assert len(runs) == len(site.flows)
    assert {run.state_type for run in runs} == {"COMPLETED"}
    told = f"seed {seed}, {len(runs)} runs, {done}"
    wait_until(lambda: _differences(site, runs) == [], 90, told)


def _differences(site: Site, runs: list[Any]) -> list[str]:
    try:
        found = [text for run in runs for text in _different(site.api, run)]
    except ClientError as error:
        return [str(error)]
    print(len(found), found[:3])  # noqa: T201 - pytest shows it where the test fails
    return found


def _different(api: Api, run: Any) -> Iterator[str]:
    view = replay(read_run(run.path), log_limit=None)
    rows = {row["id"]: row for row in api.every("/flow-runs", parent="any")}
    for flow_run in view.flow_runs.values():
        yield from _unlike(flow_run, rows.get(flow_run.id))
        there = {row["id"]: row for row in api.every("/task-runs", flow_run=flow_run.id)}
        mine = [each for each in view.task_runs.values() if each.flow_run_id == flow_run.id]
        if set(there) != {each.id for each in mine}:
            yield f"{flow_run.id}: {len(there)} task runs, not {len(mine)}"
        for task_run in mine:
            yield from _unlike(task_run, there.get(task_run.id))
    logs = list(api.all_logs(run=run.id))
    if sorted(log["message"] for log in logs) != sorted(_messages(view)):
        yield f"{run.id}: {len(logs)} log records, not {len(_messages(view))}"


def _messages(view: Any) -> list[str]:
    return [str(log.data["message"]) for log in view.logs]


def _unlike(view: Any, row: Any) -> Iterator[str]:
    if row is None:
        yield f"{view.id} is missing"
        return
    for name in ("name", "state_type", "state_name", "attempt", "started", "ended"):
        mine, theirs = getattr(view, name), row[name]
        same = mine == theirs or (
            isinstance(mine, float) and mine == pytest.approx(theirs, abs=1e-3)
        )
        if not same:
            yield f"{view.id}: {name} is {theirs!r}, not {mine!r}"
