"""Keep when the last calls of each budget left their processes."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision: str = "20261129_1510"
down_revision: str | None = "20261129_1440"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    column: sa.Column[list[datetime]] = sa.Column(
        "departures", sa.ARRAY(sa.DateTime(timezone=True)), server_default="{}", nullable=False
    )
    op.add_column("budgets", column)


def downgrade() -> None:
    op.drop_column("budgets", "departures")
