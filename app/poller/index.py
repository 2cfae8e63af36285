"""Indexing for search what was collected since. Until then a search reads it as it is.

One batch at a time, so that a backlog takes a share of the poller and not all of it; several pollers share the work.
"""

from collections.abc import Collection

from app.db import Sessions, transaction
from app.search.indexing import index_segments
from app.transcripts.storage import segment_old_transcripts


async def index(sessions: Sessions, _accounts: Collection[str]) -> None:
    async with transaction(sessions) as session:
        await index_segments(session)


async def segment_old(sessions: Sessions, _accounts: Collection[str]) -> None:
    async with transaction(sessions) as session:
        await segment_old_transcripts(session)
