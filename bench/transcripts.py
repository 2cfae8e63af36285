"""`make bench-transcripts`: storing and serving a transcript of 150,000 words, with targets and peers.

The peers run in the same uvicorn process: Starlette's FileResponse of the same bytes, and a naive design with jsonb, a
pydantic model and FastAPI's JSON.
"""

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import delete, insert, select

from app.clients.models import Client
from app.db import create_engine, create_sessions, transaction
from app.identifiers import new_id
from app.logs import configure_logging
from app.queue.models import Job
from app.transcripts.models import Transcript
from app.transcripts.normalise import normalise
from app.transcripts.storage import PreparedTranscript, insert_transcripts, prepare_transcript
from bench.collection import LARGE, SMALL
from bench.gateway import TOKEN, Stage, stage
from bench.http_readers import MB, Answer, Server, growth_of
from bench.long_recording import ENGLISH, WORDS, recording
from bench.processes import running

ROUNDS = 5
CAPTIONS = (
    "/srt",
    "/vtt",
    "/ttml",
    "/srt?speakers=true",
    "/srt?profile=netflix-zh",
    "/srt?profile=netflix-en",
    "/srt?profile=bbc",
    "/text?max_lines=2",
)
ENGLISH_CAPTIONS = ("/srt", "/vtt")
FORMS = ("/text", "/text?speakers=true", "/words.csv", "/sentences.tsv", "/paragraphs", "/markdown")
# Captions read every word, as json.loads does.
MOST_OF_LOADS = 3
TIMES = 10
READERS = 10
OTHERS = 10
PAGE = "/sentences?limit=50&from_ms={}"


@dataclass(frozen=True, slots=True)
class Line:
    """A measured value with its upper or lower limit."""

    name: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None

    def __str__(self) -> str:
        bound = "" if self.most is None else f"at most {self.most:g}"
        bound = bound if self.least is None else f"at least {self.least:g}"
        verdict = ("met" if self.met else "MISSED") if bound else ""
        return f"| {self.name:66} | {self.value:9.2f} {self.unit:5} | {bound:13} | {verdict:6} |"

    @property
    def met(self) -> bool:
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)


@dataclass(frozen=True, slots=True)
class UnderTest:
    database_url: str
    server: Server
    transcript: PreparedTranscript
    english: PreparedTranscript
    others: Sequence[UUID]  # further transcripts of the same size

    @property
    def path(self) -> str:
        return f"/v1/transcripts/{self.transcript.id}"


def main() -> None:
    configure_logging("error")
    lines = asyncio.run(_bench())
    if not all(line.met for line in lines):
        raise SystemExit("A limit is missed.")


async def _bench() -> list[Line]:
    lines: list[Line] = []
    async with stage() as on, _under_test(on) as under_test:
        document = under_test.transcript.document
        print(f"{WORDS:,} words: {document.size_bytes / MB:.1f} MB, {len(document.gzip) / MB:.1f} MB compressed\n")
        for measure in (_memory, _speed, _forms, _pages):
            lines += await asyncio.to_thread(_printed, measure(under_test))
        lines += _printed(await _storing(under_test))
        lines += _printed(await _collecting(on, under_test))
    return lines


def _printed(lines: Iterable[Line]) -> list[Line]:
    printed = []
    for line in lines:
        print(line, flush=True)
        printed.append(line)
    return printed


def _memory(under_test: UnderTest) -> Iterator[Line]:
    """Measured first, before the process has grown."""
    read = under_test.server.read_at_once
    small = f"{under_test.path}{PAGE.format(0)}"
    read(small, READERS)
    for coding, slowly in (("gzip", False), ("identity", False), ("gzip", True), ("identity", True)):
        with growth_of(under_test.server.pid) as grown:
            read(under_test.path, READERS, coding=coding, slowly=slowly)
        yield Line(f"memory that {READERS} {'slow ' * slowly}readers take, {coding}", grown[0], "MB", most=64)
    for form in ("/srt", "/text?speakers=true"):
        with growth_of(under_test.server.pid) as grown:
            read(under_test.path + form, READERS)
        yield Line(f"memory that {READERS} readers of {form} take", grown[0], "MB", most=64)
    with growth_of(under_test.server.pid) as grown:
        read("/peer/naive", 1)
    yield Line("memory that one reader of the naive design takes", grown[0], "MB")


def _speed(under_test: UnderTest) -> Iterator[Line]:
    for readers in (1, READERS):
        yield from _against_file(under_test, readers, "gzip", "/peer/gzip", least=1.0)
        yield from _against_file(under_test, readers, "identity", "/peer/file/document.json")
    yield from _uncached(under_test)
    yield Line("the naive design, one reader", under_test.server.read_at_once("/peer/naive", 1), "/s")


def _against_file(
    under_test: UnderTest, readers: int, coding: str, peer: str, *, least: float | None = None
) -> Iterator[Line]:
    """Interleaved, so that disturbances affect both. CPU is that of the one process that serves both."""
    rates: dict[str, list[float]] = {under_test.path: [], peer: []}
    cpu_s = dict.fromkeys(rates, 0.0)
    for _ in range(ROUNDS):
        for path, found in rates.items():
            before = under_test.server.cpu_s()
            found.append(under_test.server.read_at_once(path, readers, coding=coding, times=TIMES))
            cpu_s[path] += under_test.server.cpu_s() - before
    name = f"{coding}, {readers} reader{'s' * (readers > 1)}"
    ours, files = rates.values()
    yield Line(f"{name}: transcripts", median(ours), "/s")
    yield Line(f"{name}: FileResponse of the same bytes", median(files), "/s")
    ratio = median(mine / theirs for mine, theirs in zip(ours, files, strict=True))
    yield Line(f"{name}: as fast as FileResponse", ratio, "×", least=least)
    yield Line(
        f"{name}: its CPU to that of FileResponse", cpu_s[under_test.path] / cpu_s[peer], "×", most=least and 1.1
    )


def _uncached(under_test: UnderTest) -> Iterator[Line]:
    """Reads more transcripts than the gateway's cache holds, so that each comes from PostgreSQL."""
    ours, files = [], []
    for _ in range(ROUNDS):
        ours.append(median(under_test.server.read(f"/v1/transcripts/{other}")[0].wall_s for other in under_test.others))
        files.append(median(under_test.server.read("/peer/gzip")[0].wall_s for _ in under_test.others))
    ratio = median(theirs / mine for mine, theirs in zip(ours, files, strict=True))
    yield Line("gzip, 1 reader, none cached: as fast as FileResponse", ratio, "×", least=1.0)


def _forms(under_test: UnderTest) -> Iterator[Line]:
    yield from _beside_loads(under_test.server, under_test.transcript, "", (*CAPTIONS, *FORMS))
    yield from _beside_loads(under_test.server, under_test.english, "English ", ENGLISH_CAPTIONS)


def _beside_loads(server: Server, transcript: PreparedTranscript, name: str, forms: Sequence[str]) -> Iterator[Line]:
    """Each form beside `json.loads` of the document. Interleaved, so that disturbances affect all of them.

    Both are compared by their CPU time, which other processes disturb less than the time that passes. All forms are
    divided by one median: a single `json.loads` takes half as long again when the garbage collector runs.
    """
    document = zlib.decompress(transcript.document.gzip, 31)
    taken: dict[str, list[tuple[Answer, float]]] = {}
    loads: list[float] = []
    for _ in range(ROUNDS):
        for form in forms:
            loads.append(_loads_cpu_s(document))
            for coding in ("identity", "gzip"):
                before = server.cpu_s()
                answer = server.read(f"/v1/transcripts/{transcript.id}{form}", coding=coding)[0]
                taken.setdefault(f"{name}{form}, {coding}", []).append((answer, server.cpu_s() - before))
    yield Line(f"{name}json.loads of the document", median(loads), "s")
    for line, found in taken.items():
        yield Line(f"{line}: to the last byte", median(answer.wall_s for answer, _ in found), "s", most=1)
        yield Line(f"{line}: to the first byte", median(answer.first_byte_s for answer, _ in found), "s")
        most = MOST_OF_LOADS if line.removeprefix(name).startswith(CAPTIONS) else None
        ratio = median(cpu_s for _, cpu_s in found) / median(loads)
        yield Line(f"{line}: CPU to that of json.loads", ratio, "×", most=most)


def _loads_cpu_s(document: bytes) -> float:
    began = time.thread_time()
    json.loads(document)
    return time.thread_time() - began


def _pages(under_test: UnderTest) -> Iterator[Line]:
    last_ms = under_test.transcript.row.audio_duration_ms
    paths = [under_test.path + PAGE.format(last_ms * number // 20) for number in range(20)]
    took = sorted(under_test.server.read(path)[0].wall_s for path in paths)
    yield Line("a page of 50 sentences anywhere, half of them within", median(took) * 1000, "ms")
    yield Line("a page of 50 sentences anywhere, all within", took[-1] * 1000, "ms", most=100)


async def _storing(under_test: UnderTest) -> list[Line]:
    """Storing the same document: with the upstream's bytes, as jsonb, and with COPY like a restored dump."""
    engine = create_engine(under_test.database_url)
    sessions = create_sessions(engine)
    connection = await asyncpg.connect(under_test.database_url)  # type: ignore[no-untyped-call]
    document = zlib.decompress(under_test.transcript.document.gzip, 31).decode()
    gzip = under_test.transcript.document.gzip, under_test.transcript.raw.gzip
    await connection.execute("CREATE TABLE copied (document bytea, raw bytea)")
    for column in ("document", "raw"):
        await connection.execute(f"ALTER TABLE copied ALTER COLUMN {column} SET STORAGE EXTERNAL")

    async def ours() -> None:
        async with transaction(sessions) as session:
            await insert_transcripts(session, [under_test.transcript])

    async def jsonb() -> None:
        await connection.execute("INSERT INTO naive (body) VALUES ($1::jsonb)", document)

    async def copy() -> None:
        await connection.copy_records_to_table("copied", records=[gzip])

    took: dict[str, list[float]] = {"ours": [], "jsonb": [], "copy": []}
    for _ in range(ROUNDS):
        async with transaction(sessions) as session:
            await session.execute(delete(Transcript))
        for name, store in (("ours", ours), ("jsonb", jsonb), ("copy", copy)):
            began = time.perf_counter()
            await store()
            took[name].append(time.perf_counter() - began)
    await connection.close()
    await engine.dispose()
    stored, as_jsonb, copied = (median(took[name]) * 1000 for name in ("ours", "jsonb", "copy"))
    return [
        Line("storing it with the upstream's bytes", stored, "ms"),
        Line("storing it as jsonb alone", as_jsonb, "ms"),
        Line("COPY of the same compressed bytes, as a restored dump", copied, "ms"),
        Line("storing to COPY", stored / copied, "×", most=2),
    ]


async def _collecting(on: Stage, under_test: UnderTest) -> list[Line]:
    arguments = ("-m", "bench.collection", under_test.database_url, f"{under_test.server.url}/peer/file")
    async with running("collection", on.new_folder("collection"), *arguments) as process:
        found: dict[str, dict[str, float]] = json.loads(await process.line_with('"alone"'))
    alone, beside = found["alone"], found["beside"]
    long = f"while {LARGE} of 14 MB arrive"
    return [
        Line(f"{SMALL} short results alone: p95 until stored", alone["p95_ms"], "ms"),
        Line(f"{SMALL} short results {long}: p50 until stored", beside["p50_ms"], "ms"),
        Line(f"{SMALL} short results {long}: p95 until stored", beside["p95_ms"], "ms", most=250),
        Line(f"the longest delay of the event loop {long}", beside["lag_ms"], "ms", most=100),
        Line("the same without them", alone["lag_ms"], "ms"),
        Line(f"memory that the poller takes {long}", beside["grown_mb"], "MB", most=128),
        Line(f"until the last of {LARGE} is stored", beside["long_s"], "s"),
    ]


@asynccontextmanager
async def _under_test(on: Stage) -> AsyncIterator[UnderTest]:
    url, folder = await on.database(), on.new_folder("transcripts")
    raw = recording()
    (folder / "large.json").write_bytes(raw)
    (folder / "small.json").write_bytes(recording(250))
    settings = {"DATABASE_URL": url, "PORT": "0", "API_TOKEN": TOKEN}
    async with running("server", folder, "-m", "bench.transcript_server", str(folder), **settings) as process:
        server_url = (await process.line_with("listening at ")).removeprefix("listening at ")
        transcript, english, others = await _fill(url, raw, folder)
        server = Server(server_url, process.process.pid, {"Authorization": f"Bearer {TOKEN}"})
        yield UnderTest(url, server, transcript, english, others)


async def _fill(url: str, raw: bytes, folder: Path) -> tuple[PreparedTranscript, PreparedTranscript, list[UUID]]:
    engine = create_engine(url)
    job_id = new_id()
    async with transaction(create_sessions(engine)) as session:
        client_id = (await session.scalars(select(Client.id))).one()
        await session.execute(insert(Job).values(id=job_id, client_id=client_id, **_JOB))
        transcript = await asyncio.to_thread(_prepared, raw, client_id, job_id)
        english = await asyncio.to_thread(_prepared, recording(language=ENGLISH), client_id, job_id)
        others = [replace(transcript, row=replace(transcript.row, id=new_id())) for _ in range(OTHERS)]
        await insert_transcripts(session, [transcript, english, *others])
    await engine.dispose()
    document = zlib.decompress(transcript.document.gzip, 31)
    (folder / "document.json").write_bytes(document)
    (folder / "document.json.gz").write_bytes(transcript.document.gzip)
    connection = await asyncpg.connect(url)  # type: ignore[no-untyped-call]
    await connection.execute("CREATE TABLE naive (body jsonb)")
    await connection.execute("INSERT INTO naive VALUES ($1::jsonb)", document.decode())
    await connection.close()
    return transcript, english, [other.id for other in others]


def _prepared(raw: bytes, client_id: UUID, job_id: UUID) -> PreparedTranscript:
    url = "https://example.com/day.wav"
    return prepare_transcript(
        Transcript(client_id=client_id, job_id=job_id, file_index=0, file_url=url, model="fun-asr", region="beijing"),
        raw=raw,
        document=normalise(raw, file_url=url, family="fun-asr"),
    )


_JOB: dict[str, Any] = {
    "model": "fun-asr", "region": "beijing", "requested_region": "auto", "parameters": {}, "metadata_": {},
    "files_total": 1, "files_queued": 1,
}  # fmt: skip

if __name__ == "__main__":
    main()
