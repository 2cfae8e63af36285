"""`waiting_reason` in all responses that show a job."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.jobs.long_poll import JobWaiters
from tests.jobs.rows import RUNNING, SUBMITTING, SUCCEEDED, add_job
from tests.live_server import live_server

SINCE = "2026-11-28T08:00:00.250000Z"
REASON = {"code": "account_key_refused", "account": "beijing/default", "region": "beijing", "since": SINCE}
OSS = {"url": "oss://dashscope-instant/a.wav"}


async def block(sessions: Sessions, *, everywhere: bool = True, code: str = "account_key_refused") -> None:
    async with transaction(sessions) as session:
        await session.execute(
            text(
                "INSERT INTO blockages (region, model, everywhere, code, account, since)"
                " VALUES ('beijing', 'fun-asr', :everywhere, :code, 'beijing/default', :since)"
                " ON CONFLICT (region, model, only_account) DO UPDATE SET code = excluded.code"
            ),
            {"everywhere": everywhere, "code": code, "since": datetime.fromisoformat(SINCE)},
        )


async def test_region_without_an_account_is_a_reason_with_a_null_account(
    api: httpx.AsyncClient, sessions: Sessions
) -> None:
    await block(sessions, code="region_not_served")
    async with transaction(sessions) as session:
        await session.execute(text("UPDATE blockages SET account = NULL"))
    posted = (await api.post("/v1/jobs", json={"file_urls": ["https://example.com/a.wav"]})).json()
    assert await reason_of(api, posted["id"]) == {**REASON, "code": "region_not_served", "account": None}


async def unblock(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await session.execute(text("DELETE FROM blockages"))


async def reason_of(api: httpx.AsyncClient, job_id: UUID) -> Any:
    job = (await api.get(f"/v1/jobs/{job_id}")).json()
    listed = {each["id"]: each for each in (await api.get("/v1/jobs")).json()["items"]}
    assert listed[job["id"]] == job
    return job["waiting_reason"]


async def test_new_job_has_the_waiting_reason(api: httpx.AsyncClient, sessions: Sessions) -> None:
    await block(sessions)
    posted = (await api.post("/v1/jobs", json={"file_urls": ["https://example.com/a.wav"]})).json()
    assert posted["waiting_reason"] == REASON
    assert await reason_of(api, posted["id"]) == REASON
    await unblock(sessions)
    assert await reason_of(api, posted["id"]) is None


async def test_etag_and_list_change_with_the_reason_alone(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions
) -> None:
    job_id = await add_job(sessions, client_id)
    path = f"/v1/jobs/{job_id}"
    etags = []
    for change in (None, "account_key_refused", "account_unpaid"):
        if change:
            await block(sessions, code=change)
        response = await api.get(path)
        etags.append(response.headers["etag"])
        assert (response.json()["waiting_reason"] or {}).get("code") == change
        assert await reason_of(api, job_id) == response.json()["waiting_reason"]
        assert (await api.get(path, headers={"If-None-Match": etags[-1]})).status_code == 304
    assert len(set(etags)) == 3
    filtered = (await api.get("/v1/jobs?status=queued")).json()["items"]
    assert [job["waiting_reason"]["code"] for job in filtered] == ["account_unpaid"]
    await unblock(sessions)
    assert (await api.get(path, headers={"If-None-Match": etags[0]})).status_code == 304


@pytest.mark.parametrize(
    ("everywhere", "job", "files", "waits"),
    [
        (True, {}, [{}], True),
        (False, {}, [{}], False),  # another region takes it
        (False, {"requested_region": "beijing"}, [{}], True),
        (False, {"parameters": {"vocabulary_id": "vocab-x-1"}}, [{}], True),
        (False, {}, [{}, OSS], True),  # an upload stays with its account
        (False, {}, [{}, OSS | RUNNING], False),
        (True, {"model": "paraformer-v2"}, [{}], False),
        (True, {"region": "singapore"}, [{}], False),
        (True, {}, [RUNNING], False),
        (True, {}, [RUNNING, {}], True),
        (True, {}, [SUCCEEDED], False),
    ],
)
async def test_reason_is_set_only_if_no_account_takes_the_queued_files(
    api: httpx.AsyncClient,
    client_id: UUID,
    sessions: Sessions,
    *,
    everywhere: bool,
    job: dict[str, Any],
    files: list[dict[str, Any]],
    waits: bool,
) -> None:
    await block(sessions, everywhere=everywhere)
    job_id = await add_job(sessions, client_id, [{"status": "queued"} | file for file in files], **job)
    assert await reason_of(api, job_id) == (REASON if waits else None)


@pytest.mark.parametrize(
    ("state", "model", "is_open", "waits"),
    [
        ("unsure", "", True, True),
        ("unsure", "", False, False),
        ("unsure", "fun-asr", True, False),  # the task list of the account can be read
        ("submitting", "", True, False),  # the response may still arrive
    ],
)
async def test_file_without_a_response_to_its_submit_waits_for_its_account(
    api: httpx.AsyncClient, client_id: UUID, sessions: Sessions, *, state: str, model: str, is_open: bool, waits: bool
) -> None:
    job_id = await add_job(sessions, client_id, [SUBMITTING])
    async with transaction(sessions) as session:
        await session.execute(text("UPDATE tasks SET state = :state"), {"state": state})
        await session.execute(
            text(
                "INSERT INTO circuits (account, model, code, message, opened_at, probe_at, closed_at)"
                " VALUES ('beijing/default', :model, 'upstream_unavailable', '', :since, now(),"
                " CASE WHEN NOT :open THEN now() END)"
            ),
            {"model": model, "since": datetime.fromisoformat(SINCE), "open": is_open},
        )
    assert await reason_of(api, job_id) == ({**REASON, "code": "upstream_unavailable"} if waits else None)


@pytest.fixture
async def waiters(app: FastAPI, sessions: Sessions) -> AsyncIterator[JobWaiters]:
    waiters = app.state.services.waiters = JobWaiters(sessions, interval_s=0.01)
    yield waiters
    waiters.close()


async def test_stream_sends_changes_of_the_reason(
    app: FastAPI, waiters: JobWaiters, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:
    job_id = await add_job(sessions, api_client[0].id)
    headers = {"Authorization": f"Bearer {api_client[1]}"}
    async with live_server(app) as url, httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as http:
        path = f"/v1/jobs/{job_id}/events"
        async with http.stream("GET", path) as response:
            lines = response.aiter_lines()
            assert await _next_reason(lines) is None
            await block(sessions)
            assert await _next_reason(lines) == REASON
            # A client that reconnects may not have received the reason: the version is the same.
            async with http.stream("GET", path, headers={"Last-Event-ID": "1"}) as again:
                assert await _next_reason(again.aiter_lines()) == REASON
            await unblock(sessions)
            assert await _next_reason(lines) is None
            async with http.stream("GET", path, headers={"Last-Event-ID": "1"}) as again:
                assert await _next_reason(again.aiter_lines()) is None
        waiters.close()


async def _next_reason(lines: AsyncIterator[str]) -> Any:
    async for line in lines:
        if line.startswith("data: "):
            return json.loads(line.removeprefix("data: "))["waiting_reason"]
    raise AssertionError("the stream ended")


async def test_reason_does_not_end_a_wait_for_the_end(client_id: UUID, sessions: Sessions, waiters: JobWaiters) -> None:
    job_id = await add_job(sessions, client_id)
    await block(sessions)
    assert await waiters.until_final(job_id, 0.2) is None
