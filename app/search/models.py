"""What search reads. A segment with `terms` is in the index; one without is read at each search until it is."""

from uuid import UUID

from sqlalchemy import ARRAY, ForeignKey, Index, Integer, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class TranscriptSegment(Base):
    """`segments` says what `texts` holds, `terms` what is in `terms`. Both are stored apart from the row, as they are:
    a search that polls over thousands of rows reads a few pages, and PostgreSQL does not try to compress numbers.
    """

    __tablename__ = "transcript_segments"
    __table_args__ = (
        Index("ix_transcript_segments_client", "client_id", text("transcript_id DESC"), "number"),
        Index("ix_transcript_segments_unindexed", "client_id", text("transcript_id DESC"), "number",
              postgresql_where=text("terms IS NULL")),
        # A search reads the whole pending list: at 4 MB, as usual, that took 15 ms.
        Index("ix_transcript_segments_terms", "terms", postgresql_using="gin",
              postgresql_with={"gin_pending_list_limit": "1024"}),
        {"postgresql_with": {"toast_tuple_target": "128", "autovacuum_vacuum_scale_factor": "0.05"}},
    )  # fmt: skip

    # The tables of transcripts belong to the room above.
    transcript_id: Mapped[UUID] = mapped_column(ForeignKey("transcripts.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    client_id: Mapped[UUID]
    # None: of a transcript from before there was search, to be made out of its document.
    texts: Mapped[bytes | None] = mapped_column(LargeBinary)
    terms: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
