"""Finds a hot-word list whose creation had no usable response, so that it does not use up the account's lists unseen.

DashScope gives a list no mark of its request. A list is the one of a row if it is new since the call, has the prefix,
the model and the words of the row, and belongs to no other row. Two lists that fit are equal, so either may be taken.
"""

from collections.abc import Mapping
from uuid import UUID

import structlog
from sqlalchemy.exc import IntegrityError

from app.catalogue.hot_words import HotWord
from app.dashscope.client import DashScope
from app.dashscope.failures import Failure
from app.dashscope.vocabularies import NOT_FOUND
from app.db import Sessions, transaction
from app.vocabularies.models import Vocabulary, VocabularyState
from app.vocabularies.service import forget_unsure, known_ids, store_id, unsure_vocabularies

log = structlog.get_logger()


async def reconcile(
    sessions: Sessions, upstream: DashScope, row: Vocabulary, *, state: VocabularyState = VocabularyState.FOUND
) -> Vocabulary | Failure | None:
    """The row with its id, in `state`; None if DashScope does not show the list; a Failure if that is not known."""
    listed = await upstream.list_vocabularies()
    if isinstance(listed, Failure):
        return listed
    async with transaction(sessions) as session:
        others = await known_ids(session, row.account)
    words = [HotWord(**word) for word in row.vocabulary]
    for each in listed:
        if each.id in others or each.id in row.known_ids or not each.id.startswith(f"vocab-{row.prefix}-"):
            continue
        found = await upstream.query_vocabulary(each.id)
        if isinstance(found, Failure):
            if found.code == NOT_FOUND:
                continue
            return found
        if found.equals(row.target_model, words) and (
            adopted := await adopt(sessions, row.id, each.id, state=state, status=found.status)
        ):
            log.warning("hot-word list found after a lost response", vocabulary=each.id, account=row.account)
            return adopted
    return None


async def adopt(
    sessions: Sessions, row_id: UUID, vocabulary_id: str, *, state: VocabularyState, status: str
) -> Vocabulary | None:
    """The row, now with its id; None if another row has the id, or the row is gone."""
    try:
        async with transaction(sessions) as session:
            return await store_id(session, row_id, vocabulary_id, state=state, status=status)
    except IntegrityError:
        return None


async def reconcile_all(
    sessions: Sessions, upstreams: Mapping[str, DashScope], *, client_id: UUID | None = None
) -> None:
    """Reconcile all rows without an id, or those of one client. Rows that DashScope had no list for are deleted."""
    async with transaction(sessions) as session:
        rows = await unsure_vocabularies(session, client_id=client_id)
    for row in rows:
        if row.account not in upstreams:
            continue
        found = await reconcile(sessions, upstreams[row.account], row)
        if found is None:
            async with transaction(sessions) as session:
                await forget_unsure(session, row.id)
