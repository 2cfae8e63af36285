"""Record the usage of clients, and give clients budgets."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.schema_changes import run_in_batches

revision: str = "20261128_2130"
down_revision: str | None = "20261128_2120"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "usage",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("file_index", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), nullable=False),
        sa.Column("files", sa.SmallInteger(), nullable=False),
        sa.Column("audio_ms", sa.BigInteger(), nullable=False),
        sa.Column("billed_s", sa.Numeric(14, 3), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.Numeric(18, 9), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage")),
        if_not_exists=True,
    )
    op.create_index("ix_usage_client", "usage", ["client_id", "at"], if_not_exists=True)
    op.create_index("ix_usage_at", "usage", ["at"], postgresql_using="brin", if_not_exists=True)
    op.create_table(
        "client_budgets",
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("counted_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("counted_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("counted", sa.Numeric(), server_default="0", nullable=False),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_client_budgets_amount")),
        sa.CheckConstraint("period IN ('day', 'month')", name=op.f("ck_client_budgets_period")),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_client_budgets_client_id")),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_client_budgets")),
        if_not_exists=True,
    )
    _record_stored_files()


def downgrade() -> None:
    op.drop_table("client_budgets")
    op.drop_table("usage")


def _record_stored_files() -> None:
    """Files that are stored already. All prices were in yuan, except those of the models that bill tokens."""
    # Of an interrupted upgrade: no version that writes usage has run yet.
    op.execute("TRUNCATE usage")
    run_in_batches(
        "jobs",
        """
        INSERT INTO usage (at, client_id, client, job_id, file_index, model, region, account, metadata, files,
                           audio_ms, billed_s, input_tokens, output_tokens, cost, currency)
        SELECT files.finished_at, files.client_id, clients.name, files.job_id, files.index, files.model, files.region,
            tasks.account, batch.metadata, 1, coalesce(files.audio_duration_ms, 0), coalesce(files.billed_s, 0),
            coalesce(files.input_tokens, 0), coalesce(files.output_tokens, 0), coalesce(files.cost, 0),
            CASE WHEN files.model LIKE 'qwen-audio-3.1-%' THEN 'USD' ELSE 'CNY' END
        FROM batch
        JOIN files ON files.job_id = batch.id
        JOIN clients ON clients.id = files.client_id
        LEFT JOIN tasks ON tasks.id = files.task_id
        WHERE files.status = 'succeeded'
        ORDER BY files.finished_at
        """,
    )
