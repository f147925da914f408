"""The tables of the first version.

They stand here as they were then: later migrations change them, and this file stays as it is.
"""

from __future__ import annotations

from alembic import op
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
    UniqueConstraint,
    text,
)

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=_NAMES)

Table(
    "facts",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("is_admin", Boolean, nullable=False, default=False),
    Column("created", Double, nullable=False),
    Column("disabled", Double),
)

Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created", Double, nullable=False),
)

Table(
    "members",
    metadata,
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role", Text, nullable=False),
)

Table(
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

Table(
    "login_codes",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("expires", Double, nullable=False),
    Column("used", Double),
)

Table(
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

Table(
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

Table(
    "surveys",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("cluster", Text, primary_key=True),
    Column("heard", Double, nullable=False),
    Column("survey", Text, nullable=False),
)

Table(
    "variables",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("tags", Text, nullable=False, default="[]"),
    Column("created", Double, nullable=False),
    Column("updated", Double, nullable=False),
)

IS_BAD = "is_bad"
IS_OPEN = "is_open"


Table(
    "runs",
    metadata,
    Column("pk", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("owner_id", ForeignKey("users.id"), nullable=False),
    Column("project_id", ForeignKey("projects.id")),
    Column("name", Text, nullable=False, default=""),
    Column("flow", Text, nullable=False, default=""),
    Column("created", Double, nullable=False),
    Column("registered", Double, nullable=False),
    Column("host", Text),
    Column("about", Text, nullable=False, default="{}"),
    Column("heard", Double),
    Column("skew", Double),
    Column("ended", Double),
    Column("version", BigInteger, nullable=False, default=1),
    Column("changed", Double, nullable=False),
    Column("counter", BigInteger, nullable=False, default=0),
    Column("dropped", BigInteger, nullable=False, default=0),
    Index(None, "owner_id"),
    Index(None, "project_id"),
    Index(None, "changed"),
    Index(None, "ended"),
)

Table(
    "gone",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("reason", Text, nullable=False),
)


def _of_run() -> Column[int]:
    return Column("run_pk", ForeignKey("runs.pk", ondelete="CASCADE"), nullable=False)


def _key_of_run() -> Column[int]:
    return Column("run_pk", ForeignKey("runs.pk", ondelete="CASCADE"), primary_key=True)


def _key() -> Column[int]:
    return Column("pk", BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


Table(
    "writers",
    metadata,
    _key_of_run(),
    Column("writer", Text, primary_key=True),
    Column("ranges", Text, nullable=False),
    Column("held", BigInteger, nullable=False),
)

Table(
    "flow_runs",
    metadata,
    _key(),
    _of_run(),
    Column("id", Text, nullable=False),
    Column("is_root", Boolean, nullable=False),
    Column("name", Text, nullable=False, default=""),
    Column("flow", Text, nullable=False, default=""),
    Column("state_type", Text),
    Column("state_name", Text),
    Column("created", Double),
    Column("started", Double),
    Column("ended", Double),
    Column("parent_task_run", Text),
    Column("parent_flow_run", Text),
    Column("made", Text),
    Column("changes", Text, nullable=False, default="[]"),
    UniqueConstraint("id", "run_pk"),
    Index(None, "run_pk"),
    Index(None, "created"),
    Index(None, "started"),
    Index(None, "ended"),
    Index(None, "flow", "created"),
    Index(None, "state_type", "created"),
    Index(None, "parent_flow_run"),
)

Table(
    "flow_run_tags",
    metadata,
    Column("tag", Text, primary_key=True),
    Column("flow_run_pk", ForeignKey("flow_runs.pk", ondelete="CASCADE"), primary_key=True),
    Index(None, "flow_run_pk"),
)

Table(
    "task_runs",
    metadata,
    _key(),
    _of_run(),
    Column("id", Text, nullable=False),
    Column("flow_run", Text),
    Column("name", Text, nullable=False, default=""),
    Column("task", Text, nullable=False, default=""),
    Column("map_index", BigInteger),
    Column("state_type", Text),
    Column("state_name", Text),
    Column("is_open", Boolean, nullable=False),
    Column("is_bad", Boolean, nullable=False),
    Column("attempt", Integer, nullable=False, default=1),
    Column("created", Double),
    Column("queued", Double),
    Column("started", Double),
    Column("ended", Double),
    Column("token", Text),
    Column("job_index", Integer),
    Column("job", Text),
    Column("node", Text),
    UniqueConstraint("id", "run_pk"),
    # With the flow run in it, a page far down in a list is found without looking at the rows.
    Index(None, "run_pk", "created", "pk", "flow_run"),
    Index(None, "created"),
    Index(
        "ix_task_runs_bad",
        "run_pk",
        "created",
        sqlite_where=text(IS_BAD),
        postgresql_where=text(IS_BAD),
    ),
    Index(
        "ix_task_runs_all_bad",
        "created",
        sqlite_where=text(IS_BAD),
        postgresql_where=text(IS_BAD),
    ),
    Index(
        "ix_task_runs_open",
        "run_pk",
        "created",
        sqlite_where=text(IS_OPEN),
        postgresql_where=text(IS_OPEN),
    ),
)

Table(
    "task_run_facts",
    metadata,
    _key(),
    Column("made", Text),
    Column("changes", Text, nullable=False, default="[]"),
)

Table(
    "task_counts",
    metadata,
    _key_of_run(),
    Column("flow_run", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("state_type", Text, primary_key=True),
    Column("state_name", Text, primary_key=True),
    Column("n", BigInteger, nullable=False),
)

Table(
    "task_spans",
    metadata,
    _key_of_run(),
    Column("flow_run", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("first_made", Double),
    Column("first_started", Double),
    Column("last_ended", Double),
)

Table(
    "edges",
    metadata,
    _key_of_run(),
    Column("source_flow", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("target_flow", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("n", BigInteger, nullable=False),
)

Table(
    "links",
    metadata,
    _key_of_run(),
    Column("upstream", Text, primary_key=True),
    Column("pk", BigInteger, primary_key=True),
    sqlite_with_rowid=False,
)

Table(
    "jobs",
    metadata,
    _key(),
    _of_run(),
    Column("token", Text, nullable=False),
    Column("cluster", Text, nullable=False, default=""),
    Column("scheduler", Text, nullable=False, default=""),
    Column("job", Text),
    Column("job_base", Text),
    Column("intended", Double),
    Column("submitted", Double),
    Column("refusal", Text),
    Column("cancelled", Text),
    Column("members", Integer, nullable=False, default=0),
    Column("is_array", Boolean, nullable=False, default=False),
    Column("taken", Text, nullable=False, default="{}"),
    UniqueConstraint("run_pk", "token"),
    Index(None, "run_pk", "job_base"),
    Index(None, "job_base"),
)

Table(
    "job_parts",
    metadata,
    _key(),
    Column("array", Text),
    Column("resources", Text),
    Column("script", Text),
    Column("task_runs", Text, nullable=False, default="[]"),
)

Table(
    "job_statuses",
    metadata,
    Column("job_pk", ForeignKey("jobs.pk", ondelete="CASCADE"), primary_key=True),
    Column("element", Text, primary_key=True),
    Column("wall", Double, nullable=False),
    Column("writer", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("job", Text),
    Column("phase", Text),
    Column("raw", Text),
    Column("reason", Text),
    Column("nodes", Text),
    Column("partition", Text),
)

Table(
    "job_cancels",
    metadata,
    _key_of_run(),
    Column("job_base", Text, primary_key=True),
    Column("wall", Double, nullable=False),
    Column("writer", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)

Table(
    "run_clusters",
    metadata,
    _key_of_run(),
    Column("cluster", Text, primary_key=True),
    Column("scheduler", Text, nullable=False, default=""),
    Index(None, "cluster"),
)

Table(
    "logs",
    metadata,
    _key(),
    _of_run(),
    Column("wall", Double, nullable=False),
    Column("level", Integer, nullable=False),
    Column("logger", Text, nullable=False, default=""),
    Column("message", Text, nullable=False),
    Column("task_run", Text),
    Column("flow_run", Text),
    Index(None, "run_pk", "wall", "pk"),
    Index(None, "task_run", "wall", "pk"),
)

Table(
    "events",
    metadata,
    _key(),
    _of_run(),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("occurred", Double, nullable=False),
    Column("resource", Text),
    Column("flow_run", Text),
    Column("task_run", Text),
    Column("body", Text, nullable=False),
    Index(None, "occurred"),
    Index(None, "run_pk", "occurred"),
)

Table(
    "artifacts",
    metadata,
    _key(),
    _of_run(),
    Column("id", Text, nullable=False),
    Column("type", Text),
    Column("key", Text),
    Column("description", Text),
    Column("created", Double),
    Column("updated", Double),
    Column("flow_run", Text),
    Column("task_run", Text),
    Column("tags", Text, nullable=False, default="[]"),
    Column("data", Text),
    Column("size", BigInteger),
    Column("origin", Text),
    Column("newest", Text),
    UniqueConstraint("id", "run_pk"),
    Index(None, "run_pk", "created"),
    Index(None, "key", "updated"),
    Index(None, "updated"),
)

Table(
    "attachments",
    metadata,
    _key_of_run(),
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("content", Text, nullable=False),
    Column("updated", Double, nullable=False),
)


def upgrade() -> None:
    """Make the tables."""
    metadata.create_all(op.get_bind(), checkfirst=False)
