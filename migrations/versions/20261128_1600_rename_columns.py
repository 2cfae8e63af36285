"""Rename columns to the terms that the code and the documents use."""

from collections.abc import Sequence

from alembic import op

revision: str = "20261128_1600"
down_revision: str | None = "20261128_0900"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_COLUMNS = (
    ("jobs", "region_asked", "requested_region"),
    ("files", "lane", "group_key"),
    ("tasks", "look_at", "next_poll_at"),
    ("tasks", "looks", "polls"),
    ("tasks", "trouble", "last_error"),
    ("tasks", "dropped_urls", "canceled_urls"),
    ("turns", "served", "last_served_us"),
    ("budgets", "pace", "current_rate"),
    ("budgets", "paced_at", "rate_changed_at"),
    ("deliveries", "tries", "failures_in_schedule"),
)


def upgrade() -> None:
    for table, old, new in _COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    op.execute("ALTER INDEX ix_tasks_look RENAME TO ix_tasks_poll")
    op.execute("ALTER INDEX ix_deliveries_lane RENAME TO ix_deliveries_destination")
    op.rename_table("watches", "list_leases")
    op.execute("ALTER INDEX pk_watches RENAME TO pk_list_leases")


def downgrade() -> None:
    op.execute("ALTER INDEX pk_list_leases RENAME TO pk_watches")
    op.rename_table("list_leases", "watches")
    op.execute("ALTER INDEX ix_deliveries_destination RENAME TO ix_deliveries_lane")
    op.execute("ALTER INDEX ix_tasks_poll RENAME TO ix_tasks_look")
    for table, old, new in _COLUMNS:
        op.alter_column(table, new, new_column_name=old)
