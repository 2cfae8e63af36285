"""Keep canceled files that upstream transcribes nevertheless until their bill is known."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "20261129_0040"
down_revision: str | None = "20261129_0030"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "dropped_files",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("sent_as", sa.Text(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(), nullable=False),
        sa.Column("open", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("result_failures", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("audio_duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("billed_s", sa.Numeric(14, 3), nullable=True),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("cost", sa.Numeric(18, 9), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_dropped_files_task_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("task_id", "job_id", "index", name=op.f("pk_dropped_files")),
    )
    op.create_index("ix_dropped_files_client", "dropped_files", ["client_id"])


def downgrade() -> None:
    op.drop_table("dropped_files")
