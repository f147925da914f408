"""The page's files, which anybody may have: what is in them is in every installation.

Paths are looked up in a table made when the server starts, so that no path leads elsewhere.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from hpc_flows.server.page import PageNotBuilt, page_folder
from hpc_flows.server.problems import missing

if TYPE_CHECKING:
    from starlette.requests import Request

_INDEX = "index.html"
#: Names under `assets/` have a hash of what is in them.
_HASHED = "assets/"
_FOR_EVER = "public, max-age=31536000, immutable"


def files_of_page() -> dict[str, str]:
    """Return the page's files by their path in the address; empty when it was not built."""
    try:
        folder = str(page_folder())
    except PageNotBuilt:
        return {}
    return {
        os.path.relpath(os.path.join(place, name), folder): os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
    }


def routes() -> list[Route]:
    """Return the routes of the page, or one that says how to build it."""
    files = files_of_page()
    if _INDEX not in files:
        return [Route("/", _not_built, methods=["GET"])]

    async def give(request: Request) -> Response:
        name = request.path_params.get("name", _INDEX)
        path = files.get(name)
        if path is None:
            raise missing("There is no such address here.")
        cache = _FOR_EVER if name.startswith(_HASHED) else "no-cache"
        return FileResponse(path, headers={"Cache-Control": cache})

    return [
        Route("/", give, methods=["GET"]),
        Route("/{name:path}", give, methods=["GET"]),
    ]


async def _not_built(_: Request) -> Response:
    try:
        page_folder()
        text = "The page was built after the server started: start it again."
    except PageNotBuilt as error:
        text = str(error)
    more = "The API under /api/v1 and `hpc-flows watch`, `flow-run`, `task-run` work without it."
    return PlainTextResponse(f"{text}\n{more}\n", 503)
