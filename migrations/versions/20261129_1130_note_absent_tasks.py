"""Keep when the task list was first read without the task of a lost submit."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261129_1130"
down_revision: str | None = "20261129_0930"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("absent_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("tasks", "absent_since")
