"""Users, projects and their members, as rows of the database."""

from __future__ import annotations

import re
from time import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from hpc_flows.server.db.bulk import REPLACE, upsert_rows
from hpc_flows.server.db.models import runs
from hpc_flows.server.db.people import members, projects, tokens, users
from hpc_flows.server.problems import Problem, missing

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

READ, CONTROL = "read", "control"
ROLES = (READ, CONTROL)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,99}")


def check_name(name: str) -> str:
    """Return a name of a user or project.

    Raises:
        Problem: it is none.
    """
    if not _NAME.fullmatch(name):
        message = (
            f"{name[:120]!r} is no name: take 1 to 100 letters, digits, '.', '_', '@' and '-', "
            f"and begin with a letter, digit or '_'."
        )
        raise Problem(422, "invalid", message)
    return name


def make_user(connection: Connection, name: str, *, is_admin: bool = False) -> int:
    """Make a user and return the id.

    Raises:
        Problem: the name is taken, or is none.
    """
    row = {"name": check_name(name), "is_admin": is_admin, "created": time()}
    key = _inserted(connection, users, row)
    if key is not None:
        return key
    if find_user(connection, name) is not None:
        raise Problem(409, "taken", f"There is a user {name!r} already.")
    message = (
        f"The account of {name!r} was closed, and the name is kept for its runs. Take another one."
    )
    raise Problem(409, "taken", message)


def _inserted(connection: Connection, table: Table, row: dict[str, Any]) -> int | None:
    """Insert a row and return its key; None if its name is taken, also at this very moment."""
    try:
        with connection.begin_nested():
            made: Any = connection.execute(insert(table).values(row))
    except IntegrityError:
        return None
    return int(made.inserted_primary_key[0])


def find_user(connection: Connection, name: str) -> int | None:
    """Return the id of a user who is not disabled, or None."""
    found = select(users.c.id).where(users.c.name == name, users.c.disabled.is_(None))
    return connection.scalar(found)


def user_id(connection: Connection, name: str) -> int:
    """Return the id of a user.

    Raises:
        Problem: there is none.
    """
    found = find_user(connection, name)
    if found is None:
        raise missing(f"There is no user {name[:120]!r}.")
    return found


def list_users(connection: Connection) -> list[dict[str, Any]]:
    """Return all users."""
    wanted = select(
        users.c.name, users.c.is_admin.label("admin"), users.c.created, users.c.disabled
    )
    return [dict(row._mapping) for row in connection.execute(wanted.order_by(users.c.name))]  # noqa: SLF001 - SQLAlchemy's documented way


def disable_user(connection: Connection, name: str) -> None:
    """Close a user's account: all tokens end; the runs stay, for admins and project members.

    Raises:
        Problem: there is no such user, or no admin would be left.
    """
    # Locked: of two admins who close each other's accounts at once, one must be left.
    admins = select(users.c.id).where(users.c.is_admin.is_(True), users.c.disabled.is_(None))
    left = set(connection.scalars(admins.order_by(users.c.id).with_for_update()))
    id_ = user_id(connection, name)
    if not left - {id_}:
        raise Problem(409, "last-admin", f"{name!r} is the last admin, and one must be left.")
    connection.execute(update(users).where(users.c.id == id_).values(disabled=time()))
    of_user = (tokens.c.user_id == id_) & tokens.c.revoked.is_(None)
    connection.execute(update(tokens).where(of_user).values(revoked=time()))
    connection.execute(delete(members).where(members.c.user_id == id_))


def make_project(connection: Connection, name: str) -> int:
    """Make a project and return its id.

    Raises:
        Problem: the name is taken, or is none.
    """
    row = {"name": check_name(name), "created": time()}
    key = _inserted(connection, projects, row)
    if key is None:
        raise Problem(409, "taken", f"There is a project {name!r} already.")
    return key


def project_id(connection: Connection, name: str) -> int:
    """Return the id of a project.

    Raises:
        Problem: there is none.
    """
    found: int | None = connection.scalar(select(projects.c.id).where(projects.c.name == name))
    if found is None:
        raise missing(f"There is no project {name[:120]!r} that you may see.")
    return found


def list_projects(connection: Connection, only: frozenset[int] | None) -> list[dict[str, Any]]:
    """Return projects with their members; `only` those ids, None for all."""
    wanted = select(projects.c.id, projects.c.name, projects.c.created).order_by(projects.c.name)
    if only is not None:
        wanted = wanted.where(projects.c.id.in_(sorted(only)))
    found = connection.execute(wanted).all()
    people: dict[int, list[dict[str, str]]] = {row.id: [] for row in found}
    joined = select(members.c.project_id, members.c.role, users.c.name).join(users)
    for row in connection.execute(joined.order_by(users.c.name)):
        if row.project_id in people:
            people[row.project_id].append({"user": row.name, "role": row.role})
    return [{"name": row.name, "created": row.created, "members": people[row.id]} for row in found]


def set_member(connection: Connection, project: int, user: int, role: str) -> None:
    """Make a user a member of a project, or change the role."""
    row = (project, user, role)
    names, taking = ("project_id", "user_id", "role"), (("role", REPLACE),)
    upsert_rows(connection, members, names, [row], taking=taking)


def remove_member(connection: Connection, project: int, user: int) -> bool:
    """Take a user out of a project; return whether that was a member."""
    both = (members.c.project_id == project) & (members.c.user_id == user)
    return connection.execute(delete(members).where(both)).rowcount > 0


def roles_of(connection: Connection, user: int) -> dict[int, str]:
    """Return the roles of a user by the ids of the projects."""
    found = select(members.c.project_id, members.c.role).where(members.c.user_id == user)
    return {row.project_id: row.role for row in connection.execute(found)}


def owner_and_project(connection: Connection, run: str) -> tuple[int, int | None] | None:
    """Return the ids of a run's owner and project; None when there is no such run."""
    found = select(runs.c.owner_id, runs.c.project_id)
    found = found.where(runs.c.id == run, runs.c.removed.is_(None))
    row = connection.execute(found).one_or_none()
    return None if row is None else (row.owner_id, row.project_id)


def move_run(connection: Connection, run: str, project: int | None) -> None:
    """Put a run into a project, or into none."""
    connection.execute(update(runs).where(runs.c.id == run).values(project_id=project))
