"""Let deliveries be superseded by a retry of their job."""

from collections.abc import Sequence

from alembic import op

revision: str = "20261128_1830"
down_revision: str | None = "20261128_1815"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    _allow("status IN ('pending', 'succeeded', 'failed', 'disabled', 'superseded')")


def downgrade() -> None:
    op.execute("UPDATE deliveries SET status = 'disabled' WHERE status = 'superseded'")
    _allow("status IN ('pending', 'succeeded', 'failed', 'disabled')")


def _allow(condition: str) -> None:
    op.drop_constraint(op.f("ck_deliveries_status"), "deliveries", type_="check")
    op.create_check_constraint(op.f("ck_deliveries_status"), "deliveries", condition)
