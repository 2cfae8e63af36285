"""GET /v1/jobs, /v1/jobs/{id} and /v1/jobs/{id}/files."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text, update

from app.db import Sessions, create_engine, create_sessions, raw_connection, transaction
from app.identifiers import new_id
from app.queue import queries
from app.queue.lifecycle import JobStatus
from app.queue.models import Job
from app.queue.queries import JobFilters
from tests.jobs.rows import FAILED, NOW, QUEUED, RUNNING, SUBMITTING, SUCCEEDED, add_job, finish
from tests.rows_read import index_scans, rows_read


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


async def test_running_job_shows_counts_cost_and_files(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    transcript_id = new_id()
    files = [SUCCEEDED | {"transcript_id": transcript_id}, FAILED, SUBMITTING, RUNNING]
    job_id = await add_job(
        sessions, client_id, files, cost=Decimal("0.001045"), audio_duration_ms=4726, started_at=NOW
    )  # fmt: skip
    job = (await api.get(f"/v1/jobs/{job_id}")).json()
    assert list(job) == [
        "id", "status", "model", "region", "parameters", "metadata", "created_at", "started_at", "finished_at",
        "file_counts", "waiting_reason",
        "warnings", "audio_duration_ms", "cost", "files", "files_truncated",
    ]  # fmt: skip
    assert (job["status"], job["started_at"]) == ("running", "2026-11-23T08:00:00Z")
    assert job["file_counts"] == {"total": 4, "queued": 1, "running": 1, "succeeded": 1, "failed": 1, "canceled": 0}
    assert job["cost"] == {"amount": "0.00105", "currency": "CNY"}
    assert [file["status"] for file in job["files"]] == ["succeeded", "failed", "queued", "running"]
    assert job["files"][0] == {
        "index": 0,
        "url": "https://example.com/0.wav",
        "status": "succeeded",
        "transcript_id": str(transcript_id),
        "error": None,
        "audio_duration_ms": 4726,
        "attempts": 1,
        "reused": False,
        "upstream": None,
    }
    assert job["files"][1]["error"] == {
        "code": "download_failed",
        "message": "The file could not be downloaded.",
        "retryable": True,
        "upstream_code": "FILE_DOWNLOAD_FAILED",
    }


async def test_etag_changes_with_the_job_and_gives_304_before(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id)
    first = await api.get(f"/v1/jobs/{job_id}")
    known = {"If-None-Match": first.headers["etag"]}
    unchanged = await api.get(f"/v1/jobs/{job_id}", headers=known)
    assert (unchanged.status_code, unchanged.content, unchanged.headers["retry-after"]) == (304, b"", "2")
    await finish(sessions, job_id)
    changed = await api.get(f"/v1/jobs/{job_id}", headers=known)
    assert (changed.status_code, changed.json()["status"]) == (200, "succeeded")
    assert "retry-after" not in changed.headers


async def test_reads_do_not_find_unknown_jobs_and_jobs_of_other_clients(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id)
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/files"):
        assert (await other_api.get(path)).json()["code"] == "not_found"
    for path in (f"/v1/jobs/{new_id()}", "/v1/jobs/4711", "/v1/jobs/4711/files", f"/v1/jobs/{new_id()}/files"):
        response = await api.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert ids(await other_api.get("/v1/jobs")) == []


async def test_each_read_is_one_statement_besides_the_token(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, statements: list[str]
) -> None:
    jobs = [await add_job(sessions, client_id, [QUEUED, FAILED]) for _ in range(3)]
    await api.get(f"/v1/jobs/{jobs[0]}")  # records the first use of the token, and reads the typical durations
    await api.get("/v1/jobs")  # fills the cache
    for path in ("/v1/jobs", f"/v1/jobs/{jobs[0]}", f"/v1/jobs/{jobs[0]}/files"):
        await asyncio.sleep(0)  # the statements of the call before are logged now
        statements.clear()
        assert (await api.get(path)).status_code == 200
        await asyncio.sleep(0)
        assert len(statements) == 2, (path, statements)


async def test_list_is_newest_first_and_shows_each_job_as_get_does(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    jobs = [await add_job(sessions, client_id, [QUEUED, FAILED]) for _ in range(3)]
    response = await api.get("/v1/jobs")
    assert ids(response) == [str(job_id) for job_id in reversed(jobs)]
    assert response.json()["items"][0] == (await api.get(f"/v1/jobs/{jobs[2]}")).json()
    assert response.json()["next_cursor"] is None


async def test_pages_are_stable_while_jobs_arrive(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    jobs = [str(await add_job(sessions, client_id)) for _ in range(5)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        response = await api.get("/v1/jobs", params={"limit": 2, **cursor})
        seen += ids(response)
        cursor = {"cursor": response.json()["next_cursor"]}
        await add_job(sessions, client_id)
    assert seen == jobs[::-1]
    assert cursor == {"cursor": None}


async def test_job_shows_a_hundred_files_and_the_list_has_all(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, [QUEUED] * 101)
    job = (await api.get("/v1/jobs")).json()["items"][0]
    assert ([file["index"] for file in job["files"]], job["files_truncated"]) == ([*range(100)], True)
    indexes: list[int] = []
    cursor: dict[str, str] = {}
    while cursor != {"cursor": None}:
        response = (await api.get(f"/v1/jobs/{job_id}/files", params={"limit": 50, **cursor})).json()
        indexes += [file["index"] for file in response["items"]]
        cursor = {"cursor": response["next_cursor"]}
    assert indexes == [*range(101)]


@pytest.mark.parametrize(
    ("statuses", "indexes"),
    [
        (["queued"], [0, 1]),
        (["running"], [2]),
        (["succeeded", "failed"], [3, 4]),
        (["canceled"], []),
        ([], [0, 1, 2, 3, 4]),
    ],
)
async def test_files_are_filtered_by_their_status_in_the_api(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, statuses: list[str], indexes: list[int]
) -> None:
    job_id = await add_job(sessions, client_id, [QUEUED, SUBMITTING, RUNNING, SUCCEEDED, FAILED])
    response = await api.get(f"/v1/jobs/{job_id}/files", params={"status": statuses})
    assert [file["index"] for file in response.json()["items"]] == indexes


async def test_jobs_match_all_filters(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    a = await add_job(sessions, client_id, created_at=NOW, metadata_={"call": "1", "team": "x", "a.b": "c"})
    b = await add_job(sessions, client_id, [SUCCEEDED], region="singapore", created_at=NOW + timedelta(hours=1))
    c = await add_job(
        sessions,
        client_id,
        [FAILED],
        model="paraformer-v2",
        metadata_={"call": "1"},
        created_at=NOW + timedelta(hours=2),
    )

    async def found(*params: tuple[str, Any]) -> list[str]:
        return ids(await api.get("/v1/jobs", params=list(params)))

    assert await found(("status", "queued")) == [str(a)]
    assert await found(("status", "succeeded"), ("status", "failed")) == [str(c), str(b)]
    assert await found(("model", "paraformer-v2")) == [str(c)]
    assert await found(("model", "no-such-model")) == []
    assert await found(("region", "singapore")) == [str(b)]
    assert await found(("metadata.call", "1")) == [str(c), str(a)]
    assert await found(("metadata.call", "1"), ("metadata.team", "x")) == [str(a)]
    assert await found(("metadata.a.b", "c")) == [str(a)]
    assert await found(("metadata.call", "1"), ("status", "failed")) == [str(c)]
    assert await found(("created_before", "2026-11-23T08:00:00.000001Z")) == [str(a)]
    assert str(a) not in await found(("created_after", "2026-11-23T08:00:00Z"))
    assert str(a) in await found(("created_after", "2026-11-23T15:59:59+08:00"))
    assert await found(("created_after", "2026-11-23T08:30:00Z"), ("created_before", "2026-11-23T09:30:00Z")) == [
        str(b)
    ]
    assert await found(("created_after", "0001-01-01T00:00:00Z")) == [str(c), str(b), str(a)]
    assert await found(("created_before", "0001-01-01T00:00:00Z")) == []
    assert await found(("created_before", "9999-12-31T23:59:59Z")) == [str(c), str(b), str(a)]


async def test_time_filters_find_jobs_whose_ids_are_hours_off(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id, created_at=NOW)
    async with transaction(sessions) as session:
        await session.execute(update(Job).where(Job.id == job_id).values(created_at=NOW + timedelta(hours=14)))
    for query in ("created_after=2026-11-23T21:59:59Z", "created_before=2026-11-23T22:00:01Z"):
        assert ids(await api.get(f"/v1/jobs?{query}")) == [str(job_id)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (JobFilters(statuses=[JobStatus.FAILED, JobStatus.QUEUED]), "ix_jobs_unusual"),
        (JobFilters(metadata={"call": "rare"}), "ix_jobs_metadata"),
    ],
)
async def test_filter_for_rare_jobs_uses_its_index(
    client_id: UUID, database_url: str, filters: JobFilters, index: str
) -> None:
    engine = create_engine(database_url, pool_size=1)
    sessions = create_sessions(engine)
    async with transaction(sessions) as session:
        await session.execute(_MANY_JOBS, {"client_id": client_id})
        await session.execute(text("ANALYZE jobs"))
    for _ in range(10):  # PostgreSQL switches to a generic plan after five
        async with raw_connection(sessions) as connection, connection.transaction():
            scans, rows = await index_scans(connection, index), await rows_read(connection, "jobs")
            assert await queries.list_versions(connection, client_id, filters, 51) == []
            assert await index_scans(connection, index) > scans
            assert await rows_read(connection, "jobs") < rows + 100  # of 5,000
    await engine.dispose()


_MANY_JOBS = text("""
    INSERT INTO jobs (id, client_id, status, model, region, requested_region, parameters, metadata, files_total,
                      files_queued, files_succeeded, finished_at)
    SELECT gen_random_uuid(), :client_id, 'succeeded', 'fun-asr', 'beijing', 'auto', '{}',
           jsonb_build_object('call', CAST(number AS text), 'team', 'x'), 1, 0, 1, now()
    FROM generate_series(1, 5000) AS given (number)
""")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/query/limit"),
        ("limit=201", "/query/limit"),
        ("limit=x", "/query/limit"),
        ("status=done", "/query/status/0"),
        ("region=frankfurt", "/query/region"),
        ("cursor=x", "/query/cursor"),
        ("cursor=", "/query/cursor"),
        ("created_after=yesterday", "/query/created_after"),
        ("created_after=1700000000", "/query/created_after"),
        ("created_after=2026-11-23", "/query/created_after"),
        ("created_after=2026-11-23T08:00:00", "/query/created_after"),
        ("created_before=2026-02-30T08:00:00Z", "/query/created_before"),
        ("created_before=0001-01-01T00:00:00%2B14:00", "/query/created_before"),
        ("created_before=9999-12-31T23:59:59-14:00", "/query/created_before"),
        ("metadata=x", "/query/metadata"),
        ("metadata.=x", "/query/metadata."),
        ("metadata.a=%00", "/query/metadata.a"),
        ("model=%00", "/query/model"),
        ("model=", "/query/model"),
        ("state=queued", "/query/state"),
    ],
)
async def test_invalid_filter_is_refused_by_name(api: httpx.AsyncClient, query: str, pointer: str) -> None:
    response = await api.get(f"/v1/jobs?{query}")
    assert (response.status_code, [place["pointer"] for place in response.json()["errors"]]) == (422, [pointer])


async def test_cursor_of_another_list_is_refused(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    job_id = await add_job(sessions, client_id, [QUEUED, QUEUED])
    files = await api.get(f"/v1/jobs/{job_id}/files?limit=1")
    response = await api.get("/v1/jobs", params={"cursor": files.json()["next_cursor"]})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


async def test_cursor_of_the_files_of_another_job_is_refused(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    jobs = [await add_job(sessions, client_id, [QUEUED, QUEUED]) for _ in range(2)]
    cursor = (await api.get(f"/v1/jobs/{jobs[0]}/files?limit=1")).json()["next_cursor"]
    responses = [await api.get(f"/v1/jobs/{job_id}/files", params={"cursor": cursor}) for job_id in jobs]
    assert [response.status_code for response in responses] == [200, 422]
    assert responses[1].json()["code"] == "invalid_cursor"


async def test_cursor_of_another_client_and_changed_cursor_are_refused(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    for _ in range(2):
        await add_job(sessions, client_id)
    cursor = (await api.get("/v1/jobs?limit=1")).json()["next_cursor"]
    assert (await api.get("/v1/jobs", params={"cursor": cursor})).status_code == 200
    changed = cursor[:30] + ("A" if cursor[30] == "B" else "B") + cursor[31:]
    for caller, tried in ((other_api, cursor), (api, changed)):
        response = await caller.get("/v1/jobs", params={"cursor": tried})
        assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


async def test_offset_with_an_unescaped_plus_is_accepted(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    await add_job(sessions, client_id, created_at=NOW)
    assert len(ids(await api.get("/v1/jobs?created_after=2026-11-23T15:59:59+08:00"))) == 1


async def test_job_of_a_removed_model_is_shown(api: httpx.AsyncClient, client_id: UUID, sessions: Sessions) -> None:
    job_id = await add_job(sessions, client_id, model="gone")
    assert (await api.get(f"/v1/jobs/{job_id}")).json()["cost"]["currency"] == "CNY"
