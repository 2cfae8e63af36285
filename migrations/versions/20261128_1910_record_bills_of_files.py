"""Record what upstream billed for each file: seconds or tokens, and the cost."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261128_1910"
down_revision: str | None = "20261128_1830"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("files", sa.Column("billed_s", sa.Numeric(14, 3), nullable=True))
    op.add_column("files", sa.Column("input_tokens", sa.Integer(), nullable=True))
    op.add_column("files", sa.Column("output_tokens", sa.Integer(), nullable=True))
    op.add_column("files", sa.Column("cost", sa.Numeric(18, 9), nullable=True))


def downgrade() -> None:
    for name in ("cost", "output_tokens", "input_tokens", "billed_s"):
        op.drop_column("files", name)
