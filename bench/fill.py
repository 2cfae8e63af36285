"""Fills a database with finished and waiting files of many clients, by SQL alone, for benchmarks of large databases.

The rows are what the gateway stores for a file of a minute of speech: job, file, task, transcript, documents, segment.
Terms and texts of the segments repeat after VARIANTS transcripts.
"""

import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from app.db import Sessions, raw_connection
from app.search.segments import segment_terms, unpack
from app.transcripts.models import Transcript
from app.transcripts.normalise import normalise
from app.transcripts.seekable_gzip import pack
from app.transcripts.storage import PreparedTranscript, prepare_transcript
from bench.synthetic_speech import RARE, Speaker

CLIENTS = 200
LARGE, SMALL = 1, 2  # the numbers of the client with three files in ten, and of the client with few
SMALL_EVERY = 20_000
RARE_MODEL, RARE_MODEL_EVERY = "paraformer-v2", 2000
FAILED_EVERY = 100
# A file every 2.592 s: a million in thirty days.
START_MS, FILE_MS = 1_767_225_600_000, 2592
VARIANTS, CHARACTERS = 200, 250
# By phrase: the number of variants that contain it. RARE_PHRASE is in one transcript of 2,000.
COMMON_PHRASE, SOME_PHRASE, FEW_PHRASE, RARE_PHRASE = RARE[0] * 2, RARE[1] * 2, RARE[2] * 2, RARE[3] * 2
PLANTED = {COMMON_PHRASE: 100, SOME_PHRASE: 14, FEW_PHRASE: 4}
RARE_PHRASE_EVERY = 2000
CHUNK = 50_000


def client_id(number: int) -> UUID:
    return UUID(int=number)


def token(number: int) -> str:
    """The token of a client that `add_clients` made."""
    return f"token-of-client-{number}-of-the-benchmark"


async def add_clients(sessions: Sessions, count: int = CLIENTS) -> None:
    rows = [(client_id(n), f"client-{n}", hashlib.sha256(token(n).encode()).digest()) for n in range(1, count + 1)]
    async with raw_connection(sessions) as connection:
        raw: Any = connection
        await raw.executemany(
            "INSERT INTO clients (id, name, token_sha256) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", rows
        )


async def add_finished(sessions: Sessions, first: int, stop: int) -> None:
    """Add the files from number `first` to before `stop`, each in a job and a task of its own."""
    async with raw_connection(sessions) as connection:
        raw: Any = connection
        await raw.execute(_VARIANTS_TABLE)
        await raw.executemany("INSERT INTO bench_variants VALUES ($1, $2, $3, $4, $5, $6, $7)", _variants())
        # Building the index once takes a fraction of the time of inserting into it.
        terms = await raw.fetchval("SELECT pg_get_indexdef('ix_transcript_segments_terms'::regclass)")
        await raw.execute("DROP INDEX ix_transcript_segments_terms; SET maintenance_work_mem = '1GB'")
        for at in range(first, stop, CHUNK):
            await raw.execute(_FINISHED.format(first=at, last=min(at + CHUNK, stop) - 1), timeout=1800)
        await raw.execute(f"{terms}; RESET maintenance_work_mem; DROP TABLE bench_variants", timeout=3600)


async def add_waiting(sessions: Sessions, files: int, clients: int) -> None:
    """Add waiting files, one in a job, of the first `clients` clients in turn."""
    async with raw_connection(sessions) as connection:
        raw: Any = connection
        await raw.execute(_WAITING.format(files=files, clients=clients), timeout=600)
        await raw.execute("ANALYZE jobs, files")


async def add_full_budgets(sessions: Sessions, clients: int) -> None:
    """Give the first `clients` clients budgets in which a running file leaves no room for others."""
    async with raw_connection(sessions) as connection:
        raw: Any = connection
        await raw.execute(_FULL_BUDGETS.format(clients=clients))
        await raw.execute("ANALYZE jobs, client_budgets")


async def end_holds(sessions: Sessions) -> None:
    """As when the time of all holds is over."""
    async with raw_connection(sessions) as connection:
        await connection.execute("UPDATE budget_holds SET until = now() - interval '1 ms'")


async def delete_waiting(sessions: Sessions) -> None:
    """Delete the waiting files, and all budgets."""
    async with raw_connection(sessions) as connection:
        raw: Any = connection
        await raw.execute("DELETE FROM jobs WHERE id >= 'f0000000-0000-0000-0000-000000000000'", timeout=600)
        await raw.execute("DELETE FROM budget_holds; DELETE FROM client_budgets")


def _variants() -> list[tuple[Any, ...]]:
    """Number, texts and terms of the segment, raw body, document, index of the document, size."""
    speaker = Speaker()
    rows = []
    for number in range(VARIANTS + 1):
        planted = [phrase for phrase, count in PLANTED.items() if number % VARIANTS < count and number < VARIANTS]
        prepared = _prepared(speaker, planted if number < VARIANTS else [RARE_PHRASE])
        texts = prepared.segments[0].texts
        document = prepared.document
        terms = sorted(segment_terms(unpack(texts)))
        rows.append((number, texts, terms, prepared.raw.gzip, document.gzip, pack(document.index), document.size_bytes))
    return rows


def _prepared(speaker: Speaker, planted: Sequence[str]) -> PreparedTranscript:
    raw = speaker.speech(CHARACTERS, planted).document("https://example.com/a.wav")
    return prepare_transcript(
        Transcript(
            client_id=client_id(LARGE),
            job_id=client_id(LARGE),
            file_index=0,
            file_url="https://example.com/a.wav",
            model="fun-asr",
            region="beijing",
        ),
        raw=raw,
        document=normalise(raw, file_url="https://example.com/a.wav", family="fun-asr"),
    )


def _label_terms() -> str:
    """SQL of the labels of a segment: `app.search.terms.label_term` over the columns of `bench_files`."""

    def term(kind: str, value: str) -> str:
        number = f"crc32(convert_to('{kind}: ' || {value}, 'UTF8'))"
        return f"(CASE WHEN {number} < 2147483648 THEN {number} ELSE {number} - 4294967296 END)::int"

    return ", ".join(
        [term("client", "client_id"), term("job_id", "id"), term("model", "model"), term("region", "'beijing'")]
    )


_VARIANTS_TABLE = """
    CREATE TEMP TABLE bench_variants (number int PRIMARY KEY, texts bytea, terms int[], raw bytea, document bytea,
                                      document_index bytea, size_bytes bigint)
"""

_FINISHED = f"""
    CREATE TEMP TABLE bench_files AS
    SELECT n,
        (lpad(to_hex({START_MS} + n::bigint * {FILE_MS}), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid AS id,
        lpad(to_hex(CASE WHEN n % {SMALL_EVERY} = 7 THEN {SMALL} WHEN n % 10 < 3 THEN {LARGE}
                         ELSE 3 + n % {CLIENTS - 2} END), 32, '0')::uuid AS client_id,
        CASE n % {RARE_MODEL_EVERY} WHEN 500 THEN '{RARE_MODEL}' ELSE 'fun-asr' END AS model,
        n % {FAILED_EVERY} = 11 AS failed,
        to_timestamp(({START_MS} + n::bigint * {FILE_MS}) / 1000.0) AS at,
        CASE n % {RARE_PHRASE_EVERY} WHEN 21 THEN {VARIANTS} ELSE n * 7 % {VARIANTS} END AS variant
    FROM generate_series({{first}}, {{last}}) AS n;

    INSERT INTO tasks (id, account, region, model, parameters, file_count, state, upstream_task_id, created_at, done_at)
    SELECT id, 'beijing/bench', 'beijing', model, '{{{{}}}}', 1, 'done', id::text, at, at FROM bench_files;

    INSERT INTO jobs (id, client_id, status, model, region, requested_region, parameters, metadata, files_total,
                      files_queued, files_succeeded, files_failed, created_at, finished_at)
    SELECT id, client_id, CASE WHEN failed THEN 'failed' ELSE 'succeeded' END, model, 'beijing', 'beijing', '{{{{}}}}',
           jsonb_build_object('call', n::text, 'env',
               CASE WHEN client_id = lpad('{LARGE}', 32, '0')::uuid THEN 'test' ELSE 'production' END),
           1, 0, (NOT failed)::int, failed::int, at, at
    FROM bench_files;

    INSERT INTO files (job_id, index, client_id, region, model, group_key, url, status, attempts, task_id,
                       transcript_id, error_code, error_message, error_retryable, audio_duration_ms, finished_at)
    SELECT id, 0, client_id, 'beijing', model, client_id, 'https://example.com/' || n || '.wav',
           CASE WHEN failed THEN 'failed' ELSE 'succeeded' END, 1, id, CASE WHEN failed THEN NULL ELSE id END,
           CASE WHEN failed THEN 'audio_unreadable' END, CASE WHEN failed THEN 'bench' END,
           CASE WHEN failed THEN false END, 60000, at
    FROM bench_files;

    INSERT INTO transcripts (id, client_id, job_id, file_index, file_url, model, region, audio_duration_ms, created_at)
    SELECT id, client_id, id, 0, 'https://example.com/' || n || '.wav', model, 'beijing', 60000, at
    FROM bench_files WHERE NOT failed;

    INSERT INTO transcript_bodies (transcript_id, raw_gzip, raw_sha256, raw_bytes, document_gzip, document_sha256,
                                   document_bytes, document_index)
    SELECT id, raw, sha256(raw), size_bytes, document, sha256(document), size_bytes, document_index
    FROM bench_files JOIN bench_variants ON number = variant WHERE NOT failed;

    INSERT INTO transcript_segments (transcript_id, number, client_id, texts, terms)
    SELECT id, 0, client_id, texts, terms || ARRAY[{_label_terms()}]
    FROM bench_files JOIN bench_variants ON bench_variants.number = variant WHERE NOT failed;

    DROP TABLE bench_files
"""  # noqa: S608 - our own numbers

# Ids that begin with f are newer than those of all finished files.
_WAITING = """
    INSERT INTO jobs (id, client_id, model, region, requested_region, parameters, metadata, files_total, files_queued)
    SELECT ('f' || lpad(to_hex(n), 31, '0'))::uuid, lpad(to_hex(1 + n % {clients}), 32, '0')::uuid, 'fun-asr',
           'beijing', 'beijing', '{{}}', '{{}}', 1, 1
    FROM generate_series(1, {files}) AS n;

    INSERT INTO files (job_id, index, client_id, region, model, group_key, url)
    SELECT id, 0, client_id, 'beijing', 'fun-asr', lpad('7', 32, '0')::uuid, 'https://example.com/' || id || '.wav'
    FROM jobs WHERE status = 'queued' AND id >= 'f0000000-0000-0000-0000-000000000000';
"""

_FULL_BUDGETS = """
    INSERT INTO client_budgets (client_id, amount, currency, period)
    SELECT lpad(to_hex(n), 32, '0')::uuid, 0.001, 'CNY', 'month' FROM generate_series(1, {clients}) AS n;

    INSERT INTO jobs (id, client_id, status, model, region, requested_region, parameters, metadata, files_total,
                      files_queued, files_running)
    SELECT ('ff' || lpad(to_hex(n), 30, '0'))::uuid, lpad(to_hex(n), 32, '0')::uuid, 'running', 'fun-asr', 'beijing',
           'beijing', '{{}}', '{{}}', 1, 0, 1
    FROM generate_series(1, {clients}) AS n;
"""
