"""The rows of hot-word lists. All functions run in the caller's transaction, with one statement each."""

import math
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, case, delete, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients.models import Client
from app.errors import NotFound, VocabularyUpdatedRecently
from app.vocabularies.models import Vocabulary, VocabularyState

# DashScope shows the words of an update within this time. Before that, other words are older ones.
UPDATE_SHOWN_AFTER = timedelta(minutes=1)
# DashScope's minimum between two updates of one list.
UPDATE_EVERY = timedelta(minutes=5)
# Longer than the calls of a creation take. After it, the process that made them has died.
CREATION_TAKES = timedelta(minutes=2)
# DashScope's list shows a new entry long before that.
UNSURE_FOR = timedelta(minutes=10)
# Rows that one reconciliation reads.
UNSURE_PER_STEP = 100
# The pause before another attempt if the row of a lost creation has changed meanwhile.
RETRY_S = 0.1

_KNOWN = Vocabulary.vocabulary_id.is_not(None)
_UNSURE = Vocabulary.vocabulary_id.is_(None) & or_(
    Vocabulary.state == VocabularyState.UNSURE, Vocabulary.created_at < func.now() - CREATION_TAKES
)


class NewVocabulary(NamedTuple):
    """A validated request, and the regions that it may go to in order of preference. `words` are as in the table."""

    client_id: UUID
    regions: Sequence[str]
    target_model: str
    prefix: str
    words: list[dict[str, Any]]


class AccountUse(NamedTuple):
    """`known`: the ids of the gateway's lists. `of_revoked`: those of revoked clients. `unsure`: without an id yet."""

    known: set[str]
    of_revoked: int
    unsure: int


async def list_vocabularies(
    session: AsyncSession, client_id: UUID, *, limit: int | None = None, before: UUID | None = None
) -> Sequence[Vocabulary]:
    """Newest first."""
    query = select(Vocabulary).where(Vocabulary.client_id == client_id, _KNOWN)
    if before is not None:
        query = query.where(Vocabulary.id < before)
    return (await session.scalars(query.order_by(Vocabulary.id.desc()).limit(limit))).all()


async def get_vocabulary(session: AsyncSession, client_id: UUID, vocabulary_id: str) -> Vocabulary:
    """Raises NotFound, also for a list of another client."""
    found = await session.scalars(select(Vocabulary).where(*_own(client_id, vocabulary_id)))
    vocabulary = found.one_or_none()
    if vocabulary is None:
        raise _not_found(vocabulary_id)
    return vocabulary


async def find_vocabulary(session: AsyncSession, vocabulary_id: str) -> Vocabulary | None:
    """The list of any client."""
    found = await session.scalars(select(Vocabulary).where(Vocabulary.vocabulary_id == vocabulary_id))
    return found.one_or_none()


async def take_over(session: AsyncSession, new: NewVocabulary) -> Vocabulary | None:
    """A list that an equal request of the client has made, and whose id no response has told."""
    wanted = (
        select(Vocabulary.id)
        .where(_equal(new), Vocabulary.state == VocabularyState.FOUND)
        .order_by(Vocabulary.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    found = await session.scalars(
        update(Vocabulary)
        .where(Vocabulary.id == wanted.scalar_subquery())
        .values(state=VocabularyState.READY)
        .returning(Vocabulary)
    )
    return found.one_or_none()


async def unsure_vocabularies(
    session: AsyncSession, *, equal_to: NewVocabulary | None = None, client_id: UUID | None = None
) -> Sequence[Vocabulary]:
    """Rows that DashScope may have a list for, oldest first: of all clients, of one, or of requests equal to one."""
    query = select(Vocabulary).where(_UNSURE)
    if equal_to is not None:
        query = query.where(_equal(equal_to))
    if client_id is not None:
        query = query.where(Vocabulary.client_id == client_id)
    return (await session.scalars(query.order_by(Vocabulary.id).limit(UNSURE_PER_STEP))).all()


async def count_uncertain(session: AsyncSession, client_id: UUID, accounts: Collection[str]) -> int:
    """The client's creations that are under way or lost, in these accounts."""
    wanted = (Vocabulary.client_id == client_id) & Vocabulary.account.in_(accounts) & ~_KNOWN
    return (await session.execute(select(func.count()).select_from(Vocabulary).where(wanted))).scalar_one()


async def known_ids(session: AsyncSession, account: str) -> set[str]:
    """The ids of the account's lists of all clients."""
    found = await session.scalars(select(Vocabulary.vocabulary_id).where(Vocabulary.account == account, _KNOWN))
    return {vocabulary_id for vocabulary_id in found if vocabulary_id}


async def account_use(session: AsyncSession, account: str) -> AccountUse:
    rows = await session.execute(
        select(Vocabulary.vocabulary_id, Client.revoked_at.is_not(None).label("revoked"))
        .join(Client, Client.id == Vocabulary.client_id)
        .where(Vocabulary.account == account)
    )
    found = rows.all()
    known = [row for row in found if row.vocabulary_id]
    return AccountUse({row.vocabulary_id for row in known}, sum(row.revoked for row in known), len(found) - len(known))


async def store_id(
    session: AsyncSession, row_id: UUID, vocabulary_id: str, *, state: VocabularyState, status: str
) -> Vocabulary | None:
    """The row, now with its id; None if it was deleted or has one. Raises IntegrityError if another row has the id."""
    found = await session.scalars(
        update(Vocabulary)
        .where(Vocabulary.id == row_id, Vocabulary.vocabulary_id.is_(None))
        .values(vocabulary_id=vocabulary_id, state=state, status=status, known_ids=[])
        .returning(Vocabulary)
    )
    return found.one_or_none()


async def mark_unsure(session: AsyncSession, row_id: UUID) -> None:
    await session.execute(
        update(Vocabulary)
        .where(Vocabulary.id == row_id, Vocabulary.vocabulary_id.is_(None))
        .values(state=VocabularyState.UNSURE, lost_at=func.now())
    )


async def note_absence(session: AsyncSession, row_id: UUID, *, min_lost_s: float, min_absent_s: float) -> float:
    """Note that a reading of the account's lists lacked the list of the row.

    Returns the seconds until the next reading, or 0 if DashScope has no list: two readings `min_absent_s` apart, both
    `min_lost_s` after the loss, lacked it.
    """
    lost_at = func.coalesce(Vocabulary.lost_at, Vocabulary.created_at + CREATION_TAKES)
    row = (
        await session.execute(
            select(
                Vocabulary,
                func.extract("epoch", func.now() - lost_at).label("lost_s"),
                func.extract("epoch", func.now() - Vocabulary.absent_since).label("absent_s"),
            )
            .where(Vocabulary.id == row_id, Vocabulary.vocabulary_id.is_(None))
            .with_for_update()
        )
    ).one_or_none()
    if row is None:
        return RETRY_S
    if row.lost_s < min_lost_s:
        return min_lost_s - float(row.lost_s)
    if row.absent_s is None:
        row.Vocabulary.absent_since = func.now()
        return min_absent_s
    return max(0.0, min_absent_s - float(row.absent_s))


async def delete_row(session: AsyncSession, row_id: UUID) -> None:
    await session.execute(delete(Vocabulary).where(Vocabulary.id == row_id))


async def forget_unsure(session: AsyncSession, row_id: UUID) -> None:
    """Delete the row if DashScope has had enough time to show its list."""
    old = Vocabulary.created_at < func.now() - UNSURE_FOR
    await session.execute(delete(Vocabulary).where(Vocabulary.id == row_id, Vocabulary.vocabulary_id.is_(None), old))


async def begin_update(session: AsyncSession, client_id: UUID, vocabulary_id: str) -> tuple[Vocabulary, datetime]:
    """Note an update that begins now. Returns the row and the instant of the update before.

    Two updates at once exclude each other. Raises NotFound, or VocabularyUpdatedRecently with the seconds to wait.
    """
    row = (
        await session.execute(
            select(Vocabulary, func.now().label("now")).where(*_own(client_id, vocabulary_id)).with_for_update()
        )
    ).one_or_none()
    if row is None:
        raise _not_found(vocabulary_id)
    vocabulary, now = row
    before = vocabulary.updated_at
    wait_s = math.ceil((before + UPDATE_EVERY - now).total_seconds())
    if before > vocabulary.created_at and wait_s > 0:
        raise VocabularyUpdatedRecently(
            f"DashScope takes one update of a hot-word list in five minutes; the next one in {wait_s} s.",
            retry_after_s=wait_s,
        )
    vocabulary.updated_at = now
    await session.flush()
    return vocabulary, before


async def undo_update(session: AsyncSession, row_id: UUID, *, before: datetime) -> None:
    await session.execute(update(Vocabulary).where(Vocabulary.id == row_id).values(updated_at=before))


async def store_contents(
    session: AsyncSession, row_id: UUID, *, status: str, words: Sequence[dict[str, Any]] | None = None
) -> Vocabulary | None:
    """Store DashScope's status, and the words if they changed."""
    values: dict[str, Any] = {"status": status} | ({} if words is None else {"vocabulary": words})
    found = await session.scalars(
        update(Vocabulary).where(Vocabulary.id == row_id).values(values).returning(Vocabulary)
    )
    return found.one_or_none()


async def store_shown(
    session: AsyncSession, row_id: UUID, *, status: str, words: Sequence[dict[str, Any]]
) -> Vocabulary | None:
    """Store the status and the words that DashScope shows. The words of a recent update, or of one that runs, stay."""
    is_recent = Vocabulary.updated_at > func.now() - UPDATE_SHOWN_AFTER
    shown = case((is_recent, Vocabulary.vocabulary), else_=literal(words, Vocabulary.vocabulary.type))
    found = await session.scalars(
        update(Vocabulary).where(Vocabulary.id == row_id).values(status=status, vocabulary=shown).returning(Vocabulary)
    )
    return found.one_or_none()


def _own(client_id: UUID, vocabulary_id: str) -> tuple[ColumnElement[bool], ...]:
    return (Vocabulary.vocabulary_id == vocabulary_id, Vocabulary.client_id == client_id)


def _equal(new: NewVocabulary) -> ColumnElement[bool]:
    return (
        (Vocabulary.client_id == new.client_id)
        & Vocabulary.region.in_(new.regions)
        & (Vocabulary.target_model == new.target_model)
        & (Vocabulary.prefix == new.prefix)
        & (Vocabulary.vocabulary == new.words)
    )


def _not_found(vocabulary_id: str) -> NotFound:
    return NotFound(f"There is no hot-word list {vocabulary_id[:128]}.")
