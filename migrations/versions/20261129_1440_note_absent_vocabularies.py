"""Keep when the creation of a hot-word list was lost, and when the lists were first read without it."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261129_1440"
down_revision: str | None = "20261129_1130"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("vocabularies", sa.Column("lost_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("vocabularies", sa.Column("absent_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("vocabularies", "absent_since")
    op.drop_column("vocabularies", "lost_at")
