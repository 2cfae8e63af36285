"""The table of hot-word lists."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.identifiers import new_id


class VocabularyState(StrEnum):
    """How far the creation of a list is. DashScope does not deduplicate creations, and a response may be lost."""

    CREATING = "creating"  # the call is under way, or its process has died
    UNSURE = "unsure"  # the response was lost: DashScope may have made the list
    FOUND = "found"  # DashScope has the list, and no response told its client
    READY = "ready"


class Vocabulary(Base):
    """A hot-word list of a client. It belongs to one account, and serves jobs with `target_model` alone.

    The row is inserted before DashScope is called, so that a list is found again whose id no process has learnt.
    """

    __tablename__ = "vocabularies"
    __table_args__ = (
        CheckConstraint("(vocabulary_id IS NULL) = (state IN ('creating', 'unsure'))", name="id_is_known"),
        Index("ix_vocabularies_client", "client_id", text("id DESC")),
        Index("uq_vocabularies_vocabulary_id", "vocabulary_id", unique=True),
        Index("ix_vocabularies_unsure", "id", postgresql_where=text("vocabulary_id IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    # DashScope's id, which clients use.
    vocabulary_id: Mapped[str | None] = mapped_column(Text)
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"))
    region: Mapped[str] = mapped_column(Text)
    account: Mapped[str] = mapped_column(Text)
    target_model: Mapped[str] = mapped_column(Text)
    prefix: Mapped[str] = mapped_column(Text)
    # `[{"text", "weight", "lang"?}]`
    vocabulary: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    # DashScope's status, or MISSING.
    status: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, default=VocabularyState.CREATING)
    # The ids of the account's lists before the call: one of them is not the list of this row.
    known_ids: Mapped[list[str]] = mapped_column(JSONB)
    # DashScope may have made the list between `created_at` and `lost_at`, when the call was given up. NULL while the
    # call is under way.
    lost_at: Mapped[datetime | None]
    # When a reading of all lists first lacked the list. Later ones have to lack it too.
    absent_since: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Equal to `created_at` until the first update.
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
