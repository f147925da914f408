"""Tables about people and what they ask for: users, projects, tokens, commands, relays."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

#: Names of constraints, so that migrations can speak of them on both databases.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=_NAMES)

#: Facts about the database itself, such as `instance`, a random text made with it.
facts = Table(
    "facts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("is_admin", Boolean, nullable=False, default=False),
    Column("created", Double, nullable=False),
    Column("disabled", Double),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created", Double, nullable=False),
)

#: `role` is `read` or `control`.
members = Table(
    "members",
    metadata,
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role", Text, nullable=False),
)

#: `id` is the public part of a token, `hash` the SHA-256 of its whole text, `kind` is `token` or
#: `session`, `scopes` a JSON list, `run` the one run that a reporter's token is limited to.
tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False, default=""),
    Column("kind", Text, nullable=False, default="token"),
    Column("scopes", Text, nullable=False),
    Column("run", Text),
    Column("created", Double, nullable=False),
    Column("expires", Double),
    Column("revoked", Double),
    Column("last_used", Double),
    Index(None, "user_id"),
)

login_codes = Table(
    "login_codes",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("expires", Double, nullable=False),
    Column("used", Double),
)

#: What people ask the driver of a run to do; `status` goes from `queued` over `sent` to
#: `delivered`, `refused` or `failed`.
commands = Table(
    "commands",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("flow_run", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("by", Text, nullable=False),
    Column("created", Double, nullable=False),
    Column("status", Text, nullable=False, default="queued"),
    Column("sent", Double),
    Column("settled", Double),
    Column("message", Text),
    Index(None, "run", "created"),
)

#: `runs` is a JSON list of the ids of the runs that the relay reports of, `skew` its clock's
#: seconds ahead of the server's.
relays = Table(
    "relays",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger),
    Column("version", Text),
    Column("skew", Double),
    Column("heard", Double, nullable=False),
    Column("runs", Text, nullable=False, default="[]"),
    Index(None, "user_id"),
)

#: What relays say of clusters, the newest for each user: users see different parts of a queue.
surveys = Table(
    "surveys",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("cluster", Text, primary_key=True),
    Column("heard", Double, nullable=False),
    Column("survey", Text, nullable=False),
)

#: Variables belong to the user who set them; `value` and `tags` are JSON.
variables = Table(
    "variables",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("tags", Text, nullable=False, default="[]"),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
)
