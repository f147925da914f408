"""Every way into the server's application, as its router has it and not as it describes itself.

A route that is left out of the description answers all the same, and so does what was put beside
the guarded routes: a mounted application, a WebSocket, a route of Starlette's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.routing import Mount, Route

from hpc_flows.server.routes import static
from hpc_flows.server.routes.guarded import GuardedRoute

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastapi import FastAPI

#: The page's own files, which are in every installation.
PAGE = frozenset({"/", "/{name:path}"})


class Way(NamedTuple):
    """A way in: its path, its methods (none for what is no HTTP route), and whether it asks who."""

    path: str
    methods: frozenset[str]
    is_guarded: bool


def ways_into(app: FastAPI) -> list[Way]:
    """Return all ways into an application, with those into what is mounted in it."""
    return list(_ways(_all_of(app.router)))


def _ways(routes: Iterable[Any], before: str = "") -> Iterator[Way]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:  # what newer versions of FastAPI keep of a router that is included
            yield from _ways(_all_of(inner), before + route.include_context.prefix)
        elif isinstance(route, Mount) and route.routes:
            yield from _ways(route.routes, before + route.path)
        elif not _is_of_the_page(route):
            path = before + getattr(route, "path", f"({type(route).__name__})")
            methods = frozenset(getattr(route, "methods", None) or ())
            yield Way(path, methods, isinstance(route, GuardedRoute))


def _all_of(router: Any) -> list[Any]:
    return [*router.routes, *getattr(router, "_low_priority_routes", ())]


def _is_of_the_page(route: Any) -> bool:
    """Tell whether it is a route that gives the page's files, and nothing but them."""
    return (
        type(route) is Route
        and route.path in PAGE
        and route.endpoint.__module__ == static.__name__
        and route.methods == {"GET", "HEAD"}
    )


def open_ways(app: FastAPI) -> set[str]:
    """Return the paths of ways in that ask nobody who they are."""
    return {way.path for way in ways_into(app) if not way.is_guarded}
