"""Tokens, sessions of browsers and one-time login codes, as rows of the database.

Only hashes are kept. A session is a token too: its text is in the browser's cookie.
"""

from __future__ import annotations

import json
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, insert, or_, select, update

from hpc_flows.server.access import tokens as texts
from hpc_flows.server.db.models import runs
from hpc_flows.server.db.people import login_codes, tokens, users

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

TOKEN, SESSION = "token", "session"
#: Seconds that a login code and a browser's session live.
CODE_SECONDS, SESSION_SECONDS = 120.0, 12 * 3600.0
#: Seconds after the end of a run in which a token for it alone still takes what comes late.
AFTER_RUN = 7 * 86400.0
#: Seconds between two notes of when a token was used last: reading shall not write all the time.
USE_NOTED = 60.0


class Grant(NamedTuple):
    """A token that is valid, and whose it is.

    Attributes:
        id: of the token.
        kind: `token` or `session`.
        user_id: whose.
        user: the same by name.
        is_admin: whether that user is an admin.
        scopes: what it is for.
        run: the one run that it is limited to, or None.
        last_used: when it was used last, as noted.
    """

    id: str
    kind: str
    user_id: int
    user: str
    is_admin: bool
    scopes: frozenset[str]
    run: str | None
    last_used: float | None


class Wish(NamedTuple):
    """What a token shall be.

    Attributes:
        user_id: whose.
        name: what its owner calls it.
        scopes: what it is for.
        run: the one run that it is limited to, or None.
        expires: seconds since 1970, or None for never.
        kind: `token` or `session`.
    """

    user_id: int
    name: str
    scopes: Sequence[str]
    run: str | None = None
    expires: float | None = None
    kind: str = TOKEN


def make(connection: Connection, wish: Wish) -> texts.NewToken:
    """Make a token; its text is in what is returned, and nowhere else."""
    made = texts.new_token()
    row = {
        **wish._asdict(),
        "id": made.id,
        "hash": made.hash,
        "scopes": json.dumps(sorted(set(wish.scopes))),
        "created": time(),
    }
    connection.execute(insert(tokens).values(row))
    return made


def find(connection: Connection, text: str) -> Grant | None:
    """Return what a token's text grants now; None when it grants nothing."""
    id_ = texts.id_in(text)
    if id_ is None:
        return None
    now = time()
    wanted = (
        select(tokens, users.c.name.label("user"), users.c.is_admin)
        .join(users)
        .where(tokens.c.id == id_, tokens.c.revoked.is_(None), users.c.disabled.is_(None))
        .where(or_(tokens.c.expires.is_(None), tokens.c.expires > now))
    )
    row = connection.execute(wanted).one_or_none()
    if row is None or not texts.fits(text, row.hash):
        return None
    if row.run is not None and _is_over(connection, row.run, now):
        return None
    return Grant(
        row.id,
        row.kind,
        row.user_id,
        row.user,
        row.is_admin,
        frozenset(json.loads(row.scopes)),
        row.run,
        row.last_used,
    )


def _is_over(connection: Connection, run: str, now: float) -> bool:
    """Tell whether a run has ended so long ago that its own token ends too (threat T12)."""
    ended: float | None = connection.scalar(select(runs.c.ended).where(runs.c.id == run))
    return ended is not None and now - ended > AFTER_RUN


def kept_hash(connection: Connection, id_: str) -> bytes | None:
    """Return the hash of a token that is valid, for the proof of `/hello`; else None."""
    wanted = select(tokens.c.hash).where(tokens.c.id == id_, tokens.c.revoked.is_(None))
    found: bytes | None = connection.scalar(wanted)
    return found


def note_use(connection: Connection, id_: str) -> None:
    """Write down that a token was used now."""
    connection.execute(update(tokens).where(tokens.c.id == id_).values(last_used=time()))


def rows(connection: Connection, user: int | None) -> list[dict[str, Any]]:
    """Return the tokens of one user, or of all; never a hash."""
    wanted = select(tokens, users.c.name.label("user")).join(users)
    if user is not None:
        wanted = wanted.where(tokens.c.user_id == user)
    order = wanted.order_by(tokens.c.created.desc(), tokens.c.id)
    return [
        {
            "id": row.id,
            "name": row.name,
            "kind": row.kind,
            "user": row.user,
            "scopes": json.loads(row.scopes),
            "run": row.run,
            "created": row.created,
            "expires": row.expires,
            "revoked": row.revoked,
            "last_used": row.last_used,
        }
        for row in connection.execute(order)
    ]


def revoke(connection: Connection, id_: str, user: int | None) -> bool:
    """End a token now; only of that user unless None. Return whether there was one."""
    wanted = (tokens.c.id == id_) & tokens.c.revoked.is_(None)
    if user is not None:
        wanted &= tokens.c.user_id == user
    return connection.execute(update(tokens).where(wanted).values(revoked=time())).rowcount > 0


def make_code(connection: Connection, user: int, scopes: Sequence[str]) -> str:
    """Make a one-time login code; codes that are past are swept."""
    code, now = texts.new_code(), time()
    connection.execute(delete(login_codes).where(login_codes.c.expires < now - CODE_SECONDS))
    row = {
        "hash": texts.hash_of(code),
        "user_id": user,
        "scopes": json.dumps(sorted(scopes)),
        "expires": now + CODE_SECONDS,
    }
    connection.execute(insert(login_codes).values(row))
    return code


def use_code(connection: Connection, code: str) -> texts.NewToken | None:
    """Exchange a login code for a session; of many that try at once, one gets it.

    Returns None when the code is unknown, past, or was used before.
    """
    now = time()
    wanted = (
        (login_codes.c.hash == texts.hash_of(code))
        & login_codes.c.used.is_(None)
        & (login_codes.c.expires > now)
    )
    if connection.execute(update(login_codes).where(wanted).values(used=now)).rowcount != 1:
        return None
    row = connection.execute(
        select(login_codes).where(login_codes.c.hash == texts.hash_of(code))
    ).one()
    scopes = json.loads(row.scopes)
    wish = Wish(row.user_id, "browser", scopes, None, now + SESSION_SECONDS, SESSION)
    return make(connection, wish)
