"""`make bench-transcripts`: a transcript of 150,000 words, stored and served; each figure beside its limit or peer.

Peers answer from the same uvicorn in the same run: Starlette's FileResponse of the same bytes, and the design that
comes to mind first: jsonb in the database, a pydantic model, FastAPI's JSON.
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
from bench.arrivals import LARGE, SMALL
from bench.gateway import TOKEN, Stage, stage
from bench.long_recording import WORDS, recording
from bench.processes import running
from bench.readers import MB, Server, growth_of

ROUNDS = 5
FORMS = ("/text", "/text?speakers=true", "/srt", "/vtt", "/words.csv", "/sentences.tsv", "/paragraphs", "/markdown")
TIMES = 10
READERS = 10
OTHERS = 10
PAGE = "/sentences?limit=50&from_ms={}"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure. `limit`: what it may be at most, or must be at least."""

    what: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None

    def __str__(self) -> str:
        bound = "" if self.most is None else f"at most {self.most:g}"
        bound = bound if self.least is None else f"at least {self.least:g}"
        verdict = ("met" if self.met else "MISSED") if bound else ""
        return f"| {self.what:66} | {self.value:9.2f} {self.unit:5} | {bound:13} | {verdict:6} |"

    @property
    def met(self) -> bool:
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)


@dataclass(frozen=True, slots=True)
class Place:
    database_url: str
    server: Server
    transcript: PreparedTranscript
    others: Sequence[UUID]  # transcripts of the same size

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
    async with stage() as on, _place(on) as place:
        document = place.transcript.document
        print(f"{WORDS:,} words: {document.size_bytes / MB:.1f} MB, {len(document.gzip) / MB:.1f} MB compressed\n")
        for measure in (_memory, _speed, _forms, _pages):
            lines += await asyncio.to_thread(_shown, measure(place))
        lines += _shown(await _storing(place))
        lines += _shown(await _arriving(on, place))
    return lines


def _shown(lines: Iterable[Line]) -> list[Line]:
    shown = []
    for line in lines:
        print(line, flush=True)
        shown.append(line)
    return shown


def _memory(place: Place) -> Iterator[Line]:
    """First of all, while the process has not grown yet."""
    read = place.server.read_at_once
    small = f"{place.path}{PAGE.format(0)}"
    read(small, READERS)
    for coding, slowly in (("gzip", False), ("identity", False), ("gzip", True), ("identity", True)):
        with growth_of(place.server.pid) as grown:
            read(place.path, READERS, coding=coding, slowly=slowly)
        yield Line(f"memory that {READERS} {'slow ' * slowly}readers take, {coding}", grown[0], "MB", most=64)
    for form in ("/srt", "/text?speakers=true"):
        with growth_of(place.server.pid) as grown:
            read(place.path + form, READERS)
        yield Line(f"memory that {READERS} readers of {form} take", grown[0], "MB", most=64)
    with growth_of(place.server.pid) as grown:
        read("/peer/naive", 1)
    yield Line("memory that one reader of the naive design takes", grown[0], "MB")


def _speed(place: Place) -> Iterator[Line]:
    for readers in (1, READERS):
        yield from _against_file(place, readers, "gzip", "/peer/gzip", least=1.0)
        yield from _against_file(place, readers, "identity", "/peer/file/document.json")
    yield from _none_kept(place)
    yield Line("the naive design, one reader", place.server.read_at_once("/peer/naive", 1), "/s")


def _against_file(place: Place, readers: int, coding: str, peer: str, *, least: float | None = None) -> Iterator[Line]:
    """Turn by turn, so that what else the machine does meets both. CPU is that of the one process which serves both."""
    rates: dict[str, list[float]] = {place.path: [], peer: []}
    cpu_s = dict.fromkeys(rates, 0.0)
    for _ in range(ROUNDS):
        for path, found in rates.items():
            before = place.server.cpu_s()
            found.append(place.server.read_at_once(path, readers, coding=coding, times=TIMES))
            cpu_s[path] += place.server.cpu_s() - before
    name = f"{coding}, {readers} reader{'s' * (readers > 1)}"
    ours, files = rates.values()
    yield Line(f"{name}: transcripts", median(ours), "/s")
    yield Line(f"{name}: FileResponse of the same bytes", median(files), "/s")
    ratio = median(mine / theirs for mine, theirs in zip(ours, files, strict=True))
    yield Line(f"{name}: as fast as FileResponse", ratio, "×", least=least)
    yield Line(f"{name}: its CPU to that of FileResponse", cpu_s[place.path] / cpu_s[peer], "×", most=least and 1.1)


def _none_kept(place: Place) -> Iterator[Line]:
    """More transcripts in turn than the gateway keeps slices of, so that each comes from PostgreSQL."""
    ours, files = [], []
    for _ in range(ROUNDS):
        ours.append(median(place.server.read(f"/v1/transcripts/{other}")[0].wall_s for other in place.others))
        files.append(median(place.server.read("/peer/gzip")[0].wall_s for _ in place.others))
    ratio = median(theirs / mine for mine, theirs in zip(ours, files, strict=True))
    yield Line("gzip, 1 reader, none read lately: as fast as FileResponse", ratio, "×", least=1.0)


def _forms(place: Place) -> Iterator[Line]:
    for form in FORMS:
        for coding in ("identity", "gzip"):
            answers = [place.server.read(place.path + form, coding=coding)[0] for _ in range(ROUNDS)]
            wall_s = median(answer.wall_s for answer in answers)
            first_s = median(answer.first_byte_s for answer in answers)
            yield Line(f"{form}, {coding}: to the last byte", wall_s, "s", most=1)
            yield Line(f"{form}, {coding}: to the first byte", first_s, "s")


def _pages(place: Place) -> Iterator[Line]:
    last_ms = place.transcript.audio_duration_ms
    paths = [place.path + PAGE.format(last_ms * number // 20) for number in range(20)]
    took = sorted(place.server.read(path)[0].wall_s for path in paths)
    yield Line("a page of 50 sentences anywhere, half of them within", median(took) * 1000, "ms")
    yield Line("a page of 50 sentences anywhere, all within", took[-1] * 1000, "ms", most=100)


async def _storing(place: Place) -> list[Line]:
    """The same document: ours with the upstream's bytes beside it, jsonb, and what a restore of a dump does."""
    engine = create_engine(place.database_url)
    sessions = create_sessions(engine)
    connection = await asyncpg.connect(place.database_url)  # type: ignore[no-untyped-call]
    document = zlib.decompress(place.transcript.document.gzip, 31).decode()
    gzip = place.transcript.document.gzip, place.transcript.raw.gzip
    await connection.execute("CREATE TABLE copied (document bytea, raw bytea)")
    for column in ("document", "raw"):
        await connection.execute(f"ALTER TABLE copied ALTER COLUMN {column} SET STORAGE EXTERNAL")

    async def ours() -> None:
        async with transaction(sessions) as session:
            await insert_transcripts(session, [place.transcript])

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


async def _arriving(on: Stage, place: Place) -> list[Line]:
    arguments = ("-m", "bench.arrivals", place.database_url, f"{place.server.url}/peer/file")
    async with running("arrivals", on.room("arrivals"), *arguments) as process:
        found: dict[str, dict[str, float]] = json.loads(await process.told('"alone"'))
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
async def _place(on: Stage) -> AsyncIterator[Place]:
    url, room = await on.database(), on.room("transcripts")
    raw = recording()
    (room / "large.json").write_bytes(raw)
    (room / "small.json").write_bytes(recording(250))
    settings = {"DATABASE_URL": url, "PORT": "0", "API_TOKEN": TOKEN}
    async with running("server", room, "-m", "bench.transcript_server", str(room), **settings) as process:
        server_url = (await process.told("listening at ")).removeprefix("listening at ")
        transcript, others = await _fill(url, raw, room)
        server = Server(server_url, process.process.pid, {"Authorization": f"Bearer {TOKEN}"})
        yield Place(url, server, transcript, others)


async def _fill(url: str, raw: bytes, room: Path) -> tuple[PreparedTranscript, list[UUID]]:
    engine = create_engine(url)
    job_id = new_id()
    async with transaction(create_sessions(engine)) as session:
        client_id = (await session.scalars(select(Client.id))).one()
        await session.execute(insert(Job).values(id=job_id, client_id=client_id, **_JOB))
        transcript = await asyncio.to_thread(
            prepare_transcript,
            raw=raw,
            document=normalise(raw, file_url="https://example.com/day.wav", family="fun-asr"),
            client_id=client_id,
            job_id=job_id,
            file_index=0,
            file_url="https://example.com/day.wav",
            model="fun-asr",
            region="beijing",
        )
        others = [replace(transcript, id=new_id()) for _ in range(OTHERS)]
        await insert_transcripts(session, [transcript, *others])
    await engine.dispose()
    document = zlib.decompress(transcript.document.gzip, 31)
    (room / "document.json").write_bytes(document)
    (room / "document.json.gz").write_bytes(transcript.document.gzip)
    connection = await asyncpg.connect(url)  # type: ignore[no-untyped-call]
    await connection.execute("CREATE TABLE naive (body jsonb)")
    await connection.execute("INSERT INTO naive VALUES ($1::jsonb)", document.decode())
    await connection.close()
    return transcript, [other.id for other in others]


_JOB: dict[str, Any] = {
    "model": "fun-asr", "region": "beijing", "requested_region": "auto", "parameters": {}, "metadata_": {},
    "files_total": 1, "files_queued": 1,
}  # fmt: skip

if __name__ == "__main__":
    main()
