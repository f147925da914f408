"""The page's files, which anybody may have: what is in them is in every installation.

They are read once, when the server starts: no path leads elsewhere, and a page that is built anew
under a running server is not half old and half new.
"""

from __future__ import annotations

import mimetypes
import os
from typing import TYPE_CHECKING, NamedTuple

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hpc_flows.server.page import PageNotBuilt, page_folder
from hpc_flows.server.problems import missing

if TYPE_CHECKING:
    from starlette.requests import Request

_INDEX = "index.html"
#: Names under `assets/` have a hash of what is in them.
_HASHED = "assets/"
_FOR_EVER = "public, max-age=31536000, immutable"


class PageFile(NamedTuple):
    """A file of the page: what is in it, and of which type it is."""

    content: bytes
    media_type: str


def files_of_page() -> dict[str, PageFile]:
    """Return the page's files by their path in the address; empty when it was not built."""
    try:
        folder = str(page_folder())
    except PageNotBuilt:
        return {}
    return {
        os.path.relpath(os.path.join(place, name), folder): _read(os.path.join(place, name))
        for place, _, names in os.walk(folder)
        for name in names
    }


def _read(path: str) -> PageFile:
    # What the machine's own tables say of types does not matter here, and Python 3.11 has an old
    # name for scripts.
    types = mimetypes.MimeTypes(filenames=())
    types.add_type("text/javascript", ".js")
    known = types.guess_type(path)[0] or "application/octet-stream"
    with open(path, "rb") as file:
        return PageFile(file.read(), known)


def routes() -> list[Route]:
    """Return the routes of the page, or one that says how to build it."""
    files = files_of_page()
    if _INDEX not in files:
        return [Route("/", _not_built, methods=["GET"])]

    async def give(request: Request) -> Response:
        name = request.path_params.get("name", _INDEX)
        file = files.get(name)
        if file is None:
            raise missing("There is no such address here.")
        cache = _FOR_EVER if name.startswith(_HASHED) else "no-cache"
        return Response(file.content, 200, {"Cache-Control": cache}, file.media_type)

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
