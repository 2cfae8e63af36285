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


async def test_cancel_ends_open_files_and_keeps_finished_ones(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED, FAILED, RUNNING, SUBMITTING, QUEUED], started_at=NOW)
    before = await api.get(f"/v1/jobs/{job_id}")
    response = await api.post(f"/v1/jobs/{job_id}/cancel")
    job = response.json()
    assert (response.status_code, job["status"]) == (200, "canceled")
    assert job["file_counts"] == {"total": 5, "queued": 0, "running": 0, "succeeded": 1, "failed": 1, "canceled": 3}
    assert [file["status"] for file in job["files"]] == ["succeeded", "failed", *["canceled"] * 3]
    assert job["finished_at"] is not None
    assert job == (await api.get(f"/v1/jobs/{job_id}")).json()
    assert before.headers["etag"] != (await api.get(f"/v1/jobs/{job_id}")).headers["etag"]


async def test_job_canceled_before_upstream_accepted_it_has_no_start_time(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [QUEUED, SUBMITTING])
    assert (await api.post(f"/v1/jobs/{job_id}/cancel")).json()["started_at"] is None


async def test_cancel_ends_the_wait_for_a_job(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    job_id = await add_job(sessions, client_id)
    waiting = asyncio.create_task(api.get(f"/v1/jobs/{job_id}?wait=30"))
    await api.post(f"/v1/jobs/{job_id}/cancel")
    assert (await waiting).json()["status"] == "canceled"


@pytest.mark.parametrize("files", [[SUCCEEDED], [FAILED], [CANCELED], [SUCCEEDED, FAILED]])
async def test_cancel_of_a_final_job_is_refused(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, files: list[dict[str, Any]]
) -> None:
    job_id = await add_job(sessions, client_id, files)
    response = await api.post(f"/v1/jobs/{job_id}/cancel")
    assert (response.status_code, response.json()["code"]) == (409, "job_final")


async def test_retry_queues_failed_and_canceled_files_again(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED, FAILED, CANCELED], cost=1, started_at=NOW)
    response = await api.post(f"/v1/jobs/{job_id}/retry")
    job = response.json()
    assert (response.status_code, job["status"], job["finished_at"]) == (202, "running", None)
    assert response.headers["retry-after"]
    assert job["file_counts"] == {"total": 3, "queued": 2, "running": 0, "succeeded": 1, "failed": 0, "canceled": 0}
    assert job["cost"]["amount"] == "1.00000"
    seen = [(file["status"], file["error"], file["attempts"]) for file in job["files"]]
    assert seen == [("succeeded", None, 1), ("queued", None, 1), ("queued", None, 0)]
    assert job["started_at"] == "2026-11-23T08:00:00Z"


async def test_retry_of_a_failed_job_queues_it(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    job_id = await add_job(sessions, client_id, [FAILED, CANCELED])
    assert (await api.post(f"/v1/jobs/{job_id}/retry")).json()["status"] == "queued"


async def test_retry_works_while_other_files_run(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    job_id = await add_job(sessions, client_id, [RUNNING, FAILED])
    job = (await api.post(f"/v1/jobs/{job_id}/retry")).json()
    assert [file["status"] for file in job["files"]] == ["running", "queued"]


@pytest.mark.parametrize("files", [[SUCCEEDED], [QUEUED], [RUNNING, SUCCEEDED]])
async def test_retry_without_failed_files_is_refused(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, files: list[dict[str, Any]]
) -> None:
    job_id = await add_job(sessions, client_id, files)
    response = await api.post(f"/v1/jobs/{job_id}/retry")
    assert (response.status_code, response.json()["code"]) == (409, "nothing_to_retry")


async def test_one_of_many_concurrent_retries_takes_effect(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [FAILED] * 20)
    responses = await asyncio.gather(*(api.post(f"/v1/jobs/{job_id}/retry") for _ in range(5)))
    assert sorted(response.status_code for response in responses) == [202, 409, 409, 409, 409]
    job = (await api.get(f"/v1/jobs/{job_id}")).json()
    assert (job["status"], job["file_counts"]["queued"]) == ("queued", 20)


async def test_delete_removes_the_job_its_files_and_its_transcripts(
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
    response = await api.delete(f"/v1/jobs/{job_id}")
    assert (response.status_code, response.content) == (204, b"")
    for table, column in JOB_TABLES.items():
        assert await rows(sessions, f"SELECT 1 FROM {table} WHERE {column} = :id", id=UUID(job_id)) == []  # noqa: S608
    assert (await api.get(f"/v1/jobs/{job_id}")).status_code == 404
    assert (await api.delete(f"/v1/jobs/{job_id}")).status_code == 404
    again = await api.post("/v1/jobs", json=body, headers=key)
    assert again.json()["id"] != job_id
    assert "idempotency-replayed" not in again.headers


@pytest.mark.parametrize("files", [[QUEUED], [RUNNING, SUCCEEDED], [SUBMITTING]])
async def test_delete_of_an_open_job_is_refused(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, files: list[dict[str, Any]]
) -> None:
    job_id = await add_job(sessions, client_id, files)
    response = await api.delete(f"/v1/jobs/{job_id}")
    assert (response.status_code, response.json()["code"]) == (409, "job_not_final")
    assert (await api.get(f"/v1/jobs/{job_id}")).status_code == 200


@pytest.mark.slow
async def test_concurrent_retry_and_delete_leave_a_queued_job_or_none(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    for _ in range(10):
        job_id = await add_job(sessions, client_id, [FAILED] * 20)
        retried, deleted = await asyncio.gather(api.post(f"/v1/jobs/{job_id}/retry"), api.delete(f"/v1/jobs/{job_id}"))
        assert (retried.status_code, deleted.status_code) in {(202, 409), (404, 204)}


@pytest.mark.parametrize("call", [("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")])
async def test_commands_do_not_find_the_job_of_another_client(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, call: tuple[str, str]
) -> None:
    method, path = call
    for files in ([QUEUED], [FAILED]):
        job_id = await add_job(sessions, client_id, files)
        before = (await api.get(f"/v1/jobs/{job_id}")).json()
        response = await other_api.request(method, f"/v1/jobs/{job_id}{path}")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        assert (await api.get(f"/v1/jobs/{job_id}")).json() == before
    assert (await api.request(method, f"/v1/jobs/{new_id()}{path}")).status_code == 404


@pytest.mark.parametrize("action", ["cancel", "retry"])
async def test_cancel_and_retry_wake_the_poller(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, app: Any, action: str
) -> None:
    job_id = await add_job(sessions, client_id, [QUEUED, FAILED])
    await api.post(f"/v1/jobs/{job_id}/{action}")
    assert await app.state.services.wakeup.wait(0)


async def test_conflicts_of_commands_are_documented(app: Any) -> None:
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
