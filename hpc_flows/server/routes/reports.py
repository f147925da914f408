"""What relays send: runs, events, attachments, heartbeats, outcomes of commands.

The scope is `report`, and a run may be reported to by its owner only; a token for one run can do
no more than add to that run (threat T12).
"""

from __future__ import annotations

import asyncio
import json
from time import time
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Query, Request, Response
from pydantic import Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from hpc_flows.server import bodies, relays
from hpc_flows.server.access import people
from hpc_flows.server.access.guard import JOURNAL
from hpc_flows.server.access.principals import Principal, Reporter, check_own
from hpc_flows.server.ingest import NoSuchRun, RunGone
from hpc_flows.server.ingest.kept_texts import LARGEST, PART, OverQuota, Part
from hpc_flows.server.problems import Problem, missing
from hpc_flows.server.routes.guarded import router
from hpc_flows.server.service import Here, Service, reply
from hpc_flows.server.shapes import Shape, Status
from hpc_flows.server.shapes import reports as shapes

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

api = router()


def _stored(do: Callable[[], T]) -> T:
    """Do something with a run, with refusals in place of the database's exceptions.

    Raises:
        Problem: 404, 410, 413 or 422.
    """
    try:
        return do()
    except NoSuchRun:
        raise missing("There is no such run of yours.") from None
    except RunGone as error:
        message = f"The run was removed from the server: {error}. Its files are untouched."
        raise Problem(410, "gone", message) from None
    except OverQuota as error:
        raise Problem(413, "over-quota", str(error)) from None
    except ValueError as error:
        raise Problem(422, "invalid", str(error)) from None


def _check_token(who: Principal, run: str) -> None:
    if who.grant.run not in {None, run}:
        raise missing("There is no such run that this token is for.")


@api.put("/runs/{run}", response_model=shapes.Registered)
def register(here: Here, who: Reporter, run: str, about: shapes.About) -> Response:
    """Make a run known, before its events are sent; again is no harm."""
    _check_token(who, run)
    facts = about.model_dump(exclude_unset=True)
    wanted = facts.pop("project", None)
    with here.database.reading() as connection:
        project = None if wanted is None else people.project_id(connection, wanted)
    if project is not None and project not in who.roles:
        raise missing(f"There is no project {wanted!r} that you may see.")
    made = _stored(lambda: here.ingest.register(run, facts, who.grant.user_id, project))
    here.hub.changes.add([run])
    return reply({"run": made.run, "project": made.project, "epoch": here.epoch})


@api.post(
    "/runs/{run}/events",
    response_model=shapes.Taken,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {JOURNAL: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def take(here: Here, who: Reporter, run: str, request: Request) -> Response:
    """Take lines of a run's journal, as they are, of any of its writers, gzipped or not.

    All of a batch is taken in one transaction; what was taken before is counted as repeated.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JOURNAL:
        raise Problem(415, "unknown-type", f"Send events as Content-Type {JOURNAL}.")
    _check_token(who, run)
    lines = await bodies.read_batch(request)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(here.writers, _take, here, who, run, lines)


def _take(here: Service, who: Principal, run: str, lines: bytes) -> Response:
    made = _stored(lambda: here.ingest.take(run, lines, who.grant.user_id))
    if made.taken:
        here.hub.changes.add([run])
    return reply(
        {
            "epoch": here.epoch,
            "taken": made.taken,
            "repeated": made.repeated,
            "refused": made.refused,
            "counts": made.counts,
            "version": made.version,
        }
    )


@api.post("/runs/counts", response_model=shapes.Behind)
def compare(here: Here, who: Reporter, held: shapes.Counts) -> Response:
    """Tell a relay what the server lacks of what it had acknowledged: after a backup came back."""
    if who.grant.run is not None and set(held.runs) - {who.grant.run}:
        raise missing("There is no such run that this token is for.")
    return reply(here.ingest.behind(held.runs, who.grant.user_id, held.versions))


class _Place(Shape):
    """Which part of a large artifact a body is; with nothing given, it is all of it."""

    part: Annotated[int, Field(ge=1, le=LARGEST // PART)] | None = None
    parts: Annotated[int, Field(ge=1, le=LARGEST // PART)] | None = None
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None

    def is_given(self) -> bool:
        """Tell whether the body is a part."""
        return (self.part, self.parts, self.digest) != (None, None, None)

    def of(self, kind: str, content: bytes) -> Part:
        """Return the part that a body is.

        Raises:
            Problem: it cannot be one.
        """
        if kind != "artifact":
            message = f"Only artifacts come in parts; of the {kind} send the end, at most 1 MiB."
            raise Problem(422, "invalid", message)
        if self.part is None or self.parts is None or self.digest is None:
            raise Problem(422, "invalid", "A part has `part`, `parts` and `digest`, all three.")
        return Part(self.part, self.parts, self.digest, content)


@api.put(
    "/runs/{run}/attachments/{kind}/{key}",
    response_model=shapes.Attached,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/json": {"schema": {}},
            },
        }
    },
)
async def attach(
    here: Here,
    who: Reporter,
    run: str,
    kind: Literal["script", "output", "artifact"],
    key: str,
    request: Request,
    place: Annotated[_Place, Query()],
) -> Response:
    """Keep a job's script, the tail of a task run's output, or an artifact's JSON.

    An artifact of more than 1 MiB comes in parts: `part` of `parts`, all but the last of 1048576
    bytes, with the `digest` (BLAKE2b-256) of the whole. It is kept when all are there.
    """
    _check_token(who, run)
    body = await bodies.read_plain(request)
    owner = who.grant.user_id
    if place.is_given():
        part = place.of(kind, body)

        def keep() -> int:
            return _stored(lambda: here.ingest.attach_part(run, key, part, owner))

    else:
        content = body.decode("utf-8", "replace").replace("\0", "\ufffd")
        if kind == "artifact":
            _check_json(content)

        def keep() -> int:
            return _stored(lambda: here.ingest.attach(run, kind, key, content, owner))

    version = await run_in_threadpool(keep)
    here.hub.changes.add([run])
    return reply({"epoch": here.epoch, "version": version})


def _check_json(content: str) -> None:
    try:
        json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Problem(422, "invalid", f"An artifact is JSON, and this is none: {error}.") from None


@api.post("/relays/{relay}/heartbeat", response_model=shapes.Heard)
def beat(here: Here, who: Reporter, relay: str, said: shapes.Heartbeat) -> Response:
    """Hear that a relay lives, and hand it the commands for its runs.

    What it says of clusters is kept for its user; with a token for one run it is left out.
    """
    for run in said.runs if who.grant.run is not None else ():
        _check_token(who, run)
    about = said.model_dump(include={"mode", "host", "pid", "version"})
    # A survey is of no run, and stands in place of what the user's other relays have seen.
    clusters = said.clusters if who.grant.run is None else {}
    heard = relays.Beat(relay, about, said.clock, said.runs, clusters)
    waiting = here.relays.hear(who.grant.user_id, heard)
    return reply({"epoch": here.epoch, "time": time(), "commands": waiting})


@api.post("/runs/{run}/commands/{command}", response_model=Status)
def settle(here: Here, who: Reporter, run: str, command: str, outcome: shapes.Outcome) -> Response:
    """Take from a relay what became of a command."""
    with here.database.writing() as connection:
        check_own(connection, who, run)
        relays.settle(connection, run, command, outcome.status, outcome.message)
    here.hub.changes.add([run])
    return reply({"status": outcome.status})
