"""The live stream of changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Header, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from hpc_flows.server.access.principals import Reader
from hpc_flows.server.access.tokens import READ
from hpc_flows.server.problems import Problem, missing
from hpc_flows.server.queries import overview
from hpc_flows.server.routes.guarded import router
from hpc_flows.server.routes.wishes import Word
from hpc_flows.server.service import Here, Service
from hpc_flows.server.streaming import MOST_STREAMS, Viewer

if TYPE_CHECKING:
    from hpc_flows.server.db.sight import Sight

api = router()

_TEXT = {"type": "string"}
#: One event, as OpenAPI describes what is streamed.
_EVENT = {"type": "object", "properties": {"id": _TEXT, "event": _TEXT, "data": _TEXT}}


@api.get(
    "/stream",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": _EVENT}}}},
)
async def stream(
    here: Here,
    who: Reader,
    request: Request,
    run: Word | None = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Tell which runs change, as server-sent events.

    `hello` {epoch, time} comes first; `change` {runs: {id: version}} at most four times a second,
    with `reload: true` when something may have been missed; `beat` after 15 s of silence.
    """
    if here.hub.open >= MOST_STREAMS:
        message = "Too many pages are open; close some, or wait."
        raise Problem(503, "busy", message, {"Retry-After": "15"})
    if run is not None and not await run_in_threadpool(_is_seen, here, who.sight, run):
        raise missing()

    async def viewer() -> Viewer | None:
        now = await run_in_threadpool(here.access.again, request, READ)
        return None if now is None else Viewer(now.sight, now.sight, run)

    pieces = here.hub.stream(viewer, last_event_id)
    # nginx would keep the events back to fill its buffer.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(pieces, 200, headers, "text/event-stream")


def _is_seen(here: Service, sight: Sight, run: str) -> bool:
    with here.database.reading() as connection:
        return bool(overview.versions(connection, sight, [run]))
