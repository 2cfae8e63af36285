"""Add indexes for the filters of job lists: by metadata, and by any status but succeeded."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261123_1200"
down_revision: str | None = "20261123_1000"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Both keep writers of jobs waiting while they are built: 0.7 s for 300,000 jobs.
    op.create_index(
        "ix_jobs_unusual",
        "jobs",
        ["client_id", sa.literal_column("id DESC")],
        unique=False,
        postgresql_where=sa.text("status <> 'succeeded'"),
    )
    op.create_index(
        "ix_jobs_metadata",
        "jobs",
        ["metadata"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_metadata", table_name="jobs")
    op.drop_index("ix_jobs_unusual", table_name="jobs")
