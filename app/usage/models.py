"""The usage table. Rows are only ever added, so they outlive jobs, transcripts and clients."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, Integer, Numeric, SmallInteger, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class Usage(Base):
    """A file that has been transcribed or reused, or a correction of its bill, which has `files` = 0.

    The row is written by the statement that stores the new status of the file, or the bill of a canceled file, so there
    is one exactly if that is committed. A file that is transcribed again after a retry has a second row.
    """

    __tablename__ = "usage"
    __table_args__ = (
        Index("ix_usage_client", "client_id", "at"),
        # For reports over all clients. Rows are in the order of time, so a few pages of this index serve for all.
        Index("ix_usage_at", "at", postgresql_using="brin"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    # No foreign keys: the rows outlive what they are about.
    client_id: Mapped[UUID]
    # The name of the client at that time.
    client: Mapped[str] = mapped_column(Text)
    job_id: Mapped[UUID]
    file_index: Mapped[int] = mapped_column(Integer)
    model: Mapped[str] = mapped_column(Text)
    region: Mapped[str] = mapped_column(Text)
    # The account that was billed. None for a reused file.
    account: Mapped[str | None] = mapped_column(Text)
    # That of the job.
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata")
    files: Mapped[int] = mapped_column(SmallInteger)
    audio_ms: Mapped[int] = mapped_column(BigInteger)
    billed_s: Mapped[Decimal] = mapped_column(Numeric(14, 3))
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[Decimal] = mapped_column(Numeric(18, 9))
    currency: Mapped[str] = mapped_column(Text)
