"""The table of the search index. A segment without `terms` is not indexed yet; every search reads it until it is."""

from uuid import UUID

from sqlalchemy import ARRAY, ForeignKey, Index, Integer, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class TranscriptSegment(Base):
    """A run of sentences. The contents of `texts` and `terms` are defined in `app.search.segments`.

    A page has about eight segments of a minute of speech. So the segments of a client are read in the order of their
    ids, page by page, or few of them by the index of terms: see `searching`. PostgreSQL does not try to compress both
    columns, since it would gain nothing, and stores those of rows over 2 kB out of line.
    """

    __tablename__ = "transcript_segments"
    __table_args__ = (
        Index("ix_transcript_segments_client", "client_id", text("transcript_id DESC"), "number"),
        Index("ix_transcript_segments_unindexed", "client_id", text("transcript_id DESC"), "number",
              postgresql_where=text("terms IS NULL AND texts IS NOT NULL")),
        # Apart from the unindexed segments, which every search reads.
        Index("ix_transcript_segments_placeholders", text("transcript_id DESC"),
              postgresql_where=text("texts IS NULL")),
        # A search reads the whole pending list of the index: with the default of 4 MB that took 15 ms.
        Index("ix_transcript_segments_terms", "terms", postgresql_using="gin",
              postgresql_with={"gin_pending_list_limit": "1024"}),
        {"postgresql_with": {"autovacuum_vacuum_scale_factor": "0.05"}},
    )  # fmt: skip

    # Names the table, not the model: `app.transcripts` imports this package.
    transcript_id: Mapped[UUID] = mapped_column(ForeignKey("transcripts.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    client_id: Mapped[UUID]
    # None: placeholder of a transcript that is older than search; its segments are still to be made.
    texts: Mapped[bytes | None] = mapped_column(LargeBinary)
    terms: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
