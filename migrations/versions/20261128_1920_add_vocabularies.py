"""Add hot-word lists."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "20261128_1920"
down_revision: str | None = "20261128_1915"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "vocabularies",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("vocabulary_id", sa.Text(), nullable=True),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("target_model", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("vocabulary", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("known_ids", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(vocabulary_id IS NULL) = (state IN ('creating', 'unsure'))", name=op.f("ck_vocabularies_id_is_known")
        ),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_vocabularies_client_id_clients")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vocabularies")),
    )
    op.create_index("ix_vocabularies_client", "vocabularies", ["client_id", sa.text("id DESC")])
    op.create_index("uq_vocabularies_vocabulary_id", "vocabularies", ["vocabulary_id"], unique=True)
    op.create_index("ix_vocabularies_unsure", "vocabularies", ["id"], postgresql_where=sa.text("vocabulary_id IS NULL"))


def downgrade() -> None:
    op.drop_table("vocabularies")
