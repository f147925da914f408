"""Routes that ask who is there before they read what is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from hpc_flows.server.access.principals import scope_of
from hpc_flows.server.shapes import REFUSALS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fastapi import Request, Response
    from fastapi.dependencies.models import Dependant

#: Routes that need no token: is it up, is it the right one, and how to log in.
PUBLIC = frozenset({"/health", "/hello", "/login"})


class GuardedRoute(APIRoute):
    """A route that admits who may use it before the body is parsed.

    It cannot be made without saying which scope it needs, unless it is one of `PUBLIC`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        scope = "none" if self._is_public() else self._rule() or "any"
        self.openapi_extra = {**(self.openapi_extra or {}), "x-scope": scope}

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, behind the question who asks."""
        handle = super().get_route_handler()
        if self._is_public():
            return handle
        scope = self._rule()

        async def admitted(request: Request) -> Response:
            access = request.app.state.service.access
            request.state.principal = await run_in_threadpool(access.admit, request, scope)
            return await handle(request)

        return admitted

    def _is_public(self) -> bool:
        return self.path.removeprefix("/api/v1") in PUBLIC

    def _rule(self) -> str | None:
        """Return the scope that the route needs; None for any valid token."""
        rules = _rules(self.dependant)
        if len(rules) != 1:
            raise RuntimeError(f"The route {self.path} must say who may use it, and once.")
        return rules[0]


def _rules(dependant: Dependant) -> list[str | None]:
    """Return the scopes that a route's parameters ask for."""
    found = [scope_of(each.call) for each in dependant.dependencies]
    return [rule.scope for rule in found if rule is not None]


def router() -> APIRouter:
    """Return an empty set of guarded routes."""
    return APIRouter(route_class=GuardedRoute, responses=REFUSALS)
