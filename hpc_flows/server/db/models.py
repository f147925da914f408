"""Tables about runs and what is in them.

Rows of one run lie together: the key of a flow run, task run, job, log record, event or artifact
is `runs.pk << 32 | number`, with numbers that the run counts up as it hears of things. A range of
keys is a run, and no key needs a sequence.

What is JSON stands in columns of text: nothing is looked for inside of it, and ASCII JSON keeps
what PostgreSQL's texts refuse, such as NUL characters. Times are seconds since 1970.

`made` and `changes` are the events that a run's state follows from, without results; from them
`hpc_flows.journal.views` computes the other columns again whenever one is added.
"""

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
    Table,
    Text,
    UniqueConstraint,
    text,
)

from hpc_flows.server.db.people import metadata

__all__ = ["NUMBER_BITS", "first_key", "last_key", "metadata"]

#: Bits of a key that number the things within a run.
NUMBER_BITS = 32

#: The conditions of partial indices; a query that shall use one has to say the same words.
IS_BAD = "is_bad"
IS_OPEN = "is_open"


def first_key(run_pk: int) -> int:
    """Return the least key of what belongs to a run."""
    return run_pk << NUMBER_BITS


def last_key(run_pk: int) -> int:
    """Return the greatest key of what belongs to a run."""
    return (run_pk + 1 << NUMBER_BITS) - 1


#: `about` is run.json as it was registered; `version` rises with each change, `changed` is when;
#: `counter` is the last number given away; `heard` when a relay last spoke of the run; `ended`
#: when the root flow run did; `dropped` how many log records the run could not keep; `removed`
#: since when the run is being removed: nobody sees it any more; `artifact_bytes` how many bytes of
#: artifacts were sent beside the journal.
runs = Table(
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
    Column("removed", Double),
    Column("artifact_bytes", BigInteger, nullable=False, default=0, server_default="0"),
    Index(None, "owner_id"),
    Index(None, "project_id"),
    Index(None, "changed"),
    Index(None, "ended"),
)

#: Runs that were deleted: their relays are told so.
gone = Table(
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


#: Which events of a writer were taken: `ranges` is a JSON list of first and last numbers in turn,
#: `held` how many numbers that is.
writers = Table(
    "writers",
    metadata,
    _key_of_run(),
    Column("writer", Text, primary_key=True),
    Column("ranges", Text, nullable=False),
    Column("held", BigInteger, nullable=False),
)

flow_runs = Table(
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

flow_run_tags = Table(
    "flow_run_tags",
    metadata,
    Column("tag", Text, primary_key=True),
    Column("flow_run_pk", ForeignKey("flow_runs.pk", ondelete="CASCADE"), primary_key=True),
    Index(None, "flow_run_pk"),
)

#: What lists and charts need of a task run; the rest is in `task_run_facts`. `queued`, `job` and
#: `node` are what its own states tell; where they do not, its job does: `token`, `job_index`.
task_runs = Table(
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

task_run_facts = Table(
    "task_run_facts",
    metadata,
    _key(),
    Column("made", Text),
    Column("changes", Text, nullable=False, default="[]"),
)

#: How many task runs of a task are in a state of which name; those without any state count under
#: empty texts, so that the sum of a task is all of its runs.
task_counts = Table(
    "task_counts",
    metadata,
    _key_of_run(),
    Column("flow_run", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("state_type", Text, primary_key=True),
    Column("state_name", Text, primary_key=True),
    Column("n", BigInteger, nullable=False),
)

task_spans = Table(
    "task_spans",
    metadata,
    _key_of_run(),
    Column("flow_run", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("first_made", Double),
    Column("first_started", Double),
    Column("last_ended", Double),
)

#: How many task runs of `target` take results of how many of `source`.
edges = Table(
    "edges",
    metadata,
    _key_of_run(),
    Column("source_flow", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("target_flow", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("n", BigInteger, nullable=False),
)

#: Which task runs (`pk`) take the result of which (`upstream`, an id).
links = Table(
    "links",
    metadata,
    _key_of_run(),
    Column("upstream", Text, primary_key=True),
    Column("pk", BigInteger, primary_key=True),
    sqlite_with_rowid=False,
)

#: `taken` is JSON: by kind of event, the order (wall, writer, seq) of the one that counts.
jobs = Table(
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

#: What the intent says, kept apart because it is long and never changes.
job_parts = Table(
    "job_parts",
    metadata,
    _key(),
    Column("array", Text),
    Column("resources", Text),
    Column("script", Text),
    Column("task_runs", Text, nullable=False, default="[]"),
)

job_statuses = Table(
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

#: Cancellations by the scheduler's id of the job, for those that are heard of later.
job_cancels = Table(
    "job_cancels",
    metadata,
    _key_of_run(),
    Column("job_base", Text, primary_key=True),
    Column("wall", Double, nullable=False),
    Column("writer", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)

run_clusters = Table(
    "run_clusters",
    metadata,
    _key_of_run(),
    Column("cluster", Text, primary_key=True),
    Column("scheduler", Text, nullable=False, default=""),
    Index(None, "cluster"),
)

logs = Table(
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

#: Users' own events; `body` is JSON: resource, related, payload, follows, tags.
events = Table(
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

#: `origin` and `newest` are JSON: by what the event that made it, and the one that counts, were
#: chosen; `data` is JSON, or null where a file of the run has it and it was not sent.
artifacts = Table(
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

#: Texts that relays send beside the journal: `script` by token, `output` by task run, `artifact`;
#: `size` is in bytes.
attachments = Table(
    "attachments",
    metadata,
    _key_of_run(),
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("content", Text, nullable=False),
    Column("updated", Double, nullable=False),
    Column("size", BigInteger, nullable=False, default=0, server_default="0"),
)

#: Parts of large artifacts, until the last has come; `digest` is that of the whole.
attachment_parts = Table(
    "attachment_parts",
    metadata,
    _key_of_run(),
    Column("key", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("updated", Double, nullable=False),
)

#: How far imports have read a journal: `done` bytes of whole lines, whose end has the digest
#: `mark`, when the file had a `size` and was `modified` (nanoseconds since 1970).
imported_files = Table(
    "imported_files",
    metadata,
    _key_of_run(),
    Column("path", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("modified", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("mark", Text, nullable=False),
)
