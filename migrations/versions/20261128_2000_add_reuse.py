"""Find transcripts by their audio, and mark the files that reused one."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app.schema_changes import create_index

revision: str = "20261128_2000"
down_revision: str | None = "20261128_1920"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "files", sa.Column("reused", sa.Boolean(), server_default=sa.false(), nullable=False), if_not_exists=True
    )
    op.add_column("transcripts", sa.Column("audio_key", sa.Uuid(), nullable=True), if_not_exists=True)
    create_index("ix_transcripts_audio_key", "transcripts (audio_key, id DESC) WHERE audio_key IS NOT NULL")
    create_index("ix_uploads_sha256", "uploads (client_id, sha256)")


def downgrade() -> None:
    op.drop_index("ix_uploads_sha256", table_name="uploads")
    op.drop_index("ix_transcripts_audio_key", table_name="transcripts")
    op.drop_column("transcripts", "audio_key")
    op.drop_column("files", "reused")
