"""Is the server up, is it the right one, and how a browser is logged in."""

from __future__ import annotations

import secrets
from time import time

from fastapi import Request, Response

from hpc_flows._version import __version__
from hpc_flows.server.access import grants, tokens
from hpc_flows.server.access.principals import Anybody, address_of
from hpc_flows.server.problems import Problem, too_many
from hpc_flows.server.routes.guarded import router
from hpc_flows.server.service import Here, nothing, reply
from hpc_flows.server.shapes import Status
from hpc_flows.server.shapes import people as shapes

api = router()


@api.get("/health", response_model=Status)
async def health() -> Response:
    """Say that the server is up; nothing else is told without a token."""
    return reply({"status": "ok"})


@api.post("/hello", response_model=shapes.HelloAnswer)
def hello(here: Here, request: Request, asked: shapes.Hello) -> Response:
    """Prove that the server knows a token's hash, before a client shows it the token.

    For an id that nobody has there is a proof too, made with a random key: it teaches nothing.
    """
    wait = here.access.hellos.take(address_of(request))
    if wait:
        raise too_many(wait, "Too many questions from this address.")
    with here.database.reading() as connection:
        kept = grants.kept_hash(connection, asked.token_id)
    key = kept or secrets.token_bytes(32)
    return reply(
        {
            "instance": here.instance,
            "epoch": here.epoch,
            "version": __version__,
            "proof": tokens.proof(key, asked.nonce, here.instance, here.epoch),
        }
    )


@api.post("/login-codes", response_model=shapes.Code, status_code=201)
def make_code(here: Here, who: Anybody, wanted: shapes.NewCode | None = None) -> Response:
    """Make a one-time code that logs a browser in; it lives two minutes.

    The code stands in the link behind `#`, which no browser sends to any server, so that it is in
    no log and no Referer (threat T4).
    """
    if who.grant.run is not None:
        raise Problem(403, "forbidden", "A token for one run cannot log a browser in.")
    given = None if wanted is None else wanted.scopes
    # A browser reports no runs.
    asked = who.grant.scopes - {tokens.REPORT} if given is None else frozenset(given)
    beyond = sorted(asked - who.grant.scopes)
    if beyond or not asked:
        message = f"This token cannot let a browser {', '.join(beyond) or 'do anything'}."
        raise Problem(403, "forbidden", message)
    with here.database.writing() as connection:
        code = grants.make_code(connection, who.grant.user_id, sorted(asked))
    url = f"{here.base_url}/#/login?code={code}"
    return reply({"code": code, "url": url, "expires": time() + grants.CODE_SECONDS}, 201)


@api.post("/login", response_model=shapes.LoggedIn)
def login(here: Here, request: Request, shown: shapes.Login) -> Response:
    """Exchange a one-time code for a session in a cookie that no script can read."""
    with here.database.writing() as connection:
        made = grants.use_code(connection, shown.code)
        grant = None if made is None else grants.find(connection, made.text)
    if made is None or grant is None:
        raise here.access.refused_code(request)
    answer = reply({"user": grant.user, "expires": time() + grants.SESSION_SECONDS})
    answer.set_cookie(
        here.access.cookie,
        made.text,
        max_age=int(grants.SESSION_SECONDS),
        path=f"{here.options.prefix}/",
        secure=here.options.tls,
        httponly=True,
        samesite="strict",
    )
    return answer


@api.post("/logout", status_code=204)
def logout(here: Here, who: Anybody) -> Response:
    """End the session of this browser; a token that is no session stays as it is."""
    if who.grant.kind == grants.SESSION:
        with here.database.writing() as connection:
            grants.revoke(connection, who.grant.id, who.grant.user_id)
    answer = nothing()
    answer.delete_cookie(
        here.access.cookie,
        path=f"{here.options.prefix}/",
        secure=here.options.tls,
        httponly=True,
        samesite="strict",
    )
    return answer
