"""`python -m bench.search`: recall, precision and latency of searches in 20,000 transcripts of 1,500 characters.

Real PostgreSQL and the gateway's own code, without HTTP and through a process of `python -m app api`.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import aiohttp
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.clients.service import create_client
from app.db import Sessions, create_engine, create_sessions, transaction
from app.identifiers import new_id
from app.logs import configure_logging
from app.queue.models import Job
from app.search.candidates import HitPosition
from app.search.filters import TranscriptFilters
from app.search.indexing import index_segments
from app.search.query import parse
from app.search.searching import Hit, search
from app.search.segments import Segments
from app.transcripts.models import Transcript
from app.transcripts.normalise import Document, normalise
from app.transcripts.storage import PreparedTranscript, insert_transcripts, prepare_transcript
from bench.gateway import Stage, stage
from bench.processes import running
from bench.statistics import percentile
from bench.synthetic_speech import COMMON, RARE, WORDS, Speaker, Speech

TRANSCRIPTS, CHARACTERS = 20_000, 1500
SMALL_CLIENTS_EVERY = 1000  # one in so many is the small client's
RARE_MODEL_EVERY = 500
COLLECTED, COLLECTED_AT_ONCE = 2000, 10
PHRASES, PLANTED_EACH = 20, 5  # of each kind
ROUNDS = 5
TARGET_MS, TARGET_SLOWDOWN = 100.0, 0.20
TSVECTOR_ROWS = 2000


@dataclass(slots=True)
class Client:
    id: UUID
    token: str
    job_id: UUID
    speeches: dict[UUID, Speech] = field(default_factory=dict)  # by transcript


@dataclass(frozen=True, slots=True)
class Line:
    """Queries of one kind: their total number of hits and the time of each request."""

    kind: str
    hits: int
    ms: Sequence[float]
    over_http: Sequence[float] = ()
    recall: float | None = None
    precision: float | None = None


def main() -> None:
    configure_logging("error")
    asyncio.run(_bench())


async def _bench() -> None:
    async with stage() as on:
        slowdown = await _measure_collecting(on)
        url = await on.database()
        engine = create_engine(url)
        sessions = create_sessions(engine)
        big, small, planted = await _fill(sessions)
        await _show_sizes(sessions)
        lines: list[Line] = []
        print(_HEADINGS)
        async with _api(on, url) as http:
            async for line in _measure(sessions, http, big, small, planted):
                lines.append(line)
                _show(line)
        _judge(lines, slowdown)
        await _compare_with_tsvector(on, engine)
        await engine.dispose()


async def _measure_collecting(on: Stage) -> float:
    """The additional CPU of Python and PostgreSQL to store a searchable result, as a share."""
    sessions = create_sessions(create_engine(await on.database()))
    client = await _new_client(sessions, "collecting")
    speaker = Speaker()
    results = [speaker.speech(CHARACTERS).document("https://example.com/a.wav") for _ in range(COLLECTED)]
    cost = {"with": [0.0, 0.0], "without": [0.0, 0.0], "index": [0.0, 0.0]}
    for number, at in enumerate(range(0, COLLECTED, COLLECTED_AT_ONCE)):
        way = ("with", "without")[number % 2]
        spent, since = cost[way], _cpu_s(on)
        documents = [normalise(raw, file_url="u", family="fun-asr") for raw in results[at : at + COLLECTED_AT_ONCE]]
        prepared = [_prepare(client, document, raw=results[at]) for document in documents]
        if way == "without":
            prepared = [replace(each, segments=()) for each in prepared]
        async with transaction(sessions) as session:
            await insert_transcripts(session, prepared)
        now = _cpu_s(on)
        # `prepare_transcript` always creates segments: their cost is measured separately and subtracted.
        spent[0] += now[0] - since[0] - (_segments_cpu_s(documents) if way == "without" else 0)
        spent[1] += now[1] - since[1]
    since = _cpu_s(on)
    await _index(sessions)
    cost["index"] = [now - before for now, before in zip(_cpu_s(on), since, strict=True)]
    each = {way: [1e3 * s / (COLLECTED / 2) for s in spent] for way, spent in cost.items()}
    for way, label in (("without", "without search"), ("with", "with segments"), ("index", "indexing, afterwards")):
        print(f"{label:22} {each[way][0]:.2f} ms of Python, {each[way][1]:.2f} ms of PostgreSQL a transcript")
    return sum(cost["with"]) / sum(cost["without"]) - 1


def _segments_cpu_s(documents: Iterable[Document]) -> float:
    """CPU of the segments, without parsing the sentences, which the transcript needs anyway."""
    said = [document.transcripts for document in documents]
    since = time.process_time()
    for channels in said:
        segments = Segments()
        for channel in channels:
            segments.add_channel(channel)
        segments.finish()
    return time.process_time() - since


def _cpu_s(on: Stage) -> tuple[float, float]:
    return time.process_time(), on.postgres_cpu_s()


async def _new_client(sessions: Sessions, name: str) -> Client:
    job_id = new_id()
    job = {"model": "fun-asr", "region": "beijing", "requested_region": "auto", "parameters": {}, "metadata_": {}}
    async with transaction(sessions) as session:
        client, token = await create_client(session, name)
        await session.execute(insert(Job).values(id=job_id, client_id=client.id, files_total=1, files_queued=1, **job))
        return Client(client.id, token, job_id)


def _prepare(client: Client, document: Document, *, raw: bytes = b"{}", model: str = "fun-asr") -> PreparedTranscript:
    return prepare_transcript(
        Transcript(
            client_id=client.id,
            job_id=client.job_id,
            file_index=0,
            file_url="https://example.com/a.wav",
            model=model,
            region="beijing",
        ),
        raw=raw,
        document=document,
    )


async def _fill(sessions: Sessions) -> tuple[Client, Client, dict[str, list[str]]]:
    big, small = await _new_client(sessions, "big"), await _new_client(sessions, "small")
    speaker = Speaker(seed=11)
    planted = _phrases(speaker)
    every = [phrase for phrases in planted.values() for phrase in phrases]
    step = TRANSCRIPTS // (len(every) * PLANTED_EACH)
    for at in range(0, TRANSCRIPTS, 100):
        batch: list[PreparedTranscript] = []
        for number in range(at, at + 100):
            client = small if number % SMALL_CLIENTS_EVERY == 0 else big
            said = [every[number // step % len(every)]] if number % step == 1 else []
            speech = speaker.speech(CHARACTERS, said)
            document = normalise(speech.document("u"), file_url="u", family="fun-asr")
            model = "paraformer-v2" if number % RARE_MODEL_EVERY == 3 else "fun-asr"
            batch.append(_prepare(client, document, model=model))
            client.speeches[batch[-1].id] = speech
        async with transaction(sessions) as session:
            await insert_transcripts(session, batch)
    await _index(sessions)
    return big, small, planted


def _phrases(speaker: Speaker) -> dict[str, list[str]]:
    """Phrases of rare and of common characters and words. Chance occurrences count too."""
    return {
        "1 character": RARE[:PHRASES],
        "2 characters": [speaker.characters(2) for _ in range(PHRASES)],
        "4 characters": [speaker.characters(4) for _ in range(PHRASES)],
        "English phrase": [f'"{" ".join(speaker.words(3))}"' for _ in range(PHRASES)],
        "iPhone手机": [f"{WORDS[40 + n]}{speaker.characters(2)}" for n in range(PHRASES)],
    }


async def _index(sessions: Sessions) -> None:
    while True:
        async with transaction(sessions) as session:
            if not await index_segments(session):
                return


async def _show_sizes(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await session.execute(text("ANALYZE transcript_segments"))
        sizes = (await session.execute(_SIZES)).one()
    print(f"{TRANSCRIPTS:,} transcripts: segments {sizes.heap:.0f} MB, index {sizes.terms:.0f} MB")


@asynccontextmanager
async def _api(on: Stage, database_url: str) -> AsyncIterator[aiohttp.ClientSession]:
    settings = {"DATABASE_URL": database_url, "PORT": "0", "API_TOKEN": "a-token-of-the-benchmark"}
    async with running("api", on.new_folder("api"), "-m", "app", "api", **settings) as api:
        url = await api.url()
        async with aiohttp.ClientSession(base_url=url) as http:
            yield http


async def _measure(
    sessions: Sessions, http: aiohttp.ClientSession, big: Client, small: Client, planted: dict[str, list[str]]
) -> AsyncIterator[Line]:
    for kind, phrases in planted.items():
        yield await _planted(sessions, http, kind, phrases, big)
    common = [*COMMON[:10], *(f"{a}{b}" for a, b in zip(COMMON[:5], COMMON[5:10], strict=True)), "the", "o", "的 the"]
    yield await _line(sessions, http, "common", big, common * ROUNDS)
    yield await _line(sessions, http, "common words, rare together", big, [COMMON[n : n + 4] for n in range(20)])
    yield await _line(sessions, http, "nothing has it", big, ["魑魅魍魉", "xylophone", '"of of of of"'] * ROUNDS)
    yield await _line(sessions, http, "longest", big, ["的一是了" * 50, " ".join("etaoinshrd" * 10)[:200]] * ROUNDS)
    yield await _line(sessions, http, "small client, common", small, common * ROUNDS)
    yield await _line(sessions, http, "small client, rare", small, RARE[:PHRASES])
    model = TranscriptFilters(model="paraformer-v2")
    yield await _line(sessions, http, "common, of a rare model", big, common * ROUNDS, filters=model)
    other = TranscriptFilters(job_id=small.job_id)
    yield await _line(sessions, http, "common, of no job of its", big, common * ROUNDS, filters=other)
    yield await _deep(sessions, http, big)


async def _planted(
    sessions: Sessions, http: aiohttp.ClientSession, kind: str, phrases: Sequence[str], client: Client
) -> Line:
    """Recall and precision over all pages, compared with a plain scan of all transcripts."""
    right = found = wanted = 0
    for phrase in phrases:
        there = _scan(client, phrase)
        hits = {(hit.transcript_id, hit.match.begin_time) for hit in await _all_pages(sessions, client, phrase)}
        right, found, wanted = right + len(hits & there), found + len(hits), wanted + len(there)
    timed = await _line(sessions, http, kind, client, phrases)
    return replace(timed, recall=right / wanted, precision=right / found)


def _scan(client: Client, phrase: str) -> set[tuple[UUID, int]]:
    words = phrase.strip('"')
    ahead = r"(?<![a-z])" if words[0].isascii() else ""
    pattern = re.compile(rf"\b{words}\b" if words.isascii() else ahead + words)
    return {
        (transcript_id, number * 1000)
        for transcript_id, speech in client.speeches.items()
        if words in speech.text
        for number, sentence in enumerate(speech.sentences)
        if pattern.search(sentence)
    }


async def _all_pages(sessions: Sessions, client: Client, q: str) -> list[Hit]:
    hits: list[Hit] = []
    position: HitPosition | None = HitPosition()
    while position is not None:
        async with transaction(sessions) as session:
            found = await search(session, client.id, parse(q), TranscriptFilters(), limit=200, start=position)
        # Skip correct hits across two sentences, which the plain scan does not find.
        hits += [hit for hit in found.hits if hit.match.end_time - hit.match.begin_time < 1000]
        position = found.next
    return hits


async def _line(
    sessions: Sessions,
    http: aiohttp.ClientSession,
    kind: str,
    client: Client,
    queries: Sequence[str],
    *,
    filters: TranscriptFilters = TranscriptFilters(),  # frozen
) -> Line:
    hits = 0

    async def straight(q: str) -> None:
        nonlocal hits
        async with transaction(sessions) as session:
            found = await search(session, client.id, parse(q), filters, limit=50, start=HitPosition())
        hits += len(found.hits)

    chosen = {"job_id": filters.job_id, "model": filters.model}
    parameters = {name: str(value) for name, value in chosen.items() if value is not None}

    async def over_http(q: str) -> None:
        await _get(http, client, parameters | {"q": q})

    return Line(kind, hits=hits, ms=await _timed(straight, queries), over_http=await _timed(over_http, queries))


async def _deep(sessions: Sessions, http: aiohttp.ClientSession, client: Client) -> Line:
    """The first hundred pages of a common word."""
    position, cursor, hits = HitPosition(), "", 0

    async def straight(q: str) -> None:
        nonlocal position, hits
        async with transaction(sessions) as session:
            found = await search(session, client.id, parse(q), TranscriptFilters(), limit=200, start=position)
        hits += len(found.hits)
        position = found.next or HitPosition()

    async def over_http(q: str) -> None:
        nonlocal cursor
        page = await _get(http, client, {"q": q, "limit": "200", **({"cursor": cursor} if cursor else {})})
        cursor = page["next_cursor"] or ""

    pages = [COMMON[0]] * 100
    ms, http_ms = await _timed(straight, pages), await _timed(over_http, pages)
    return Line("a hundred pages of 200", hits=hits, ms=ms, over_http=http_ms)


async def _get(http: aiohttp.ClientSession, client: Client, parameters: dict[str, str]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {client.token}"}
    async with http.get("/v1/search", params=parameters, headers=headers) as response:
        if response.status != 200:
            raise RuntimeError(f"GET /v1/search failed with HTTP {response.status}: {await response.text()}")
        return dict(await response.json())


async def _timed(ask: Callable[[str], Awaitable[None]], queries: Sequence[str]) -> list[float]:
    """Milliseconds of each query, sorted."""
    times = []
    for q in queries:
        since = time.perf_counter()
        await ask(q)
        times.append((time.perf_counter() - since) * 1e3)
    return sorted(times)


_HEADINGS = """
| queries | recall | precision | p50 ms | p95 ms | HTTP p50 ms | HTTP p95 ms |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |"""


def _show(line: Line) -> None:
    shares = ["" if share is None else f"{share:.1%}" for share in (line.recall, line.precision)]
    times = [f"{percentile(ms, share) or 0:.1f}" for ms in (line.ms, line.over_http) for share in (0.5, 0.95)]
    print("| " + " | ".join([line.kind, *shares, *times]) + " |")


def _judge(lines: Sequence[Line], slowdown: float) -> None:
    print()
    for line in lines:
        p95 = percentile(line.over_http, 0.95) or 0
        _print(p95 < TARGET_MS, f"{line.kind}: p95 over HTTP {p95:.0f} ms (at most {TARGET_MS:.0f})")
        if line.recall is not None and line.precision is not None:
            _print(line.recall == line.precision == 1, f"{line.kind}: recall and precision (100 %)")
    _print(slowdown < TARGET_SLOWDOWN, f"collecting takes {slowdown:+.1%} CPU (at most {TARGET_SLOWDOWN:+.0%})")


def _print(met: bool, what: str) -> None:
    print(f"{'met   ' if met else 'MISSED'}  {what}")


async def _compare_with_tsvector(on: Stage, engine: AsyncEngine) -> None:
    """The same terms as a tsvector: CPU and size of a row."""
    print()
    for kind, make in (("int[]", "terms"), ("tsvector", "array_to_tsvector(ARRAY(SELECT to_hex(unnest(terms))))")):
        async with engine.begin() as connection:
            await connection.execute(text(_MAKE.format(kind=kind)))
            await connection.execute(text("CREATE INDEX ix_compared ON compared USING gin (terms)"))
        since = on.postgres_cpu_s()
        for at in range(0, TSVECTOR_ROWS, 100):
            async with engine.begin() as connection:
                await connection.execute(text(_COPY.format(make=make)), {"at": at})
        spent = on.postgres_cpu_s() - since
        async with engine.begin() as connection:
            bytes_ = await connection.scalar(text("SELECT pg_total_relation_size('compared')"))
            await connection.execute(text("DROP TABLE compared"))
        cost_ms, size_kb = 1e3 * spent / TSVECTOR_ROWS, bytes_ / TSVECTOR_ROWS / 1e3
        print(f"{kind:8} {cost_ms:.2f} ms of PostgreSQL and {size_kb:.1f} kB a row")


_SIZES = text("""
    SELECT pg_relation_size('ix_transcript_segments_terms') / 1e6 AS terms,
        (pg_total_relation_size('transcript_segments') - pg_relation_size('ix_transcript_segments_terms')) / 1e6 AS heap
""")

_MAKE = "CREATE TABLE compared (transcript_id uuid, terms {kind}) WITH (toast_tuple_target = 128)"
_COPY = """
    INSERT INTO compared SELECT transcript_id, {make} FROM transcript_segments ORDER BY transcript_id
    LIMIT 100 OFFSET :at
"""

if __name__ == "__main__":
    main()
