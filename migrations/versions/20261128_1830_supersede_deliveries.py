"""Let deliveries be superseded by a retry of their job."""

from collections.abc import Sequence

from alembic import op

from app.schema_changes import replace_check

revision: str = "20261128_1830"
down_revision: str | None = "20261128_1815"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    replace_check(
        "deliveries",
        "ck_deliveries_status",
        "status IN ('pending', 'succeeded', 'failed', 'disabled', 'superseded')",
    )


def downgrade() -> None:
    op.execute("UPDATE deliveries SET status = 'disabled' WHERE status = 'superseded'")
    replace_check("deliveries", "ck_deliveries_status", "status IN ('pending', 'succeeded', 'failed', 'disabled')")
