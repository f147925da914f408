"""A soak: real flows, real relays, a real server, and everything between them fails in turn.

At the end the server's database holds what the journals say: flow runs, task runs, jobs, log
records, users' events, artifacts and attachments, each once.

It is short unless the environment says otherwise:

* `HPC_FLOWS_TEST_SOAK_SECONDS`: for how long things go wrong;
* `HPC_FLOWS_TEST_SOAK_CUT`: the longest cut of the network, in seconds;
* `HPC_FLOWS_TEST_SOAK_DATABASE`: `sqlite`, `postgresql`, or both with a comma between;
* `HPC_FLOWS_TEST_SOAK_SEED`: the number that a run that failed has told.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("fastapi", reason="the server's packages are not installed")

from bad_network import CUTS, Network
from relay_site import LoginRelayProcess, PostgresStore, RealServer, SqliteStore, wait_until
from reported_state import Expected

from hpc_flows.client import Client, ClientError
from hpc_flows.journal.index import list_runs
from hpc_flows.reporting.server_sink import JOURNAL_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]

#: Read before the fixture `home` takes such names out of the environment.
SECONDS = float(os.environ.get("HPC_FLOWS_TEST_SOAK_SECONDS", "5"))
CUT = float(os.environ.get("HPC_FLOWS_TEST_SOAK_CUT", "1.5"))
DATABASES = os.environ.get("HPC_FLOWS_TEST_SOAK_DATABASE", "sqlite,postgresql").split(",")
SEED = int(os.environ.get("HPC_FLOWS_TEST_SOAK_SEED", "0"))

#: Seconds below which not every kind of cut has its turn.
_SHORT = 60.0
#: Seconds that one misfortune, or the last flow, may take on a busy machine.
_PATIENCE = 300.0

FLOW = """
import random, sys, time
from hpc_flows import Resources, flow, get_run_logger, task
from hpc_flows.artifacts import (
    create_markdown_artifact, create_progress_artifact, update_progress_artifact,
)
from hpc_flows.events import emit_event

@task(retries=1)
def work(number):
    get_run_logger().info("at %s", number)
    time.sleep(random.random() / 20)
    emit_event("work.done", {"prefect.resource.id": f"number.{number}"})
    if number % 7 == 3:
        raise ValueError(number)
    return number

@task(resources=Resources(cpus=1, memory="100MB", walltime="30m"))
def far(number):
    print("far away", number)
    return number

@flow
def inner(count):
    create_markdown_artifact(f"# {count}", key="small")
    create_markdown_artifact("much " * 20_000, key="large")
    return [state.name for state in work.map(range(count), return_state=True)]

@flow(log_prints=True)
def outer(count, there):
    progress = create_progress_artifact(0.0)
    if there:
        far.map(range(4)).result()
    for round in range(3):
        inner(count)
        update_progress_artifact(progress, 30.0 * (round + 1))
        print("a line")

outer(int(sys.argv[1]), sys.argv[2] == "far")
"""


class Site:
    """All that takes part in the soak."""

    def __init__(self, folder: Path, server: RealServer) -> None:
        self.folder = folder
        self.home = folder / "flows"
        self.server = server
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
        self.flows: list[subprocess.Popen[bytes]] = []

    def start_flow(self, count: int, where: str, report: str) -> None:
        words = [sys.executable, str(self.folder / "soak_flow.py"), str(count), where]
        environment = self.environment | {"HPC_FLOWS_REPORT": report}
        with (self.folder / f"flow-{len(self.flows)}.log").open("wb") as log:
            self.flows.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))

    def close(self) -> None:
        self.relay.kill()
        for process in self.flows:
            process.kill()
            process.wait()
        self.network.close()
        self.server.close()
        words = [sys.executable, "-m", "hpc_flows", "mock", "stop"]
        subprocess.run(words, env=self.environment, capture_output=True, check=False)


@pytest.fixture(
    params=[
        name if name == "sqlite" else pytest.param(name, marks=pytest.mark.services)
        for name in DATABASES
    ]
)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    stores: dict[str, Callable[[], SqliteStore | PostgresStore]] = {
        "sqlite": lambda: SqliteStore(tmp_path / "server"),
        "postgresql": lambda: PostgresStore(request.getfixturevalue("postgresql")),
    }
    made = Site(tmp_path, RealServer(tmp_path / "server", stores[request.param]()))
    yield made
    made.close()


class Misfortunes(threading.Thread):
    """Lets things go wrong, one after the other, until it is time; notes what it was."""

    def __init__(self, site: Site, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.done: list[str] = []
        self.ends = threading.Event()
        self.error: BaseException | None = None
        self._site, self._chance = site, chance
        self._copy = site.folder / "copy.db"
        self._cuts = chance.sample(CUTS, len(CUTS))
        self._began = time.monotonic()

    def run(self) -> None:
        """Each at least once, then by chance."""
        chance = self._chance
        row = [self.cut, self.kill_relay, self.restore, self.tell_twice, self.cut, self.kill_server]
        row += [self.cut, self.restore, self.cut] if SECONDS > _SHORT else []
        row += [self.take_database_away] * isinstance(self._site.server.store, PostgresStore)
        try:
            self._site.server.copy(self._copy)
            while row or not self.ends.is_set():
                self._wait(0.2, 1.0)
                what = row.pop(0) if row else chance.choice(self._all())
                what()
                if chance.random() < 0.4:
                    self._site.server.copy(self._copy)
        except BaseException as error:  # noqa: BLE001 - told where the test waits
            self.error = error

    def _all(self) -> list[Callable[[], None]]:
        often = [self.kill_server, self.restore, self.kill_relay, self.tell_twice]
        return [*often, self.cut, self.delay]

    def cut(self) -> None:
        """Cut the network, each time in another way, with the server killed now and then."""
        how = self._cuts.pop(0)
        self._cuts.append(how)
        seconds = self._chance.uniform(0.6 * CUT, CUT)
        self._site.network.cut(how)
        time.sleep(seconds)
        if self._chance.random() < 0.3:
            self.kill_server()
        self._site.network.mend()
        self._note(f"cut, {how}, {seconds:.0f} s")

    def delay(self) -> None:
        """Let everything be slow for a while."""
        self._site.network.delay = self._chance.uniform(0.02, 0.3)
        self._wait(0.5, 3.0)
        self._site.network.delay = 0.0
        self._note("delay")

    def kill_server(self) -> None:
        """Kill the server, and start it again."""
        self._site.server.kill()
        self._wait(0.0, 0.7)
        self._site.server.start()
        self._note("kill server")

    def take_database_away(self) -> None:
        """Take PostgreSQL away from the server for a moment."""
        store = self._site.server.store
        assert isinstance(store, PostgresStore)
        store.be_there(for_anybody=False)
        self._wait(0.2, 2.0)
        store.be_there(for_anybody=True)
        self._note("take database away")

    def restore(self) -> None:
        """Put the server back to an older copy of its database."""
        self._site.server.kill()
        self._site.server.put_back(self._copy)
        self._site.server.start()
        self._note("restore")

    def kill_relay(self) -> None:
        """Kill the relay, and start it again."""
        used = self._site.relay.used()
        self._site.relay.kill()
        self._site.relay.start()
        self._note(f"kill relay, {used.cpu:.1f} s CPU, {used.most / 2**20:.0f} MiB at most")

    def tell_twice(self) -> None:
        """Bring some lines of journals once more, or earlier than others do, in any order."""
        server, chance = self._site.server, self._chance
        journals = sorted(self._site.home.glob("runs/*/journal/*.jsonl"))
        told = 0
        with Client(f"http://127.0.0.1:{server.port}", server.token) as client:
            for path in chance.sample(journals, min(len(journals), 20)):
                written = path.read_bytes().splitlines(keepends=True)
                lines = [line for line in written if line.endswith(b"\n")]
                some = chance.choices(lines, k=min(len(lines), 100)) if lines else []
                told += self._told(client, path.parent.parent.name, some)
        self._note(f"tell twice {told} lines")

    def _told(self, client: Client, run: str, lines: list[bytes]) -> int:
        if not lines:
            return 0
        headers = {"Content-Type": JOURNAL_TYPE}
        try:
            client.request("POST", f"/runs/{run}/events", b"".join(lines), headers=headers)
        except ClientError:  # not registered yet
            return 0
        return len(lines)

    def _wait(self, least: float, most: float) -> None:
        self.ends.wait(self._chance.uniform(least, most))

    def _note(self, what: str) -> None:
        self.done.append(what)
        told = f"{time.monotonic() - self._began:7.1f} s: {what}\n"
        with (self._site.folder / "misfortunes.log").open("a") as log:
            log.write(told)


@pytest.mark.timeout(4 * SECONDS + 4 * _PATIENCE)
def test_after_every_misfortune_the_server_shows_what_the_journals_say(site: Site) -> None:
    seed = SEED or random.randrange(1, 10**6)
    chance = random.Random(seed)
    site.relay.start()
    trouble = Misfortunes(site, random.Random(chance.random()))
    site.start_flow(2, "far", "auto")
    trouble.start()
    began = time.monotonic()
    pause = max(1.0, SECONDS / 90)
    while (left := SECONDS + began - time.monotonic()) > 0:
        where = chance.choice(["here", "here", "here", "far"])
        report = chance.choice(["auto", "relay"])
        site.start_flow(chance.randrange(3, 40), where, report)
        time.sleep(min(left, chance.uniform(0.7, 2.5) * pause))
    trouble.ends.set()
    trouble.join(_PATIENCE + CUT * len(CUTS))
    assert trouble.error is None, trouble.error
    assert not trouble.is_alive(), trouble.done
    for process in site.flows:
        assert process.wait(_PATIENCE) == 0
    over = time.monotonic()
    runs = list_runs(str(site.home))
    assert len(runs) == len(site.flows)
    assert {run.state_type for run in runs} == {"COMPLETED"}
    expected = Expected(site.home, site.folder)
    told = f"seed {seed}, {expected.sizes()}, {Counter(trouble.done)}"
    _await_agreement(site, expected, told)
    used = site.relay.used()
    took = f"agreed {time.monotonic() - over:.1f} s after the last; relay: {used}"
    print(f"{told}; {took}")  # noqa: T201 - pytest -s shows it


def _await_agreement(site: Site, expected: Expected, told: str) -> None:
    found: list[str] = []

    def agrees() -> bool:
        found[:] = expected.differences(site.server.store.url)
        return not found

    try:
        wait_until(agrees, _PATIENCE, told)
    finally:
        print("\n".join(found))  # noqa: T201 - pytest shows it where the test fails
