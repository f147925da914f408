"""The application: routes, what guards them, and how errors are told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from hpc_flows._version import __version__
from hpc_flows.server import retention
from hpc_flows.server.access.guard import BehindPrefix, Guard, Hosts
from hpc_flows.server.access.principals import Anybody
from hpc_flows.server.db.outage import is_outage
from hpc_flows.server.problems import Problem, refuse
from hpc_flows.server.routes import (
    flow_runs,
    live,
    login,
    people,
    reports,
    static,
    task_runs,
    things,
)
from hpc_flows.server.routes.guarded import router
from hpc_flows.server.service import Options, Service, reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from hpc_flows.server.db.opening import Database

PREFIX = "/api/v1"
_LOG = logging.getLogger("hpc_flows.server")
_DESCRIPTION = """\
What runs of hpc_flows report, and what people ask about them. Every route but three needs a token:
`Authorization: Bearer hpcf_…`. Times are seconds since 1970. Errors are
`{"error": code, "message": what to do}`.
"""
#: A second of processor time buys little below this size and above this level.
_GZIP_FROM, _GZIP_LEVEL = 2000, 4
#: Seconds between two removals of old runs.
_CLEANED = 3600.0


def make_app(database: Database, options: Options | None = None) -> FastAPI:
    """Return the application over a database whose tables are there.

    Its `state.service` is what the routes share.
    """
    service = Service(database, options or Options())
    app = _bare()
    app.state.service = service
    app.add_exception_handler(HTTPException, _tell_refusal)
    app.add_exception_handler(RequestValidationError, _tell_invalid)
    app.router.routes.extend(static.routes())
    app.add_middleware(GZipMiddleware, minimum_size=_GZIP_FROM, compresslevel=_GZIP_LEVEL)
    app.add_middleware(_Unforeseen)
    given = service.options
    hosts = Hosts.of(given.hosts, any_address=given.any_address)
    app.add_middleware(Guard, hosts=hosts, public_url=given.public_url)
    if given.prefix:
        app.add_middleware(BehindPrefix, prefix=given.prefix)
    return app


def described() -> dict[str, Any]:
    """Return the API as OpenAPI describes it; `x-scope` is the scope that a route needs."""
    return _bare().openapi()


def _bare() -> FastAPI:
    """Return the application with the routes of the API and nothing behind them."""
    app = FastAPI(
        title="hpc_flows",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=_life,
        redirect_slashes=False,
    )
    app.include_router(_routes(), prefix=PREFIX)
    return app


def _routes() -> APIRouter:
    """Return all routes of the API; each names its rule, or `GuardedRoute` refuses to be made."""
    api = router()

    @api.get("/openapi.json", response_model=dict[str, Any])
    def openapi(request: Request, who: Anybody) -> Response:  # noqa: ARG001 - the rule
        """Describe this API."""
        return reply(request.app.openapi())

    whole = APIRouter()
    for part in (login, people, reports, flow_runs, task_runs, things, live):
        whole.include_router(part.api)
    whole.include_router(api)
    return whole


@contextlib.asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.hub.begin()
    service.remover.wake()  # a server that was killed may have left half of a run
    tasks = [asyncio.create_task(service.hub.run()), asyncio.create_task(_clean_up(service))]
    try:
        yield
    finally:
        service.hub.close()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await run_in_threadpool(service.remover.close)
        service.writers.shutdown(wait=True)


async def _clean_up(service: Service) -> None:
    """Remove old runs, once an hour, when the settings say so."""
    days = service.options.retention_days
    while days is not None:
        try:
            removed = await run_in_threadpool(retention.mark_old, service.database, days)
            service.remover.wake()
            service.hub.changes.add(removed)
        except Exception:  # noqa: BLE001 - a full disk or a lock may be gone in an hour
            _LOG.exception("Old runs could not be removed; the next attempt is in an hour.")
        await asyncio.sleep(_CLEANED)


async def _tell_refusal(_: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        return Response(error.body(), error.status, error.headers, "application/json")
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, message = _WORDS.get(status, ("refused", str(getattr(error, "detail", ""))))
    headers = getattr(error, "headers", None)
    return reply({"error": code, "message": message}, status, **dict(headers or {}))


_WORDS = {
    400: ("invalid", "The body cannot be read as JSON."),
    404: ("not-found", "There is no such address here."),
    405: ("method-not-allowed", "This address is not used with that method; see Allow."),
}


async def _tell_invalid(_: Request, error: Exception) -> Response:
    """Say which value is wrong; what it was is not repeated, because it may be a secret."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    told = [f"{_place(each['loc'])}: {each['msg']}" for each in found[:_MOST_TOLD]]
    message = "; ".join(told) or "The request cannot be read."
    return reply({"error": "invalid", "message": message[:2000]}, 422)


_MOST_TOLD = 5


def _place(loc: Any) -> str:
    return ".".join(str(part)[:60] for part in loc[:6])


class _Unforeseen:
    """ASGI middleware: an error that nobody foresaw is logged, and told without what is in it.

    A database that cannot be used now is told as such: who asks shall come back.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if scope["type"] != "http":
                raise
            mark = secrets.token_hex(4)
            about = (mark, scope["method"], scope["path"])
            if is_outage(error):
                # One line: there is one for each request while it lasts.
                _LOG.error("Error %s in %s %s: no database: %s", *about, _first_line(error))
                problem = Problem(503, "no-database", _NO_DATABASE + mark, _LATER)
            else:
                _LOG.exception("Error %s in %s %s", *about)
                message = f"The server failed; its log has the reason under {mark}."
                problem = Problem(500, "internal", message)
            if started:
                raise
            await refuse(send, problem)


_NO_DATABASE = (
    "The server cannot use its database now. Ask again later; if it lasts, see to the database and "
    "its disk. The server's log has the reason under "
)
_LATER = {"Retry-After": "5"}


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
