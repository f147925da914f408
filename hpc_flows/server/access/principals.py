"""The one place that turns a request into who asks, and decides what that one may do.

A route says which scope it needs by its parameter: `who: Reader`. What rows are seen is decided by
the `Sight` that a principal has; what may be changed in a run by `Access.check_control`.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Annotated, NamedTuple

from fastapi import Depends
from fastapi.requests import HTTPConnection
from sqlalchemy.exc import SQLAlchemyError

from hpc_flows.server.access import grants, people
from hpc_flows.server.access.rates import Buckets, Rate
from hpc_flows.server.access.tokens import ADMIN, CONTROL, READ, REPORT
from hpc_flows.server.db.outage import is_outage
from hpc_flows.server.db.sight import Sight
from hpc_flows.server.problems import Problem, missing, too_many

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from hpc_flows.server.db.opening import Database


class Limits(NamedTuple):
    """How often one may ask.

    Attributes:
        reading: requests of one token.
        reports: those with what a relay sends, where all relays of a user may share a token.
        failures: refused tokens and codes from one address.
        hellos: questions without a token from one address.
    """

    reading: Rate = Rate(100, 400)
    reports: Rate = Rate(500, 1000)
    failures: Rate = Rate(5, 30)
    hellos: Rate = Rate(50, 200)


class Principal(NamedTuple):
    """Who asks.

    Attributes:
        grant: the token that was shown.
        roles: the user's role in each project, by the project's id.
    """

    grant: grants.Grant
    roles: dict[int, str]

    @property
    def is_admin(self) -> bool:
        """Whether this is an admin who acts as one: the token must say so too."""
        return self.grant.is_admin and ADMIN in self.grant.scopes

    @property
    def sight(self) -> Sight:
        """What rows this one may see."""
        return Sight(self.grant.user_id, self.is_admin, frozenset(self.roles), self.grant.run)


class Access:
    """Tells who asks and what they may do, for one application.

    Attributes:
        limits: how often one may ask.
        hellos: permissions to ask without a token, by address.
    """

    def __init__(self, database: Database, cookie: str, limits: Limits | None = None) -> None:
        """Make it for a database.

        Args:
            database: where tokens and users are.
            cookie: the name of the session's cookie.
            limits: how often one may ask.
        """
        self.limits = limits or Limits()
        self.cookie = cookie
        self.hellos = Buckets(self.limits.hellos)
        self._database = database
        self._reading = Buckets(self.limits.reading)
        self._reports = Buckets(self.limits.reports)
        self._failures = Buckets(self.limits.failures)

    def admit(self, request: HTTPConnection, scope: str | None) -> Principal:
        """Return who asks, if the scope is theirs.

        Raises:
            Problem: 401 without a valid token, 403 without the scope, 429 too often.
        """
        found = self._asker(request)
        if found is None:
            raise self.refused(request, shown=bool(self._token_in(request)))
        buckets = self._reports if scope == REPORT else self._reading
        wait = buckets.take(found.grant.id)
        if wait:
            raise too_many(wait, "This token asks too often.")
        self._check_scope(found.grant, scope)
        self._note_use(found.grant)
        return found

    def again(self, request: HTTPConnection, scope: str) -> Principal | None:
        """Return who was admitted, with what they may now; None if the scope is theirs no more.

        It is not counted how often: what was admitted must not go on because others ask too often.
        """
        found = self._asker(request)
        return found if found is not None and scope in found.grant.scopes else None

    def _asker(self, request: HTTPConnection) -> Principal | None:
        """Return whose token a request shows; None if it opens nothing now."""
        text = self._token_in(request)
        if not text:
            return None
        with self._database.reading() as connection:
            grant = grants.find(connection, text)
            return grant and Principal(grant, people.roles_of(connection, grant.user_id))

    def _check_scope(self, grant: grants.Grant, scope: str | None) -> None:
        if scope is not None and scope not in grant.scopes:
            message = f"This token has not the scope {scope!r}. `hpc-flows token create` makes one."
            raise Problem(403, "forbidden", message)
        if scope == ADMIN and not grant.is_admin:
            raise Problem(403, "forbidden", f"{grant.user} is no admin of this server.")

    def refused(self, request: HTTPConnection, *, shown: bool) -> Problem:
        """Return the refusal for who showed no valid token."""
        message = (
            "This token is unknown, past or revoked. Make another: hpc-flows token create"
            if shown
            else "Show a token: `Authorization: Bearer hpcf_...`, or log in: hpc-flows server login"
        )
        return self._failure(request, message) if shown else _unauthorized(message)

    def refused_code(self, request: HTTPConnection) -> Problem:
        """Return the refusal for a login code that opens nothing."""
        message = "This link was used before, or is too old. Get another: hpc-flows server login"
        return self._failure(request, message)

    def _failure(self, request: HTTPConnection, message: str) -> Problem:
        """Count a failure, and return its refusal: at last to come back later."""
        wait = self._failures.take(address_of(request))
        if wait:
            return too_many(wait, "Too many tokens or codes were refused.")
        return _unauthorized(message)

    def _token_in(self, request: HTTPConnection) -> str | None:
        """Return the token that a request shows: in the header, else in the cookie."""
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return text.strip()
        return request.cookies.get(self.cookie)

    def _note_use(self, grant: grants.Grant) -> None:
        if grant.last_used is not None and time() - grant.last_used <= grants.USE_NOTED:
            return
        try:
            with self._database.writing() as connection:
                grants.note_use(connection, grant.id)
        except SQLAlchemyError as error:
            # On a full disk nothing can be written, and all can be read: pages shall go on.
            if not is_outage(error):
                raise


def _unauthorized(message: str) -> Problem:
    return Problem(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})


def address_of(request: HTTPConnection) -> str:
    """Return where a request comes from; all of a Unix socket's are the user's own."""
    return request.client.host if request.client else "socket"


class Needs:
    """A route's parameter: who asks, and the scope that they must have.

    Attributes:
        scope: None for any valid token.
    """

    def __init__(self, scope: str | None) -> None:
        self.scope = scope

    async def __call__(self, request: HTTPConnection) -> Principal:
        """Return who was admitted to the route."""
        found: Principal = request.state.principal
        return found


def scope_of(call: object) -> Needs | None:
    """Return the rule that a dependency of a route is, or None if it is something else."""
    return call if isinstance(call, Needs) else None


Reporter = Annotated[Principal, Depends(Needs(REPORT))]
Reader = Annotated[Principal, Depends(Needs(READ))]
Controller = Annotated[Principal, Depends(Needs(CONTROL))]
Anybody = Annotated[Principal, Depends(Needs(None))]
#: For routes to which it is all the same which admin asks.
ADMINS = [Depends(Needs(ADMIN))]


def check_own(connection: Connection, who: Principal, run: str) -> None:
    """See that a run may be reported to by who asks: its owner, with a token for it.

    Raises:
        Problem: it may not, or there is no such run; which of both is not told.
    """
    found = people.owner_and_project(connection, run)
    if found is None or found[0] != who.grant.user_id or who.grant.run not in {None, run}:
        raise missing(f"There is no run {run[:120]!r} of yours.")


def check_control(connection: Connection, who: Principal, run: str) -> None:
    """See that a run, which who asks can see, may be changed by them too.

    Raises:
        Problem: they may only read it.
    """
    found = people.owner_and_project(connection, run)
    if found is None:
        raise missing()
    owner, project = found
    role = who.roles.get(project) if project is not None else None
    if not (who.is_admin or owner == who.grant.user_id or role == people.CONTROL):
        raise Problem(403, "read-only", "You may read this run; to change it is for its owner.")
