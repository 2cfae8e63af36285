"""Order ended tasks by the time of their turn instead of their submit."""

from collections.abc import Sequence

from app.schema_changes import replace_index

revision: str = "20261128_2010"
down_revision: str | None = "20261128_2000"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    _index_ended("next_poll_at")


def downgrade() -> None:
    _index_ended("submitted_at")


def _index_ended(ordered_by: str) -> None:
    replace_index("ix_tasks_ended", f"tasks (account, {ordered_by}) WHERE state = 'running' AND ended_at IS NOT NULL")
