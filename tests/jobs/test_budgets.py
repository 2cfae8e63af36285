"""Budgets: jobs, retries and the drop-in protocols are accepted while the client may spend, and refused after that."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.catalogue import validate_job
from app.clients.budgets import Budget, BudgetPeriod, set_budget
from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.queue.creation import CreatedJob, NewJob, create_jobs_within_budgets
from app.queue.models import Job
from app.queue.submit_queues import SubmitQueue
from tests.api_fixtures import caller, new_client
from tests.jobs.rows import CANCELED, FAILED, QUEUED, RUNNING, SUCCEEDED, add_job, count
from tests.jobs.test_reuse import URL, transcribed
from tests.queue.claims import claim_task
from tests.usage.rows import add_usage

# For an unknown file 300 s are reserved: 0.066 yuan with the default model.
ONE = Decimal("0.066")
TOKENS = "qwen-audio-3.1-asr-flash-filetrans"


async def give(
    sessions: Sessions,
    client: CurrentClient,
    amount: Any,
    period: BudgetPeriod = BudgetPeriod.DAY,
    currency: Any = "CNY",
) -> None:
    async with transaction(sessions) as session:
        await set_budget(session, client.id, Budget(Decimal(amount), currency, period))


async def post(api: httpx.AsyncClient, files: int = 1, **more: Any) -> httpx.Response:
    urls = [f"https://example.com/{number}.wav" for number in range(files)]
    return await api.post("/v1/jobs", json={"file_urls": urls, **more.pop("fields", {})}, **more)


@pytest.fixture
def client(api_client: tuple[CurrentClient, str]) -> CurrentClient:
    return api_client[0]


async def test_a_job_that_would_exceed_the_budget_is_refused(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    await give(sessions, client, "0.20")
    await add_usage(sessions, client.id, {"at": datetime.now(UTC), "model": "paraformer-v2", "cost": "0.05"})
    before = REGISTRY.get_sample_value("asr_gateway_budget_refusals_total") or 0
    assert (await post(api, 2)).status_code == 202
    with capture_logs() as lines:
        refused = await post(api)
    tomorrow = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    body = refused.json()
    assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
    assert body["code"] == "budget_exceeded"
    assert body["budget"] == {"amount": "0.20", "currency": "CNY", "period": "day"}
    assert body["spent"] == {"amount": "0.05000", "currency": "CNY"}
    assert body["reserved"] == {"amount": "0.13200", "currency": "CNY"}
    assert body["requested"] == {"amount": "0.06600", "currency": "CNY"}
    assert body["resets_at"] == tomorrow.strftime("%Y-%m-%dT00:00:00Z")
    assert "0.05000 is spent, 0.13200 is reserved" in body["detail"]
    assert REGISTRY.get_sample_value("asr_gateway_budget_refusals_total") == before + 1
    assert next(line for line in lines if line["event"] == "budget exceeded")["client"] == "tester"
    assert await count(sessions, Job) == 1


async def test_retry_after_ends_with_the_period_if_the_money_is_spent(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    await give(sessions, client, "1", BudgetPeriod.MONTH)
    await add_usage(sessions, client.id, {"at": datetime.now(UTC), "cost": "1"})
    response = await post(api)
    resets_at = datetime.fromisoformat(response.json()["resets_at"])
    assert (resets_at.day, resets_at.hour, resets_at > datetime.now(UTC)) == (1, 0, True)
    left_s = (resets_at - datetime.now(UTC)).total_seconds()
    assert 0 <= int(response.headers["retry-after"]) - left_s < 60


async def test_retry_after_is_short_if_files_under_way_may_make_room(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    await give(sessions, client, "0.07")
    await post(api)
    response = await post(api)
    assert response.status_code == 429
    assert 1 <= int(response.headers["retry-after"]) <= 60


async def test_concurrent_jobs_do_not_exceed_the_budget_together(
    app: FastAPI, api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    await give(sessions, client, ONE * 5)
    responses = await asyncio.gather(*(post(api) for _ in range(30)))
    assert sorted(response.status_code for response in responses) == [202] * 5 + [429] * 25


async def test_two_processes_do_not_exceed_the_budget_together(
    app: FastAPI, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:
    client = api_client[0]
    await give(sessions, client, ONE * 3)
    validated = validate_job(model="fun-asr", region="beijing", parameters={}, served=["beijing"])
    new = NewJob(client.id, validated, "beijing", ["https://example.com/a.wav"], {}, None, None, None)
    batches = [create_jobs_within_budgets(sessions, [new, new], assumed_s=300) for _ in range(4)]
    outcomes = [outcome for batch in await asyncio.gather(*batches) for outcome in batch]
    assert sum(isinstance(outcome, CreatedJob) for outcome in outcomes) == 3


async def test_files_under_way_count_and_ended_ones_release_their_part(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    await give(sessions, client, ONE * 3)
    await add_job(sessions, client.id, [QUEUED, RUNNING, FAILED, CANCELED, SUCCEEDED])
    assert (await post(api, 2)).status_code == 429
    job = (await post(api)).json()
    assert (await post(api)).status_code == 429
    assert (await api.post(f"/v1/jobs/{job['id']}/cancel")).status_code == 200
    assert (await post(api)).status_code == 202


async def test_a_retry_is_subject_to_the_budget(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    job_id = await add_job(sessions, client.id, [FAILED, FAILED])
    await give(sessions, client, ONE * 3)
    running = await post(api, 2)
    refused = await api.post(f"/v1/jobs/{job_id}/retry")
    assert (refused.status_code, refused.json()["code"]) == (429, "budget_exceeded")
    assert (await api.get(f"/v1/jobs/{job_id}")).json()["status"] == "failed"
    assert (await api.post(f"/v1/jobs/{running.json()['id']}/cancel")).status_code == 200
    assert (await api.post(f"/v1/jobs/{job_id}/retry")).status_code == 202


async def test_a_replay_is_answered_although_the_budget_is_used_up(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    await give(sessions, client, ONE)
    headers = {"Idempotency-Key": "once"}
    first, second = await asyncio.gather(post(api, headers=headers), post(api, headers=headers))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    third = await post(api, headers=headers)
    assert (third.status_code, third.headers["idempotency-replayed"]) == (202, "true")
    assert (await post(api, headers={"Idempotency-Key": "another"})).status_code == 429


async def test_reused_files_need_no_budget(api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient) -> None:
    await transcribed(sessions, client.id)
    await give(sessions, client, "0")
    body = {"file_urls": [URL], "reuse": True}
    assert (await api.post("/v1/jobs", json=body)).status_code == 202
    body["file_urls"] = [URL, "https://example.com/new.wav"]
    assert (await api.post("/v1/jobs", json=body)).json()["code"] == "budget_exceeded"


async def test_the_estimate_is_an_average_of_recent_files_and_an_assumed_one(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    """(0.066 + 0.40) / 3, of the same model. Reused files are left out, and corrections counted without a file."""
    now = datetime.now(UTC)
    await add_usage(
        sessions,
        client.id,
        {"at": now, "cost": "0.30"},
        {"at": now, "cost": "0.12"},
        {"at": now, "cost": "-0.02", "files": 0},
        {"at": now, "cost": "0", "account": None},
        {"at": now, "cost": "0.01", "model": "paraformer-v2"},
    )
    await give(sessions, client, "0.81")
    assert (await post(api, 3)).json()["requested"]["amount"] == "0.46600"
    assert (await post(api, 2)).status_code == 202
    assert (await post(api)).json()["reserved"]["amount"] == "0.31067"


async def test_a_short_file_does_not_make_a_burst_of_others_cheap(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    await add_usage(sessions, client.id, {"at": datetime.now(UTC), "cost": "0.001"})
    await give(sessions, client, "0.2")
    assert (await post(api, 6)).json()["requested"]["amount"] == "0.20100"
    assert (await post(api, 5)).status_code == 202


async def test_silent_files_do_not_make_others_free(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    await add_usage(sessions, client.id, {"at": datetime.now(UTC), "cost": "0", "files": 200})
    await give(sessions, client, "0.01")
    assert (await post(api, 10)).json()["requested"]["amount"] == "0.01100"


async def test_an_estimate_above_the_whole_budget_does_not_refuse_a_lone_file(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    """Otherwise a small budget would never learn what the files of its client cost. The rest is refused meanwhile."""
    await give(sessions, client, "0.01")
    responses = await asyncio.gather(*(post(api) for _ in range(5)))
    assert sorted(response.status_code for response in responses) == [202] + [429] * 4
    assert all(int(each.headers["retry-after"]) <= 60 for each in responses if each.status_code == 429)
    await give(sessions, client, "0.001")
    await api.post(f"/v1/jobs/{next(r for r in responses if r.status_code == 202).json()['id']}/cancel")
    assert (await post(api)).status_code == 429  # less than five seconds cost


async def test_an_estimate_above_the_whole_budget_does_not_refuse_several_files_for_ever(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    """They are accepted alone, with the whole budget. Otherwise short files would never be accepted together."""
    await give(sessions, client, ONE)
    job = await post(api, 10)
    assert (job.status_code, job.json()["waiting_reason"]) == (202, None)
    assert (await post(api, 10)).json()["reserved"]["amount"] == "0.66000"
    assert (await post(api)).status_code == 429
    await api.post(f"/v1/jobs/{job.json()['id']}/cancel")
    assert (await post(api, 61)).status_code == 429  # five seconds of each cost more than the budget
    assert (await post(api, 60)).status_code == 202


async def test_files_that_have_cost_more_than_the_whole_budget_are_refused(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    """Also at the begin of a period, but for fewer of them."""
    before = datetime.now(UTC) - timedelta(days=40)
    await add_usage(sessions, client.id, *[{"at": before, "cost": "0.02"}] * 3)
    await give(sessions, client, "0.05")
    assert (await post(api, 3)).json()["requested"]["amount"] == "0.09450"
    assert (await post(api, 2)).status_code == 202


async def test_several_files_above_the_whole_budget_are_refused_when_something_is_spent(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    """A lone file may take what is left. Several wait for the next period."""
    await add_usage(sessions, client.id, {"at": datetime.now(UTC), "cost": "0.01", "model": "paraformer-v2"})
    await give(sessions, client, ONE)
    refused = await post(api, 2)
    assert (refused.status_code, refused.json()["spent"]["amount"]) == (429, "0.01000")
    assert (await post(api)).status_code == 429  # fits into a whole budget: it waits for the next period too
    await give(sessions, client, "0.03")
    assert (await post(api)).status_code == 202


async def test_a_job_that_waits_for_its_budget_says_so(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    """With the longest hint for the next request."""
    job_id = await add_job(sessions, client.id, [QUEUED, SUCCEEDED])
    await give(sessions, client, "5")
    await add_usage(sessions, client.id, {"at": datetime.now(UTC), "cost": "5"})
    submit_queue = SubmitQueue("beijing/default", "beijing", "fun-asr", max_files=1, submits_per_s=10)
    async with transaction(sessions) as session:
        assert await claim_task(session, submit_queue) is None
    response = await api.get(f"/v1/jobs/{job_id}")
    reason = response.json()["waiting_reason"]
    assert (reason.pop("since")[-1], response.headers["retry-after"]) == ("Z", "60")
    assert reason == {"code": "budget_exceeded", "account": None, "region": "beijing"}
    assert (await api.get("/v1/jobs")).json()["items"][0]["waiting_reason"]["code"] == "budget_exceeded"
    assert (await post(api)).json()["code"] == "budget_exceeded"
    await give(sessions, client, "6")
    response = await api.get(f"/v1/jobs/{job_id}")
    assert response.json()["waiting_reason"] is None


async def test_usage_of_earlier_periods_does_not_count(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    await add_usage(sessions, client.id, {"at": midnight - timedelta(microseconds=1), "cost": "5"})
    await give(sessions, client, "5")
    assert (await post(api)).status_code == 202
    await add_usage(sessions, client.id, {"at": midnight, "cost": "5"})
    assert (await post(api)).status_code == 429


async def test_a_model_in_another_currency_is_refused(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    await give(sessions, client, "10")
    refused = await post(api, fields={"model": TOKENS})
    assert (refused.status_code, refused.json()["code"]) == (422, "budget_currency_mismatch")
    assert refused.json()["errors"][0]["pointer"] == "/model"
    await add_job(sessions, client.id, [QUEUED] * 3, model=TOKENS)  # accepted before: not comparable
    assert (await post(api)).status_code == 202
    await give(sessions, client, "10", currency="USD")
    assert (await post(api, fields={"model": TOKENS})).status_code == 202


async def test_other_clients_are_not_affected(
    app: FastAPI, api: httpx.AsyncClient, other_api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    await give(sessions, client, "0")
    third, token = await new_client(sessions, "third")
    await give(sessions, third, "100")
    async with caller(app, token) as http:
        responses = await asyncio.gather(*(post(each) for each in (api, other_api, http)))
    assert [response.status_code for response in responses] == [429, 202, 202]


async def test_dashscope_programs_get_its_quota_error(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    await give(sessions, client, "0")
    response = await api.post(
        "/api/v1/services/audio/asr/transcription",
        json={"model": "fun-asr", "input": {"file_urls": ["https://example.com/a.wav"]}},
        headers={"X-DashScope-Async": "enable"},
    )
    assert (response.status_code, response.json()["code"]) == (429, "Throttling.AllocationQuota")
    assert "0.00000 is spent" in response.json()["message"]
    assert int(response.headers["retry-after"]) > 0


async def test_openai_programs_get_its_quota_error(
    api: httpx.AsyncClient, sessions: Sessions, client: CurrentClient
) -> None:
    await give(sessions, client, "0", BudgetPeriod.MONTH)
    response = await api.post(
        "/v1/audio/transcriptions", files={"model": (None, "whisper-1"), "url": (None, "https://example.com/a.wav")}
    )
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (429, "insufficient_quota", "budget_exceeded")
    assert response.headers["x-should-retry"] == "false"
    assert await count(sessions, Job) == 0
