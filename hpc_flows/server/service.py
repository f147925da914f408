"""What the routes of one application share: the database, who may do what, the live stream."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import Response

from hpc_flows.server.access.principals import Access, Limits
from hpc_flows.server.answers import Answers
from hpc_flows.server.db.opening import Database  # noqa: TC001 - dataclass fields are read
from hpc_flows.server.ingest import Ingest
from hpc_flows.server.problems import encode
from hpc_flows.server.queries import overview
from hpc_flows.server.relays import Relays
from hpc_flows.server.removing import Remover
from hpc_flows.server.streaming import Hub

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpc_flows.server.db.sight import Sight


#: Threads that take events: more than SQLite needs, enough for PostgreSQL.
_WRITERS = 8


@dataclass(frozen=True, slots=True)
class Options:
    """How an application behaves.

    Attributes:
        hosts: names by which it may be called, besides this machine's own loopback names.
        any_address: whether it may be called by any IP address.
        public_url: where browsers see it, when a proxy before it has another address.
        prefix: the path that a proxy puts before ours, such as `/node/c12/4200`.
        url: what a login link begins with when there is no `public_url`.
        tls: whether browsers reach it over TLS: cookies are then sent over nothing else.
        limits: how often one may ask.
        retention_days: days after which runs that have ended are removed; None for never.
    """

    hosts: Sequence[str] = ()
    any_address: bool = False
    public_url: str | None = None
    prefix: str = ""
    url: str = ""
    tls: bool = False
    limits: Limits = field(default_factory=Limits)
    retention_days: int | None = None


class Service:
    """One start of the server.

    Attributes:
        database: where everything is kept.
        options: how it behaves.
        instance: the database's name for itself.
        epoch: a random name of this start; relays look what is missing when it changes.
        access: tells who asks.
        ingest: takes what relays send.
        relays: knows which relay was heard when.
        hub: the live stream.
        answers: what costs much to compute, for as long as it holds.
        remover: deletes the rows of runs that were removed.
        writers: the threads that take events. They wait for each other at the database, and
            must not take from readers the threads in which these are answered.
    """

    def __init__(self, database: Database, options: Options) -> None:
        self.database = database
        self.options = options
        self.instance = database.instance
        self.epoch = secrets.token_hex(8)
        self.access = Access(database, f"hpc_flows_{self.instance[:8]}", options.limits)
        self.ingest = Ingest(database)
        self.relays = Relays(database, self.ingest)
        self.hub = Hub(self.epoch, self._versions, self._changed)
        self.answers = Answers()
        self.remover = Remover(database)
        self.writers = ThreadPoolExecutor(_WRITERS, "hpc-flows-writer")
        self._marker = time()

    @property
    def base_url(self) -> str:
        """What links for browsers begin with."""
        return (self.options.public_url or self.options.url).rstrip("/")

    def _versions(self, sight: Sight, runs: list[str]) -> dict[str, int]:
        with self.database.reading() as connection:
            return overview.versions(connection, sight, runs)

    def _changed(self) -> list[str]:
        with self.database.reading() as connection:
            self._marker, found = overview.changed_since(connection, self._marker)
        return [run for run, _ in found]


def service_of(request: Request) -> Service:
    """Return what the routes share."""
    found: Service = request.app.state.service
    return found


Here = Annotated[Service, Depends(service_of)]


def reply(value: Any, status: int = 200, **headers: str) -> Response:
    """Return an answer in JSON, which no cache may keep; underscores in names become hyphens."""
    return reply_encoded(encode(value), status, **headers)


def reply_encoded(body: bytes, status: int = 200, **headers: str) -> Response:
    """Return an answer that is JSON already, as `reply` does."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(body, status, {"Cache-Control": "no-store", **named}, "application/json")


def nothing() -> Response:
    """Return the answer to what was done and has nothing to tell."""
    return Response(None, 204, {"Cache-Control": "no-store"})
