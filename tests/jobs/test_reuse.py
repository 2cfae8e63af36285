"""`reuse`: files that the client has had transcribed before are answered from copies of the stored transcripts."""

import asyncio
import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from sqlalchemy import func, select, text
from structlog.testing import capture_logs

from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.identifiers import new_id
from app.queue.models import Job
from app.queue.queries import typical_durations
from app.queue.reuse import FIND
from app.search.indexing import index_segments
from app.uploads.models import Upload
from tests.jobs.rows import FAILED, NOW, RUNNING, SUCCEEDED, add_job, count
from tests.transcripts.transcript_store import store

URL = "https://bucket.oss-cn-beijing.aliyuncs.com/call.wav"
SIGNED = f"{URL}?OSSAccessKeyId=LTAI&Expires=1800000000&Signature=abc%3D"
HINTS = {"language_hints": ["zh"]}
Change = tuple[dict[str, Any], dict[str, Any], bool]


async def transcribed(sessions: Sessions, client_id: UUID, url: str = URL, **job: Any) -> UUID:
    """A finished job of one file, and its transcript. Returns the job's id."""
    job_id = await add_job(sessions, client_id, [{**SUCCEEDED, "url": url}], cost="0.01", **job)
    await store(sessions, client_id, job_id=job_id, file_url=url, audio_duration_ms=4726)
    return job_id


async def create(api: httpx.AsyncClient, *urls: str, **fields: Any) -> dict[str, Any]:
    response = await api.post("/v1/jobs", json={"file_urls": urls or [URL], "reuse": True, **fields})
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    return job


def reused(job: dict[str, Any]) -> list[bool]:
    return [file["reused"] for file in job["files"]]


async def add_upload(sessions: Sessions, client_id: UUID, content: bytes, **more: Any) -> str:
    """The `file_url` of an upload in DashScope's temporary storage."""
    url = f"oss://bucket/{new_id()}/call.wav"
    values = {"model": "fun-asr", "region": "beijing", "account": "beijing/default", "file_name": "call.wav", **more}
    async with transaction(sessions) as session:
        session.add(
            Upload(
                client_id=client_id,
                file_url=url,
                size_bytes=len(content),
                sha256=hashlib.sha256(content).digest(),
                expires_at=func.now() + timedelta(hours=48),
                **values,
            )
        )
    return url


async def test_known_audio_is_answered_at_once_and_at_no_cost(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    original = await transcribed(sessions, client_id)
    response = await api.post("/v1/jobs?wait=60", json={"file_urls": [SIGNED], "reuse": True})
    job = response.json()
    (file,) = job["files"]
    assert job["status"] == "succeeded"
    assert job["finished_at"] == job["started_at"] == job["created_at"]
    assert job["file_counts"] == {"total": 1, "queued": 0, "running": 0, "succeeded": 1, "failed": 0, "canceled": 0}
    assert (job["cost"]["amount"], job["audio_duration_ms"]) == ("0.00000", 4726)
    assert "retry-after" not in response.headers
    assert {**file, "transcript_id": None} == {
        "index": 0,
        "url": SIGNED,
        "status": "succeeded",
        "transcript_id": None,
        "reused": True,
        "error": None,
        "audio_duration_ms": 4726,
        "attempts": 0,
        "upstream": None,
    }
    assert job == (await api.get(f"/v1/jobs/{job['id']}")).json()
    assert (await api.get(f"/v1/jobs/{job['id']}/files")).json()["items"] == [file]
    assert reused((await api.get(f"/v1/jobs/{original}")).json()) == [False]


async def test_copy_is_a_transcript_of_its_own(api: httpx.AsyncClient, sessions: Sessions, client_id: UUID) -> None:
    original = await transcribed(sessions, client_id)
    old_id = (await api.get("/v1/transcripts")).json()["items"][0]["id"]
    job = await create(api, SIGNED)
    new_transcript = job["files"][0]["transcript_id"]
    old = (await api.get(f"/v1/transcripts/{old_id}")).json()
    new = (await api.get(f"/v1/transcripts/{new_transcript}")).json()
    assert (new["id"], new["job_id"], new["file_url"]) == (new_transcript, job["id"], SIGNED)
    assert new["created_at"] > old["created_at"]
    own = dict.fromkeys(("id", "job_id", "file_url", "created_at"))
    assert {**new, **own} == {**old, **own}
    forms = ("raw", "text", "srt", "sentences")
    before = [(await api.get(f"/v1/transcripts/{new_transcript}/{form}")).content for form in forms]
    assert before == [(await api.get(f"/v1/transcripts/{old_id}/{form}")).content for form in forms]

    assert (await api.delete(f"/v1/jobs/{original}")).status_code == 204
    assert [(await api.get(f"/v1/transcripts/{new_transcript}/{form}")).content for form in forms] == before
    assert reused(await create(api)) == [True]


@pytest.mark.parametrize("indexed", [False, True])
async def test_copy_is_found_by_the_search(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, indexed: bool
) -> None:
    await transcribed(sessions, client_id)
    job = await create(api)
    text_of_copy = (await api.get(f"/v1/transcripts/{job['files'][0]['transcript_id']}/text")).text
    if indexed:
        async with transaction(sessions) as session:
            assert await index_segments(session) == 2
    found = await api.get("/v1/search", params={"q": text_of_copy.split()[0][:4], "job_id": job["id"]})
    assert {item["job_id"] for item in found.json()["items"]} == {job["id"]}


async def test_files_that_are_not_known_are_transcribed(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await transcribed(sessions, client_id)
    new = "https://example.com/new.wav"
    job = await create(api, new, URL, f"{URL}?part=2", SIGNED)
    assert reused(job) == [False, True, False, True]
    assert [file["status"] for file in job["files"]] == ["queued", "succeeded", "queued", "succeeded"]
    assert (job["status"], job["audio_duration_ms"]) == ("running", 2 * 4726)
    copies = {file["transcript_id"] for file in job["files"]} - {None}
    assert len(copies) == 2


async def test_jobs_without_reuse_are_transcribed(api: httpx.AsyncClient, sessions: Sessions, client_id: UUID) -> None:
    await transcribed(sessions, client_id)
    assert reused(await create(api, reuse=False)) == [False]


@pytest.mark.parametrize("value", ["true", "no", 1, 0.0, None])
async def test_reuse_is_true_or_false(api: httpx.AsyncClient, value: object) -> None:
    response = await api.post("/v1/jobs", json={"file_urls": [URL], "reuse": value})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/reuse")


@pytest.mark.parametrize(
    "change",
    [
        ({}, {"parameters": HINTS}, False),
        ({"parameters": HINTS}, {}, False),
        ({"parameters": HINTS}, {"parameters": HINTS}, True),
        ({}, {"model": "paraformer-v2"}, False),
        ({"region": "singapore"}, {}, True),
        ({"metadata_": {"a": "1"}}, {"metadata": {"b": "2"}}, True),
    ],
)
async def test_model_and_parameters_must_match(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, change: Change
) -> None:
    stored, wanted, is_reused = change
    await transcribed(sessions, client_id, **stored)
    assert reused(await create(api, **wanted)) == [is_reused]


async def test_parameters_match_in_their_canonical_form(api: httpx.AsyncClient, sessions: Sessions) -> None:
    first = await create(api, parameters={"special_word_filter": {"filter_with_signed": {"word_list": ["a"]}}})
    client_id = await _client_of(sessions, first["id"])
    await store(sessions, client_id, job_id=UUID(first["id"]), file_url=URL)
    same = '{ "filter_with_signed": {"word_list": ["a"]} }'
    assert reused(await create(api, parameters={"special_word_filter": same})) == [True]


async def test_other_clients_transcripts_do_not_count(
    other_api: httpx.AsyncClient, api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await transcribed(sessions, client_id)
    assert reused(await create(other_api)) == [False]


async def test_deleted_transcripts_do_not_count(api: httpx.AsyncClient, sessions: Sessions, client_id: UUID) -> None:
    await transcribed(sessions, client_id)
    transcript_id = (await api.get("/v1/transcripts")).json()["items"][0]["id"]
    assert (await api.delete(f"/v1/transcripts/{transcript_id}")).status_code == 204
    assert reused(await create(api)) == [False]


@pytest.mark.parametrize("state", [RUNNING, FAILED])
async def test_files_without_a_transcript_do_not_count(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, state: dict[str, Any]
) -> None:
    await add_job(sessions, client_id, [{**state, "url": URL}])
    assert reused(await create(api)) == [False]


async def test_transcript_that_is_being_deleted_does_not_count(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    job_id = await transcribed(sessions, client_id)
    async with transaction(sessions) as session:
        await session.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": job_id})
        async with asyncio.timeout(10):
            assert reused(await create(api)) == [False]


async def test_same_bytes_of_an_upload_are_known(api: httpx.AsyncClient, sessions: Sessions, client_id: UUID) -> None:
    first = await add_upload(sessions, client_id, b"audio", deleted_at=NOW)
    await transcribed(sessions, client_id, first)
    same = await add_upload(sessions, client_id, b"audio")
    other = await add_upload(sessions, client_id, b"other audio")
    assert reused(await create(api, same, other)) == [True, False]


async def test_bytes_of_another_client_are_not_known(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, other_api: httpx.AsyncClient
) -> None:
    await transcribed(sessions, client_id, await add_upload(sessions, client_id, b"audio"))
    stranger = await _client_of(sessions, (await create(other_api, "https://e/x.wav"))["id"])
    assert reused(await create(other_api, await add_upload(sessions, stranger, b"audio"))) == [False]


async def test_newest_of_several_transcripts_is_copied(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await transcribed(sessions, client_id)
    newest = await add_job(sessions, client_id, [{**SUCCEEDED, "url": SIGNED}])
    await store(sessions, client_id, job_id=newest, file_url=SIGNED, audio_duration_ms=9999)
    assert (await create(api))["audio_duration_ms"] == 9999


async def test_event_of_a_reused_job_is_stored_with_it(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await transcribed(sessions, client_id)
    job = await create(api, webhook_url="https://example.com/hook")
    (delivery,) = (await api.get(f"/v1/jobs/{job['id']}/deliveries")).json()["items"]
    assert (delivery["type"], delivery["status"]) == ("job.succeeded", "pending")
    events = (await api.get(f"/v1/jobs/{job['id']}/events")).text
    assert events.count("event: job") == 1
    assert '"succeeded"' in events


async def test_replay_of_a_reused_job_is_the_same_job(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await transcribed(sessions, client_id)
    body: dict[str, Any] = {"file_urls": [URL], "reuse": True}
    sent = [await api.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert sent[0].json() == sent[1].json()
    assert sent[1].headers["idempotency-replayed"] == "true"
    other = await api.post("/v1/jobs", json={**body, "reuse": False}, headers={"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await count(sessions, Job) == 2


async def test_concurrent_requests_with_one_key_make_one_job(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await transcribed(sessions, client_id)
    body: dict[str, Any] = {"file_urls": [URL], "reuse": True}
    sent = await asyncio.gather(*(api.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"}) for _ in range(5)))
    assert len({response.json()["id"] for response in sent}) == 1
    assert {tuple(reused(response.json())) for response in sent} == {(True,)}


async def test_reused_files_do_not_count_as_queued(
    app: FastAPI, api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    app.state.services.waiting_limit = 1
    await transcribed(sessions, client_id)
    assert (await create(api, URL, SIGNED))["status"] == "succeeded"
    assert (await create(api, URL, "https://e/1.wav"))["status"] == "running"
    refused = await api.post("/v1/jobs", json={"file_urls": [URL, "https://e/2.wav"], "reuse": True})
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_waiting_files")
    assert await count(sessions, Job) == 3


async def test_reused_files_are_answered_although_more_files_wait_than_the_limit(
    app: FastAPI, api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await transcribed(sessions, client_id)
    await create(api, "https://e/1.wav", "https://e/2.wav")
    app.state.services.waiting_limit = 1
    assert (await create(api, URL))["status"] == "succeeded"


async def test_log_and_metrics_tell_of_reused_files(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    await transcribed(sessions, client_id)
    labels = {"model": "fun-asr", "region": "beijing"}
    name = "asr_gateway_files_finished_total"
    before = REGISTRY.get_sample_value(name, {**labels, "status": "succeeded"}) or 0
    with capture_logs() as lines:
        job = await create(api)
    assert [line["event"] for line in lines if line.get("job") == job["id"]] == ["job created", "job finished"]
    assert REGISTRY.get_sample_value(name, {**labels, "status": "succeeded"}) == before + 1


async def test_reused_jobs_do_not_shorten_the_typical_duration(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    async with transaction(sessions) as session:
        now = await session.scalar(select(func.now()))
    assert now is not None
    await transcribed(sessions, client_id, created_at=now - timedelta(seconds=40), finished_at=now)
    for _ in range(3):
        await create(api)
    async with transaction(sessions) as session:
        _, durations = await typical_durations(session)
    assert [round(each.seconds) for each in durations] == [40]


async def test_jobs_without_reuse_cost_no_statement_more(
    api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, statements: list[str]
) -> None:
    await transcribed(sessions, client_id)
    await create(api, reuse=False)
    await asyncio.sleep(0)
    statements.clear()
    await create(api, reuse=False)
    await asyncio.sleep(0)
    assert len([each for each in statements if "INSERT INTO jobs" in each]) == 1
    assert not [each for each in statements if "audio_key" in each]


@pytest.mark.slow
@pytest.mark.new_connections
async def test_look_up_reads_one_place_of_the_index_for_each_file(
    sessions: Sessions, api_client: tuple[CurrentClient, str], client_id: UUID
) -> None:
    """Counts the rows that PostgreSQL reads, not time, in a table of 20,000 transcripts."""
    job_id = await transcribed(sessions, client_id)
    async with transaction(sessions) as session:
        copied = "client_id, job_id, file_index, file_url, model, region, audio_duration_ms, created_at, audio_key"
        others = copied.replace("audio_key", "gen_random_uuid()")
        await session.execute(
            text(f"""
                INSERT INTO transcripts (id, {copied})
                SELECT gen_random_uuid(), {others} FROM transcripts, generate_series(1, 20000)
            """)  # noqa: S608 - constants
        )
        await session.execute(text("ANALYZE transcripts"))
        key = await session.scalar(
            text("SELECT audio_key FROM transcripts JOIN transcript_bodies ON id = transcript_id WHERE job_id = :id"),
            {"id": job_id},
        )
        keys = [key, *(new_id() for _ in range(99))]
        values = {"keys": keys, "client_id": client_id, "model": "fun-asr"}
        plan = await session.scalar(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {FIND}"), {**values, "parameters": "{}"})
    nodes = list(_nodes(plan[0]["Plan"]))
    scans = [node for node in nodes if node.get("Relation Name") == "transcripts"]
    assert next(node["Index Name"] for node in nodes if "Index Name" in node) == "ix_transcripts_audio_key"
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) < 5


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


async def _client_of(sessions: Sessions, job_id: str) -> UUID:
    async with transaction(sessions) as session:
        found = await session.scalar(select(Job.client_id).where(Job.id == UUID(job_id)))
    assert found is not None
    return found
