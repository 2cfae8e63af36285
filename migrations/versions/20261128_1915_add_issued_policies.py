"""Add the policies with which clients upload files by themselves, and the URLs of files as they were given."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261128_1915"
down_revision: str | None = "20261128_1910"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("files", sa.Column("given_url", sa.Text(), nullable=True))
    op.create_table(
        "issued_policies",
        sa.Column("upload_dir", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_issued_policies_client_id_clients")),
        sa.PrimaryKeyConstraint("upload_dir", name=op.f("pk_issued_policies")),
    )
    op.create_index("ix_issued_policies_expires_at", "issued_policies", ["expires_at"])


def downgrade() -> None:
    op.drop_table("issued_policies")
    op.drop_column("files", "given_url")
