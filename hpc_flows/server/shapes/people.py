"""Tokens, users, projects, logging in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpc_flows.server.access.tokens import LONGEST_NONCE, SHORTEST_NONCE
from hpc_flows.server.shapes import Id, Line, Shape, Time

Scope = Literal["report", "read", "control", "admin"]
Role = Literal["read", "control"]
Nonce = Annotated[str, Field(min_length=SHORTEST_NONCE, max_length=LONGEST_NONCE)]


class Hello(Shape):
    """The question of a client that has not shown its token yet."""

    token_id: Line
    nonce: Nonce


class HelloAnswer(Shape):
    """The proof that the server knows the token's hash."""

    instance: str
    epoch: str
    version: str
    proof: str


class Me(Shape):
    """Who the token belongs to, and which server this is."""

    user: str
    admin: bool
    scopes: list[str]
    run: str | None
    projects: list[str]
    instance: str
    epoch: str
    version: str
    database: str
    time: float


class NewToken(Shape):
    """What a new token shall be."""

    name: Line = ""
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)]
    run: Id | None = None
    expires: Time | None = None
    user: Line | None = None


class Token(Shape):
    """A token without what opens anything."""

    id: str
    name: str
    kind: str
    user: str
    scopes: list[str]
    run: str | None
    created: float
    expires: float | None
    revoked: float | None
    last_used: float | None


class Tokens(Shape):
    """Tokens."""

    items: list[Token]


class MadeToken(Shape):
    """A new token's text, which is shown this once."""

    id: str
    token: str


class NewCode(Shape):
    """What a browser that logs in with the code may do; all that the asker may, unless said."""

    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)] | None = None


class Code(Shape):
    """A one-time login code and the link that has it."""

    code: str
    url: str
    expires: float


class Login(Shape):
    """A one-time login code."""

    code: Annotated[str, Field(min_length=1, max_length=200)]


class LoggedIn(Shape):
    """Who is logged in now."""

    user: str
    expires: float


class NewUser(Shape):
    """A user to be made."""

    name: Line
    admin: bool = False


class User(Shape):
    """A user."""

    name: str
    admin: bool
    created: float
    disabled: float | None


class Users(Shape):
    """Users."""

    items: list[User]


class NewProject(Shape):
    """A project to be made."""

    name: Line


class Member(Shape):
    """A member of a project."""

    user: str
    role: str


class Project(Shape):
    """A project and who is in it."""

    name: str
    created: float
    members: list[Member]


class Projects(Shape):
    """Projects."""

    items: list[Project]


class NewRole(Shape):
    """What a member may do with the project's runs."""

    role: Role = "read"


class Place(Shape):
    """The project of a run; null takes it out of any."""

    project: Line | None
