"""Add indexes for the filters of job lists: by metadata, and by any status but succeeded."""

from collections.abc import Sequence

from alembic import op

from app.schema_changes import create_index

revision: str = "20261123_1200"
down_revision: str | None = "20261123_1000"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    create_index("ix_jobs_unusual", "jobs (client_id, id DESC) WHERE status <> 'succeeded'")
    create_index("ix_jobs_metadata", "jobs USING gin (metadata jsonb_path_ops)")


def downgrade() -> None:
    op.drop_index("ix_jobs_metadata", table_name="jobs")
    op.drop_index("ix_jobs_unusual", table_name="jobs")
