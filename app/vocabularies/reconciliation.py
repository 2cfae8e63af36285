"""Finds a hot-word list whose creation had no usable response, so that it does not use up the account's lists unseen.

DashScope gives a list no mark of its request. A list is the one of a row if it is new since the call, has the prefix,
the model and the words of the row, and belongs to no other row. Two lists that fit are equal, so either may be taken.

A reading may lack a list that DashScope has: it comes from a replica that is behind, or not all pages could be read. So
only two readings of all lists show that the account has none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

import structlog
from sqlalchemy.exc import IntegrityError

from app.catalogue.hot_words import HotWord
from app.dashscope.client import DashScope
from app.dashscope.failures import Failure
from app.dashscope.vocabularies import ListedVocabulary, VocabularyReading
from app.db import Sessions, transaction
from app.vocabularies import service
from app.vocabularies.models import Vocabulary, VocabularyState

# Lists that may be the one of a row. An account has as many of one prefix and a few minutes only if its rows are wrong.
MAX_CANDIDATES = 20

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Waits:
    """Times in seconds. Tests pass shorter ones."""

    min_lost_s: float = 2.0
    """DashScope shows a new list after this time. Readings before that do not show its absence."""
    min_absent_s: float = 2.0
    """Between two readings, which must both lack the list before a second one is made."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why the account may have the list although it was not found."""

    reason: str


async def reconcile(
    sessions: Sessions, upstream: DashScope, row: Vocabulary, *, state: VocabularyState = VocabularyState.FOUND
) -> Vocabulary | Failure | Doubt | None:
    """Read the account's lists once, and look for the list of the row.

    Returns the row with its id, in `state`; None if this reading does not have the list; a Doubt if it may have the
    list; a Failure if the lists cannot be read. Ten minutes after the creation, a doubt counts as None.
    """
    reading = await upstream.list_vocabularies()
    if isinstance(reading, Failure):
        return reading
    async with transaction(sessions) as session:
        others = await service.known_ids(session, row.account)
    words = [HotWord(**word) for word in row.vocabulary]
    candidates = list(islice(_candidates(reading, row, others), MAX_CANDIDATES + 1))
    doubt = "too many lists may be the one of the request" if len(candidates) > MAX_CANDIDATES else reading.gap
    for each in candidates[:MAX_CANDIDATES]:
        found = await upstream.query_vocabulary(each.id)
        if isinstance(found, Failure):
            # A response that the list does not exist counts too: the query may be behind the list.
            doubt = f"a list that may be the one of the request cannot be read: {found.message}"
        elif found.equals(row.target_model, words) and (
            adopted := await adopt(sessions, row.id, each.id, state=state, status=found.status)
        ):
            log.warning("hot-word list found after a lost response", vocabulary=each.id, account=row.account)
            return adopted
    if doubt is None or row.created_at < datetime.now(UTC) - service.UNSURE_FOR:
        return None
    return Doubt(doubt)


def _candidates(reading: VocabularyReading, row: Vocabulary, others: set[str]) -> Iterator[ListedVocabulary]:
    """The lists that may be the one of the row, by their id and time."""
    until = row.lost_at or row.created_at + service.CREATION_TAKES
    for each in reading.lists:
        is_known = each.id in others or each.id in row.known_ids
        if not is_known and each.id.startswith(f"vocab-{row.prefix}-") and each.made_within(row.created_at, until):
            yield each


async def adopt(
    sessions: Sessions, row_id: UUID, vocabulary_id: str, *, state: VocabularyState, status: str
) -> Vocabulary | None:
    """The row, now with its id; None if another row has the id, or the row is gone."""
    try:
        async with transaction(sessions) as session:
            return await service.store_id(session, row_id, vocabulary_id, state=state, status=status)
    except IntegrityError:
        return None


async def note_absence(sessions: Sessions, row: Vocabulary, waits: Waits) -> float:
    """The seconds until the next reading may show that DashScope has no list for the row. 0: this one has shown it."""
    async with transaction(sessions) as session:
        return await service.note_absence(session, row.id, min_lost_s=waits.min_lost_s, min_absent_s=waits.min_absent_s)


async def reconcile_all(
    sessions: Sessions, upstreams: Mapping[str, DashScope], *, client_id: UUID | None = None
) -> None:
    """Reconcile all rows without an id, or those of one client. Rows that DashScope had no list for are deleted."""
    async with transaction(sessions) as session:
        rows = await service.unsure_vocabularies(session, client_id=client_id)
    for row in rows:
        if row.account not in upstreams:
            continue
        found = await reconcile(sessions, upstreams[row.account], row)
        if found is None and await note_absence(sessions, row, Waits()) <= 0:
            async with transaction(sessions) as session:
                await service.forget_unsure(session, row.id)
