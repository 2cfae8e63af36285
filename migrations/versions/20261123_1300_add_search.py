"""Add transcript segments, which search reads; transcripts that are there already get a placeholder for the poller."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.schema_changes import run_in_batches

revision: str = "20261123_1300"
down_revision: str | None = "20261123_1200"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "transcript_segments",
        sa.Column("transcript_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("texts", sa.LargeBinary(), nullable=True),
        sa.Column("terms", postgresql.ARRAY(sa.Integer()), nullable=True),
        sa.ForeignKeyConstraint(
            ["transcript_id"],
            ["transcripts.id"],
            name=op.f("fk_transcript_segments_transcript_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("transcript_id", "number", name=op.f("pk_transcript_segments")),
        postgresql_with={"toast_tuple_target": "128", "autovacuum_vacuum_scale_factor": "0.05"},
        if_not_exists=True,
    )
    for column in ("texts", "terms"):
        # Compressed already, or hardly compressible; and counting the commonest terms would take ANALYZE minutes.
        op.execute(f"ALTER TABLE transcript_segments ALTER COLUMN {column} SET STORAGE EXTERNAL")
        op.execute(f"ALTER TABLE transcript_segments ALTER COLUMN {column} SET STATISTICS 0")
    order = [sa.text("client_id"), sa.text("transcript_id DESC"), sa.text("number")]
    _index("ix_transcript_segments_client", order)
    _index("ix_transcript_segments_unindexed", order, postgresql_where=sa.text("terms IS NULL"))
    _index(
        "ix_transcript_segments_terms",
        ["terms"],
        postgresql_using="gin",
        postgresql_with={"gin_pending_list_limit": "1024"},
    )
    # Transcripts that have segments were stored by a process of the new version.
    run_in_batches(
        "transcripts",
        """
        INSERT INTO transcript_segments (transcript_id, number, client_id)
        SELECT id, 0, client_id FROM batch
        WHERE NOT EXISTS (SELECT FROM transcript_segments WHERE transcript_id = batch.id)
        ON CONFLICT DO NOTHING
        """,
    )


def downgrade() -> None:
    op.drop_index("ix_transcript_segments_terms", table_name="transcript_segments", postgresql_using="gin")
    op.drop_index(
        "ix_transcript_segments_unindexed",
        table_name="transcript_segments",
        postgresql_where=sa.text("terms IS NULL"),
    )
    op.drop_index("ix_transcript_segments_client", table_name="transcript_segments")
    op.drop_table("transcript_segments")


def _index(name: str, columns: list[Any], **options: Any) -> None:
    op.create_index(name, "transcript_segments", columns, if_not_exists=True, **options)
