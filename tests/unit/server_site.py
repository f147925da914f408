"""A server for tests: users with tokens, a project, and a run that was reported to it."""

from __future__ import annotations

import asyncio
import gzip
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from cli_runs import census_run

from hpc_flows.server.access import grants, people
from hpc_flows.server.access.guard import JOURNAL
from hpc_flows.server.access.principals import Limits
from hpc_flows.server.access.rates import Rate
from hpc_flows.server.access.tokens import SCOPES
from hpc_flows.server.app import make_app
from hpc_flows.server.db import open_database
from hpc_flows.server.service import Options, Service

if TYPE_CHECKING:
    from fastapi import FastAPI

    from hpc_flows.server.db import Database

BASE = "http://127.0.0.1:4200"
API = "/api/v1"
_NEVER = Rate(1e6, 1e6)
#: No test but those of the limits shall meet one.
PATIENT = Limits(_NEVER, _NEVER, _NEVER, _NEVER)
#: The run that Ann's relay has reported, and a task run and a job of it.
RUN, TASK_RUN, TOKEN = "8c3f2a10-run", "measure-0", "hf-8c3f-1"


@dataclass
class ServerSite:
    """A server with people.

    Ann owns the run. Ben is a stranger. Cleo may read, and Dora control, what is in the project
    `lab`. Root is the admin.
    """

    database: Database
    app: FastAPI
    home: Path
    users: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def service(self) -> Service:
        service: Service = self.app.state.service
        return service

    def close(self) -> None:
        """End what the server has begun, as its application does, and close the database."""
        self.service.remover.close()
        self.service.writers.shutdown(wait=True)
        self.database.close()

    def ask(self, who: str | None, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask for a path of the API as somebody."""
        return self.request(method, API + path, who, **more)

    def request(
        self, method: str, path: str, who: str | None = None, **more: Any
    ) -> httpx.Response:
        """Send a request to the application, within this process."""
        own = {"authorization": f"Bearer {self.tokens[who]}"} if who else {}
        headers = {**own, **more.pop("headers", {})}

        async def asked() -> httpx.Response:
            way = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=way, base_url=BASE) as client:
                return await client.request(method, path, headers=headers, **more)

        return asyncio.run(asked())

    def token(self, who: str, *scopes: str, **more: Any) -> str:
        """Return a new token of somebody's."""
        with self.database.writing() as connection:
            wish = grants.Wish(self.users[who], "test", scopes or SCOPES, **more)
            return grants.make(connection, wish).text

    def send(self, who: str, run: str, lines: bytes, **headers: str) -> httpx.Response:
        """Send events as a relay does."""
        head = {"content-type": JOURNAL, "content-encoding": "gzip", **headers}
        path = f"/runs/{run}/events"
        return self.ask(who, "POST", path, content=gzip.compress(lines), headers=head)

    def report(self, who: str, home: Path, run_id: str = RUN, **meta: Any) -> None:
        """Write a run and report all of it."""
        run = census_run(home, run_id=run_id, **meta)
        about = {"host": "login1", "created": 1_700_000_000.0, "name": run.name, "flow": "census"}
        assert self.ask(who, "PUT", f"/runs/{run_id}", json=about).status_code == 200
        lines = b"".join(path.read_bytes() for path in Path(run.folder, "journal").iterdir())
        assert self.send(who, run_id, lines).json()["taken"] > 0


def make_site(folder: Path, url: str | None = None, **options: Any) -> ServerSite:
    """Return a server over a new database, with people and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    database = open_database(url or f"sqlite:///{folder}/server.db")
    database.migrate()
    limits = options.pop("limits", PATIENT)
    app = make_app(database, Options(url=BASE, limits=limits, **options))
    site = ServerSite(database, app, folder)
    with database.writing() as connection:
        for name in ("ann", "ben", "cleo", "dora", "root"):
            site.users[name] = people.make_user(connection, name, is_admin=name == "root")
        lab = people.make_project(connection, "lab")
        people.set_member(connection, lab, site.users["ann"], "read")
        people.set_member(connection, lab, site.users["cleo"], "read")
        people.set_member(connection, lab, site.users["dora"], "control")
    for name in site.users:
        site.tokens[name] = site.token(name)
    return site


def share(site: ServerSite, run: str = RUN) -> None:
    """Put a run of Ann's into the project `lab`."""
    answer = site.ask("ann", "PUT", f"/flow-runs/{run}/project", json={"project": "lab"})
    assert answer.status_code == 204, answer.text


def past() -> float:
    """Return a time that has been."""
    return time.time() - 1
