"""Let pollers convert transcripts of early versions, and find those that are left by an index of them alone."""

from collections.abc import Sequence

from alembic import op

from app.schema_changes import create_index, drop_index, replace_index

revision: str = "20261128_2110"
down_revision: str | None = "20261128_2010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_ORDER = "transcript_segments (client_id, transcript_id DESC, number)"


def upgrade() -> None:
    op.alter_column("transcript_bodies", "document_index", nullable=True)
    create_index(
        "ix_transcript_bodies_unindexed", "transcript_bodies (transcript_id DESC) WHERE document_index IS NULL"
    )
    replace_index("ix_transcript_segments_unindexed", f"{_ORDER} WHERE terms IS NULL AND texts IS NOT NULL")
    create_index("ix_transcript_segments_placeholders", "transcript_segments (transcript_id DESC) WHERE texts IS NULL")


def downgrade() -> None:
    drop_index("ix_transcript_segments_placeholders")
    replace_index("ix_transcript_segments_unindexed", f"{_ORDER} WHERE terms IS NULL")
    drop_index("ix_transcript_bodies_unindexed")
    # Fails while documents are left that no poller of this version has indexed: the earlier version cannot read them.
    op.alter_column("transcript_bodies", "document_index", nullable=False)
