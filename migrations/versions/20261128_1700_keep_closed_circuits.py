"""Keep circuits after they close, count refusals of single files, and allow blockages without an account."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261128_1700"
down_revision: str | None = "20261128_1600"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("circuits", sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("files", sa.Column("refusals", sa.SmallInteger(), server_default="0", nullable=False))
    op.alter_column("blockages", "account", nullable=True)


def downgrade() -> None:
    # The older form shows the account as it is, so it needs one.
    op.execute("DELETE FROM blockages WHERE account IS NULL")
    op.alter_column("blockages", "account", nullable=False)
    op.drop_column("files", "refusals")
    # The older form takes every row for an open circuit.
    op.execute("DELETE FROM circuits WHERE closed_at IS NOT NULL")
    op.drop_column("circuits", "closed_at")
