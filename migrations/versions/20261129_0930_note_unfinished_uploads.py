"""Note the files that are being sent to the gateway's own store, to delete those that a killed process left there."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261129_0930"
down_revision: str | None = "20261129_0915"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "unfinished_uploads",
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("object_key", name=op.f("pk_unfinished_uploads")),
    )


def downgrade() -> None:
    op.drop_table("unfinished_uploads")
