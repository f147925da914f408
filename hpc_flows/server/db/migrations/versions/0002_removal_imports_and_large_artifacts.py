"""Runs that are being removed, what imports have read, and artifacts that come in parts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and tables; what is there keeps its meaning."""
    op.add_column("runs", sa.Column("removed", sa.Double))
    op.add_column("runs", _counter("artifact_bytes"))
    op.add_column("attachments", _counter("size"))
    op.execute("UPDATE attachments SET size = length(content)")
    op.execute(
        "UPDATE runs SET artifact_bytes = (SELECT coalesce(sum(size), 0) FROM attachments "
        "WHERE attachments.run_pk = runs.pk AND attachments.kind = 'artifact')"
    )
    op.create_table(
        "attachment_parts",
        _of_run("attachment_parts"),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("updated", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("run_pk", "key", "digest", "part", name="pk_attachment_parts"),
    )
    op.create_table(
        "imported_files",
        _of_run("imported_files"),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("modified", sa.BigInteger, nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("mark", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_pk", "path", name="pk_imported_files"),
    )


def _counter(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _of_run(table: str) -> sa.Column[int]:
    key = sa.ForeignKey("runs.pk", name=f"fk_{table}_run_pk_runs", ondelete="CASCADE")
    return sa.Column("run_pk", sa.Integer, key, nullable=False)
