"""Keep an index of the blocks of stored documents. The poller writes that of the documents that are there already."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "20261123_1500"
down_revision: str | None = "20261123_1300"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("transcript_bodies", sa.Column("document_index", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    # The documents may stay as they are: they are ordinary gzip.
    op.drop_column("transcript_bodies", "document_index")
