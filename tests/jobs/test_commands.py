"""Cancel, retry and delete over HTTP."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from app.db import Sessions, transaction
from app.identifiers import new_id
from tests.jobs.rows import CANCELED, FAILED, NOW, QUEUED, RUNNING, SUBMITTING, SUCCEEDED, add_job

JOB_TABLES = {"jobs": "id", "files": "job_id", "transcripts": "job_id"}


async def rows(sessions: Sessions, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    async with transaction(sessions) as session:
        return [tuple(row) for row in await session.execute(text(statement), values)]


async def test_cancel_ends_what_is_not_finished_and_keeps_the_rest(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED, FAILED, RUNNING, SUBMITTING, QUEUED], started_at=NOW)
    before = await api.get(f"/v1/jobs/{job_id}")
    answer = await api.post(f"/v1/jobs/{job_id}/cancel")
    job = answer.json()
    assert (answer.status_code, job["status"]) == (200, "canceled")
    assert job["file_counts"] == {"total": 5, "queued": 0, "running": 0, "succeeded": 1, "failed": 1, "canceled": 3}
    assert [file["status"] for file in job["files"]] == ["succeeded", "failed", *["canceled"] * 3]
    assert job["finished_at"] is not None
    assert job == (await api.get(f"/v1/jobs/{job_id}")).json()
    assert before.headers["etag"] != (await api.get(f"/v1/jobs/{job_id}")).headers["etag"]


async def test_a_job_that_was_canceled_before_upstream_took_it_has_never_started(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [QUEUED, SUBMITTING])
    assert (await api.post(f"/v1/jobs/{job_id}/cancel")).json()["started_at"] is None


async def test_who_waits_for_a_job_is_woken_by_its_cancel(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id)
    waiting = asyncio.create_task(api.get(f"/v1/jobs/{job_id}?wait=30"))
    await api.post(f"/v1/jobs/{job_id}/cancel")
    assert (await waiting).json()["status"] == "canceled"


@pytest.mark.parametrize("files", [[SUCCEEDED], [FAILED], [CANCELED], [SUCCEEDED, FAILED]])
async def test_a_final_job_cannot_be_canceled(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, files: list[dict[str, Any]]
) -> None:
    job_id = await add_job(sessions, client_id, files)
    answer = await api.post(f"/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_final")


async def test_retry_queues_failed_and_canceled_files_again(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED, FAILED, CANCELED], cost=1, started_at=NOW)
    answer = await api.post(f"/v1/jobs/{job_id}/retry")
    job = answer.json()
    assert (answer.status_code, job["status"], job["finished_at"]) == (202, "running", None)
    assert answer.headers["retry-after"]
    assert job["file_counts"] == {"total": 3, "queued": 2, "running": 0, "succeeded": 1, "failed": 0, "canceled": 0}
    assert job["cost"]["amount"] == "1.00000"
    seen = [(file["status"], file["error"], file["attempts"]) for file in job["files"]]
    assert seen == [("succeeded", None, 1), ("queued", None, 1), ("queued", None, 0)]
    assert job["started_at"] == "2026-11-23T08:00:00Z"


async def test_a_job_that_failed_altogether_is_queued_by_a_retry(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [FAILED, CANCELED])
    assert (await api.post(f"/v1/jobs/{job_id}/retry")).json()["status"] == "queued"


async def test_failed_files_are_retried_while_others_still_run(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [RUNNING, FAILED])
    job = (await api.post(f"/v1/jobs/{job_id}/retry")).json()
    assert [file["status"] for file in job["files"]] == ["running", "queued"]


@pytest.mark.parametrize("files", [[SUCCEEDED], [QUEUED], [RUNNING, SUCCEEDED]])
async def test_where_nothing_failed_there_is_nothing_to_retry(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, files: list[dict[str, Any]]
) -> None:
    job_id = await add_job(sessions, client_id, files)
    answer = await api.post(f"/v1/jobs/{job_id}/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_retry")


async def test_of_many_retries_at_once_one_takes_effect(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [FAILED] * 20)
    answers = await asyncio.gather(*(api.post(f"/v1/jobs/{job_id}/retry") for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409, 409]
    job = (await api.get(f"/v1/jobs/{job_id}")).json()
    assert (job["status"], job["file_counts"]["queued"]) == ("queued", 20)


async def test_delete_takes_the_job_its_files_and_its_transcripts(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    body = {"file_urls": ["https://example.com/a.wav"]}
    key = {"Idempotency-Key": "once"}
    job_id = (await api.post("/v1/jobs", json=body, headers=key)).json()["id"]
    await rows(
        sessions,
        "INSERT INTO transcripts (id, client_id, job_id, file_index, file_url, model, region, audio_duration_ms,"
        " created_at) VALUES (:id, :client, :job, 0, '', '', '', 0, now()) RETURNING id",
        id=new_id(),
        client=client_id,
        job=UUID(job_id),
    )
    await api.post(f"/v1/jobs/{job_id}/cancel")
    answer = await api.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    for table, column in JOB_TABLES.items():
        assert await rows(sessions, f"SELECT 1 FROM {table} WHERE {column} = :id", id=UUID(job_id)) == []  # noqa: S608
    assert (await api.get(f"/v1/jobs/{job_id}")).status_code == 404
    assert (await api.delete(f"/v1/jobs/{job_id}")).status_code == 404
    again = await api.post("/v1/jobs", json=body, headers=key)
    assert again.json()["id"] != job_id
    assert "idempotency-replayed" not in again.headers


@pytest.mark.parametrize("files", [[QUEUED], [RUNNING, SUCCEEDED], [SUBMITTING]])
async def test_a_job_that_is_not_final_cannot_be_deleted(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, files: list[dict[str, Any]]
) -> None:
    job_id = await add_job(sessions, client_id, files)
    answer = await api.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_not_final")
    assert (await api.get(f"/v1/jobs/{job_id}")).status_code == 200


async def test_retry_and_delete_at_once_leave_a_queued_job_or_none(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    for _ in range(10):
        job_id = await add_job(sessions, client_id, [FAILED] * 20)
        retried, deleted = await asyncio.gather(api.post(f"/v1/jobs/{job_id}/retry"), api.delete(f"/v1/jobs/{job_id}"))
        assert (retried.status_code, deleted.status_code) in {(202, 409), (404, 204)}


@pytest.mark.parametrize("call", [("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")])
async def test_the_job_of_another_client_is_not_there_to_be_changed(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, call: tuple[str, str]
) -> None:
    method, path = call
    for files in ([QUEUED], [FAILED]):
        job_id = await add_job(sessions, client_id, files)
        before = (await api.get(f"/v1/jobs/{job_id}")).json()
        answer = await other_api.request(method, f"/v1/jobs/{job_id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert (await api.get(f"/v1/jobs/{job_id}")).json() == before
    assert (await api.request(method, f"/v1/jobs/{new_id()}{path}")).status_code == 404


@pytest.mark.parametrize("action", ["cancel", "retry"])
async def test_the_poller_hears_of_a_cancel_and_of_a_retry(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, app: Any, action: str
) -> None:
    job_id = await add_job(sessions, client_id, [QUEUED, FAILED])
    await api.post(f"/v1/jobs/{job_id}/{action}")
    assert await app.state.services.wakeup.wait(0)


async def test_changes_are_documented_with_their_conflicts(app: Any) -> None:
    paths = app.openapi()["paths"]
    documented = {
        "cancelJob": (paths["/v1/jobs/{job_id}/cancel"]["post"], "job_final"),
        "retryJob": (paths["/v1/jobs/{job_id}/retry"]["post"], "nothing_to_retry"),
        "deleteJob": (paths["/v1/jobs/{job_id}"]["delete"], "job_not_final"),
    }
    for operation_id, (operation, code) in documented.items():
        assert operation["operationId"] == operation_id
        assert code in operation["responses"]["409"]["content"]["application/problem+json"]["examples"]
    assert paths["/v1/transcripts/{transcript_id}"]["delete"]["operationId"] == "deleteTranscript"
