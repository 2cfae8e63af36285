"""Creates jobs with `reuse`: files whose audio the client has had transcribed before get a copy of that transcript.

Concurrent equal jobs are not merged: what is not yet transcribed when a job is created is transcribed for it.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import currency_of
from app.dashscope.file_urls import TEMPORARY_SCHEME
from app.db import Sessions, raw_connection_of, transaction
from app.identifiers import standard_uuid
from app.queue.billing import RECORD_USAGE
from app.queue.counters import JobChange, apply_changes
from app.queue.creation import CreatedJob, NewJob, create_jobs_in_transaction
from app.queue.observation import files_reused
from app.queue.queries import find_own_jobs
from app.queue.spending import lock_allowances
from app.transcripts.audio_keys import audio_key
from app.transcripts.copies import TranscriptCopy, copy_transcripts
from app.transcripts.models import Transcript
from app.uploads.service import OWN_SCHEME, urls_of_equal_uploads


async def create_reusing_job(
    sessions: Sessions, new: NewJob, *, waiting_limit: int | None = None, assumed_s: int
) -> CreatedJob:
    """The durable job. If all its files are reused it is final, and its event is stored with it.

    Raises the errors of `create_jobs_within_budgets`, or DatabaseUnavailable. One transaction: the statements of
    `create_jobs_in_transaction`, one to find transcripts, one more if files are uploads, about ten if files are
    reused, and those of `lock_allowances` if the client has a budget.
    """
    async with transaction(sessions) as session:
        found = await find_reusable(session, new)
        allowances = await lock_allowances(session, [new.client_id], assumed_s=assumed_s) if new.has_budget else None
        counted = replace(new, reusable_files=len(found))
        (outcome,) = await create_jobs_in_transaction(
            session, [counted], waiting_limit=waiting_limit, allowances=allowances
        )
        if isinstance(outcome, Exception):
            raise outcome
        if outcome.replayed or not found:
            return outcome
        job_id = outcome.snapshot.job.id
        await _reuse(session, job_id, new, found)
        key = (new.client_id, job_id)
        return CreatedJob((await find_own_jobs(await raw_connection_of(session), [key]))[key])


async def find_reusable(session: AsyncSession, new: NewJob) -> dict[int, Row[Any]]:
    """The newest transcript for each file, by the file's index: its id, its duration, and its document's size.

    They are locked against their deletion until the end of the transaction. One that is being deleted is not found.
    """
    model = new.validated.model.id
    stored = {url for url in new.urls if url.startswith((OWN_SCHEME, TEMPORARY_SCHEME))}
    equal = await urls_of_equal_uploads(session, new.client_id, stored) if stored else {}
    keys = [[audio_key(new.client_id, model, same) for same in {url, *equal.get(url, ())}] for url in new.urls]
    values = {
        "keys": list(set(chain.from_iterable(keys))),
        "client_id": new.client_id,
        "model": model,
        "parameters": orjson.dumps(new.validated.parameters).decode(),
    }
    rows = {standard_uuid(row.key): row for row in await session.execute(FIND, values)}
    known = {index: [rows[key] for key in own if key in rows] for index, own in enumerate(keys)}
    return {index: max(each, key=lambda row: row.id) for index, each in known.items() if each}


async def _reuse(session: AsyncSession, job_id: UUID, new: NewJob, found: Mapping[int, Row[Any]]) -> None:
    copies = [_copy_of(row, job_id, index, new) for index, row in sorted(found.items())]
    await copy_transcripts(session, copies)
    durations = [copy.row.audio_duration_ms for copy in copies]
    await session.execute(
        _SET_REUSED,
        {
            "job_id": job_id,
            "indexes": [copy.row.file_index for copy in copies],
            "transcript_ids": [copy.row.id for copy in copies],
            "durations": durations,
            "currency": currency_of(new.validated.model.id, new.validated.region),
        },
    )
    change = JobChange(audio_duration_ms=sum(durations))
    change.move(since="queued", to="succeeded", count=len(copies))
    await apply_changes(session, {job_id: change})
    files_reused(session, model=new.validated.model.id, region=new.validated.region, files=len(copies))


def _copy_of(original: Row[Any], job_id: UUID, index: int, new: NewJob) -> TranscriptCopy:
    model, url = new.validated.model.id, new.urls[index]
    row = Transcript(
        client_id=new.client_id,
        job_id=job_id,
        file_index=index,
        file_url=url,
        model=model,
        region=new.validated.region,
        audio_duration_ms=original.audio_duration_ms,
        audio_key=audio_key(new.client_id, model, url),
    )
    return TranscriptCopy(original.id, original.gzip_bytes, row)


# One probe of the index for each key. Transcripts of the same audio with other parameters are few.
FIND = text("""
    SELECT wanted.key, found.* FROM unnest(CAST(:keys AS uuid[])) AS wanted (key)
    CROSS JOIN LATERAL (
        SELECT transcripts.id, transcripts.audio_duration_ms, octet_length(document_gzip) AS gzip_bytes
        FROM transcripts
        JOIN transcript_bodies ON transcript_id = transcripts.id
        JOIN jobs ON jobs.id = transcripts.job_id
        WHERE audio_key = wanted.key AND transcripts.client_id = :client_id AND transcripts.model = :model
          AND jobs.parameters = CAST(:parameters AS jsonb)
        ORDER BY transcripts.id DESC LIMIT 1
        FOR KEY SHARE OF transcripts SKIP LOCKED
    ) AS found
""")

_SET_REUSED = text(f"""
    WITH billed AS (
        UPDATE files SET status = 'succeeded', reused = true, transcript_id = new.transcript_id,
                         audio_duration_ms = new.audio_duration_ms, cost = 0, finished_at = now()
        FROM unnest(CAST(:indexes AS int[]), CAST(:transcript_ids AS uuid[]), CAST(:durations AS bigint[]))
            AS new (index, transcript_id, audio_duration_ms)
        WHERE files.job_id = :job_id AND files.index = new.index
        RETURNING files.job_id, files.index AS number, files.client_id, files.task_id, files.model, files.region,
            1 AS files, new.audio_duration_ms AS audio_ms, files.billed_s, files.input_tokens, files.output_tokens,
            files.cost, CAST(:currency AS text) AS currency, CAST(NULL AS jsonb) AS metadata
    )
    {RECORD_USAGE}
""")  # noqa: S608 - constants
