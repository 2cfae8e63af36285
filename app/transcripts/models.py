"""Tables of transcripts: list columns, and the bodies: upstream's bytes unchanged and the document as it is served."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, Text, text
from sqlalchemy.orm import Mapped, MappedAsDataclass, mapped_column

from app.db import Base
from app.identifiers import new_id

# With the default of 20 %, a purge of a million transcripts leaves 200,000 to read over before a vacuum.
VACUUM_EARLY = {"autovacuum_vacuum_scale_factor": "0.02", "autovacuum_vacuum_insert_scale_factor": "0.05"}


class Transcript(MappedAsDataclass, Base, kw_only=True, eq=False, repr=False):
    """The list columns. The bodies are in `TranscriptBody`, so lists never read them.

    The id and `created_at` are made with the object: the document contains them.
    """

    __tablename__ = "transcripts"
    __table_args__ = (
        Index("ix_transcripts_client", "client_id", text("id DESC")),
        # For lists by model and region (`app.loose_scans`).
        Index("ix_transcripts_model", "client_id", "model", "region", text("id DESC")),
        Index("ix_transcripts_job", "job_id"),
        # With the id: a look-up reads the newest of any number of transcripts of one audio.
        Index("ix_transcripts_audio_key", "audio_key", text("id DESC"), postgresql_where=text("audio_key IS NOT NULL")),
        {"postgresql_with": VACUUM_EARLY},
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=new_id)
    client_id: Mapped[UUID]
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    file_index: Mapped[int] = mapped_column(Integer)
    file_url: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    region: Mapped[str] = mapped_column(Text)
    audio_duration_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime] = mapped_column(default_factory=lambda: datetime.now(UTC))
    # `audio_key` of the client, the model and the URL. None: not found by `reuse`: older than it, or no document.
    audio_key: Mapped[UUID | None] = mapped_column(default=None)


class TranscriptBody(Base):
    """Two gzip bodies, which PostgreSQL stores as they are (EXTERNAL): 20 ms to insert 14.5 MB, 6 ms to read.

    `document_index` is the packed index of `document_gzip` (`seekable_gzip.pack`); NULL for a document of an early
    version until a poller has indexed it (`block_indexing`). A result that is no document has `document_bytes = 0`, and
    only its raw bytes are served.
    """

    __tablename__ = "transcript_bodies"
    __table_args__ = (
        Index(
            "ix_transcript_bodies_unindexed",
            text("transcript_id DESC"),
            postgresql_where=text("document_index IS NULL"),
        ),
        {"postgresql_with": VACUUM_EARLY},
    )

    transcript_id: Mapped[UUID] = mapped_column(ForeignKey("transcripts.id", ondelete="CASCADE"), primary_key=True)
    raw_gzip: Mapped[bytes] = mapped_column(LargeBinary)
    raw_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    raw_bytes: Mapped[int] = mapped_column(BigInteger)
    document_gzip: Mapped[bytes] = mapped_column(LargeBinary)
    document_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    document_bytes: Mapped[int] = mapped_column(BigInteger)
    document_index: Mapped[bytes | None] = mapped_column(LargeBinary)
