"""Tokens, users, projects, and who I am."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from fastapi import Response

from hpc_flows._version import __version__
from hpc_flows.server.access import grants, people
from hpc_flows.server.access.principals import ADMINS, Anybody, Principal, Reader
from hpc_flows.server.access.tokens import REPORT
from hpc_flows.server.problems import Problem, missing
from hpc_flows.server.routes.guarded import router
from hpc_flows.server.service import Here, nothing, reply
from hpc_flows.server.shapes import people as shapes

if TYPE_CHECKING:
    from sqlalchemy import Connection

api = router()


@api.get("/me", response_model=shapes.Me)
def me(here: Here, who: Anybody) -> Response:
    """Say whom the token belongs to, and which server this is."""
    with here.database.reading() as connection:
        projects = people.list_projects(connection, frozenset(who.roles))
    return reply(
        {
            "user": who.grant.user,
            "admin": who.is_admin,
            "scopes": sorted(who.grant.scopes),
            "run": who.grant.run,
            "projects": [each["name"] for each in projects],
            "instance": here.instance,
            "epoch": here.epoch,
            "version": __version__,
            "database": here.database.kind,
            "time": time(),
        }
    )


@api.get("/tokens", response_model=shapes.Tokens)
def list_tokens(here: Here, who: Reader) -> Response:
    """List one's own tokens and sessions; an admin sees all."""
    _check_whole(who)
    with here.database.reading() as connection:
        found = grants.rows(connection, None if who.is_admin else who.grant.user_id)
    return reply({"items": found})


@api.post("/tokens", response_model=shapes.MadeToken, status_code=201)
def make_token(here: Here, who: Anybody, wanted: shapes.NewToken) -> Response:
    """Make a token that may not do more than the one that asks; its text is shown this once."""
    _check_whole(who)
    _check_scopes(who, wanted)
    with here.database.writing() as connection:
        user = _user_for(connection, who, wanted.user)
        _check_run(connection, user, wanted)
        wish = grants.Wish(user, wanted.name, wanted.scopes, wanted.run, wanted.expires)
        made = grants.make(connection, wish)
    return reply({"id": made.id, "token": made.text}, 201)


def _check_whole(who: Principal) -> None:
    """Refuse a token for one run: it shall not see or make others."""
    if who.grant.run is not None:
        raise Problem(403, "forbidden", "A token for one run cannot see or make tokens.")


def _check_scopes(who: Principal, wanted: shapes.NewToken) -> None:
    beyond = sorted(set(wanted.scopes) - who.grant.scopes)
    if beyond and not who.is_admin:
        message = f"A token cannot give what it has not itself: {', '.join(beyond)}."
        raise Problem(403, "forbidden", message)
    if wanted.run is not None and set(wanted.scopes) != {REPORT}:
        raise Problem(422, "invalid", "A token for one run has the scope 'report' and no other.")
    if wanted.expires is not None and wanted.expires <= time():
        raise Problem(422, "invalid", "expires is in the past; give seconds since 1970.")


def _user_for(connection: Connection, who: Principal, name: str | None) -> int:
    if name is None or name == who.grant.user:
        return who.grant.user_id
    if not who.is_admin:
        raise Problem(403, "forbidden", "Only an admin makes tokens for others.")
    return people.user_id(connection, name)


def _check_run(connection: Connection, user: int, wanted: shapes.NewToken) -> None:
    """See that a token for one run is not for a run of somebody else."""
    if wanted.run is not None:
        found = people.owner_and_project(connection, wanted.run)
        if found is not None and found[0] != user:
            raise missing(f"There is no run {wanted.run!r} of that user.")


@api.delete("/tokens/{id}", status_code=204)
def revoke_token(here: Here, who: Anybody, id: str) -> Response:  # noqa: A002 - the name in the address
    """Revoke a token or session, at once; one's own, or as an admin any."""
    _check_whole(who)
    with here.database.writing() as connection:
        if not grants.revoke(connection, id, None if who.is_admin else who.grant.user_id):
            raise missing("There is no valid token of that id of yours.")
    return nothing()


@api.get("/users", response_model=shapes.Users, dependencies=ADMINS)
def list_users(here: Here) -> Response:
    """List the users."""
    with here.database.reading() as connection:
        found = people.list_users(connection)
    return reply({"items": found})


@api.post("/users", response_model=shapes.User, status_code=201, dependencies=ADMINS)
def make_user(here: Here, wanted: shapes.NewUser) -> Response:
    """Make a user; a token for them is made by `POST /tokens` with their name."""
    with here.database.writing() as connection:
        people.make_user(connection, wanted.name, is_admin=wanted.admin)
        row = next(u for u in people.list_users(connection) if u["name"] == wanted.name)
    return reply(row, 201)


@api.delete("/users/{user}", status_code=204, dependencies=ADMINS)
def disable_user(here: Here, user: str) -> Response:
    """Close a user's account: all tokens end, the runs stay."""
    with here.database.writing() as connection:
        people.disable_user(connection, user)
    return nothing()


@api.get("/projects", response_model=shapes.Projects)
def list_projects(here: Here, who: Reader) -> Response:
    """List the projects that one is a member of; an admin sees all."""
    only = None if who.is_admin else frozenset(who.roles)
    with here.database.reading() as connection:
        found = people.list_projects(connection, only)
    return reply({"items": found})


@api.post("/projects", response_model=shapes.Project, status_code=201, dependencies=ADMINS)
def make_project(here: Here, wanted: shapes.NewProject) -> Response:
    """Make a project."""
    with here.database.writing() as connection:
        id_ = people.make_project(connection, wanted.name)
        found = people.list_projects(connection, frozenset({id_}))
    return reply(found[0], 201)


@api.put("/projects/{project}/members/{user}", response_model=shapes.Project, dependencies=ADMINS)
def set_member(here: Here, project: str, user: str, wanted: shapes.NewRole) -> Response:
    """Make a user a member of a project, or change what the member may do."""
    with here.database.writing() as connection:
        id_ = people.project_id(connection, project)
        people.set_member(connection, id_, people.user_id(connection, user), wanted.role)
        found = people.list_projects(connection, frozenset({id_}))
    return reply(found[0])


@api.delete("/projects/{project}/members/{user}", status_code=204, dependencies=ADMINS)
def remove_member(here: Here, project: str, user: str) -> Response:
    """Take a user out of a project."""
    with here.database.writing() as connection:
        id_ = people.project_id(connection, project)
        if not people.remove_member(connection, id_, people.user_id(connection, user)):
            raise missing(f"{user!r} is no member of {project!r}.")
    return nothing()
