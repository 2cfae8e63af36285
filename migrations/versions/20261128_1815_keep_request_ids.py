"""Keep the request id of upstream's response to a submit: Alibaba's support asks for it."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261128_1815"
down_revision: str | None = "20261128_1810"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("upstream_request_id", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("tasks", "upstream_request_id")
