"""Searches over random transcripts, with such small limits that walks, windows and look-ups alternate."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from sqlalchemy import text

from app.clients.service import CurrentClient, create_client
from app.db import Sessions, raw_connection_of, transaction
from app.search import candidates, searching
from app.search.candidates import HitPosition
from app.search.filters import TranscriptFilters
from app.search.matching import matches
from app.search.query import parse
from app.search.searching import search
from tests.rows_read import rows_read
from tests.search.search_case import segmented, sentences
from tests.search.segment_store import add_transcripts

# Each word is half as frequent as the one before it.
WORDS = ["退款", "好", "refunds", "退货", "quarterly", "款项", "送", "货送"]
WEIGHTS = [2.0**-number for number in range(len(WORDS))]
QUERIES = ["退款", "退", "货", "refund", '"refunds"', '"quarterly refunds"', "退款 quarterly", "送货", "货 送", "黑"]
# Of each batch.
TRANSCRIPTS = 40
LIMITS = {"FIRST_WALK": 4, "WALK": 8, "READ_BATCH": 3, "FEW": 5, "WINDOWS": (8, 24)}


START = datetime.now(UTC)


class Spoken(NamedTuple):
    """A stored transcript. `minute`: when it was created, after START."""

    transcript_id: UUID
    model: str
    channel: dict[str, Any]
    minute: int = 0

    def hits(self, q: str) -> list[HitPosition]:
        return [
            HitPosition(self.transcript_id, number, match.row)
            for number, segment in enumerate(segmented(self.channel))
            for match in matches(segment, parse(q))
        ]


def speech(chance: random.Random) -> dict[str, Any]:
    """One to three sentences. One in ten is so long that the transcript has a second segment."""
    texts = [" ".join(chance.choices(WORDS, WEIGHTS, k=3)) for _ in range(chance.randint(1, 3))]
    return sentences(*(text + "今" * 2990 * (chance.random() < 0.1) for text in texts))


async def store(sessions: Sessions, chance: random.Random) -> tuple[UUID, list[Spoken]]:
    """The transcripts of a client, newest first. Another client has as many."""
    async with transaction(sessions) as session:
        ours, theirs = [(await create_client(session, name))[0].id for name in ("ours", "theirs")]
    stored: list[Spoken] = []
    for client_id, model, indexed in (
        (ours, "fun-asr", True), (theirs, "fun-asr", True), (ours, "paraformer-v2", True), (ours, "fun-asr", False)
    ):  # fmt: skip
        channels = [speech(chance) for _ in range(TRANSCRIPTS)]
        ids = await add_transcripts(sessions, client_id, [[each] for each in channels], indexed=indexed, model=model)
        if client_id == ours:
            stored += map(Spoken, ids, [model] * TRANSCRIPTS, channels)
    stored.sort(key=lambda each: each.transcript_id)
    # About in the order of the ids, as when the clock was set back a little now and then.
    timed = [each._replace(minute=place + chance.choice([0, 0, -9])) for place, each in enumerate(stored)]
    await set_times(sessions, {each.transcript_id: each.minute for each in timed})
    return ours, timed[::-1]


async def set_times(sessions: Sessions, minutes: dict[UUID, int]) -> None:
    async with transaction(sessions) as session:
        times = [{"id": transcript_id, "at": at(minute)} for transcript_id, minute in minutes.items()]
        await session.execute(text("UPDATE transcripts SET created_at = :at WHERE id = :id"), times)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def any_filters(chance: random.Random) -> tuple[str | None, int | None, int | None]:
    """A model, and the minutes after which and before which a transcript was created."""
    model = chance.choice([None, "fun-asr", "paraformer-v2"])
    after, before = (chance.choice([None, chance.randrange(3 * TRANSCRIPTS)]) for _ in range(2))
    return model, after, before


async def all_pages(
    sessions: Sessions, client_id: UUID, q: str, filters: TranscriptFilters, limit: int
) -> list[HitPosition]:
    hits: list[HitPosition] = []
    position: HitPosition | None = HitPosition()
    while position is not None:
        async with transaction(sessions) as session:
            page = await search(session, client_id, parse(q), filters, limit=limit, start=position)
        assert len(page.hits) <= limit
        hits += [HitPosition(hit.transcript_id, hit.number, hit.match.row) for hit in page.hits]
        position = page.next
    return hits


@pytest.mark.parametrize("seed", range(3))
async def test_pages_have_every_match_once_and_in_order(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    for name, value in LIMITS.items():
        monkeypatch.setattr(candidates, name, value)
    monkeypatch.setattr(candidates, "MAX_IN_WINDOW", [2, 6, 1000][seed])
    monkeypatch.setattr(searching, "MAX_READ", [1000, 5, 20][seed])
    monkeypatch.setattr(searching, "LOOK_UP_S", [60, 60, 0][seed])
    client_id, stored = await store(sessions, chance)
    for q in chance.sample(QUERIES, k=len(QUERIES)):
        (model, after, before), limit = any_filters(chance), chance.choice([2, 5, 50])
        wanted = [
            hit
            for each in stored
            if model in (None, each.model)
            if (after is None or each.minute > after) and (before is None or each.minute < before)
            for hit in each.hits(q)
        ]
        filters = TranscriptFilters(
            model=model,
            created_after=None if after is None else at(after),
            created_before=None if before is None else at(before),
        )
        assert await all_pages(sessions, client_id, q, filters, limit) == wanted, (q, model, after, before, limit)


@pytest.mark.new_connections
async def test_a_search_in_a_time_reads_no_segments_of_other_times(
    sessions: Sessions, api_client: tuple[CurrentClient, str]
) -> None:
    client_id = api_client[0].id
    ids = await add_transcripts(sessions, client_id, [[sentences("退款")]] * TRANSCRIPTS)
    await set_times(sessions, {each: minute for minute, each in enumerate(sorted(ids))})
    filters = TranscriptFilters(created_after=at(5), created_before=at(16))
    async with transaction(sessions) as session:
        raw = await raw_connection_of(session)
        before = await rows_read(raw, "transcript_segments")
        page = await search(session, client_id, parse("退款"), filters, limit=50, start=HitPosition())
        read = await rows_read(raw, "transcript_segments") - before
    assert [hit.transcript_id for hit in page.hits] == sorted(ids)[15:5:-1]
    assert read == 10
