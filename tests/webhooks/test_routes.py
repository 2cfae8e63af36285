"""`/v1/webhooks` and `/v1/deliveries` over HTTP."""

from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from standardwebhooks import Webhook

from app.clients.rate_limits import RateLimiter
from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.queue.commands import cancel_job
from app.settings import load_settings
from app.webhooks.outbox import Attempt, claim, record
from app.webhooks.routes import MAX_PINGS, PINGS_OVER_S
from app.webhooks.sender import Sender
from app.webhooks.signing_secrets import signing_secrets
from tests.jobs.rows import add_job
from tests.webhooks.receiver import receiver, status

ALLOWED = load_settings({"webhook_allowed_networks": "127.0.0.1/32"}).webhook_allowed_networks
UNKNOWN = "01980000-0000-7000-8000-000000000000"
GONE = Attempt(duration_ms=5, response_status=410, error_code="gone", error_message="The server answered 410 Gone.")
DONE = Attempt(duration_ms=12, response_status=200, response_excerpt="thanks")


@pytest.fixture
def app(app: FastAPI) -> FastAPI:
    app.state.webhook_sender = Sender(ALLOWED)
    return app


@pytest.fixture
async def job(api_client: tuple[CurrentClient, str], sessions: Sessions) -> UUID:
    """A job that was canceled, with its event in the outbox."""
    return await canceled_job(sessions, api_client[0].id, "https://example.com/hook")


async def canceled_job(sessions: Sessions, client_id: UUID, url: str) -> UUID:
    job = await add_job(sessions, client_id, webhook_url=url)
    await cancel_job(sessions, client_id, job)
    return job


async def attempt_all(sessions: Sessions, attempt: Attempt) -> None:
    async with transaction(sessions) as session:
        for claimed in await claim(session, []):
            await record(session, claimed, attempt)


async def test_each_client_has_one_secret(api: httpx.AsyncClient, other_api: httpx.AsyncClient) -> None:
    first, again = await api.get("/v1/webhooks/secret"), await api.get("/v1/webhooks/secret")
    assert first.json().keys() == {"secret"}
    assert first.json()["secret"].startswith("whsec_")
    assert first.json() == again.json()
    assert first.headers["cache-control"] == "no-store"
    assert (await other_api.get("/v1/webhooks/secret")).json() != first.json()


async def test_rotation_replaces_the_secret(api: httpx.AsyncClient) -> None:
    secrets = [(await api.get("/v1/webhooks/secret")).json()["secret"]]
    for _ in range(6):
        rotated = await api.post("/v1/webhooks/secret/rotate")
        assert rotated.status_code == 200
        assert (await api.get("/v1/webhooks/secret")).json() == rotated.json()
        secrets.append(rotated.json()["secret"])
    assert len(set(secrets)) == 7


async def test_rotation_can_end_the_old_secret_at_once(
    api: httpx.AsyncClient, sessions: Sessions, api_client: tuple[CurrentClient, str]
) -> None:
    await api.post("/v1/webhooks/secret/rotate")
    rotated = await api.post("/v1/webhooks/secret/rotate?revoke=true")
    async with transaction(sessions) as session:
        valid = await signing_secrets(session, {api_client[0].id})
    assert valid == {api_client[0].id: [rotated.json()["secret"]]}


@pytest.mark.slow
async def test_pings_are_limited_per_client(app: FastAPI, api: httpx.AsyncClient, other_api: httpx.AsyncClient) -> None:
    now = 100.0
    app.state.ping_limit = RateLimiter(MAX_PINGS, per_s=PINGS_OVER_S, clock=lambda: now)
    async with receiver("127.0.0.1") as server:
        body = {"url": server.url()}
        statuses = [(await api.post("/v1/webhooks/test", json=body)).status_code for _ in range(MAX_PINGS)]
        assert statuses == [200] * MAX_PINGS
        refused = await api.post("/v1/webhooks/test", json=body)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_test_pings")
        assert len(server.received) == MAX_PINGS
        assert (await other_api.post("/v1/webhooks/test", json=body)).status_code == 200
        now += int(refused.headers["retry-after"])
        assert (await api.post("/v1/webhooks/test", json=body)).status_code == 200
        assert (await api.post("/v1/webhooks/test", json=body)).status_code == 429


async def test_invalid_url_does_not_count_as_a_ping(app: FastAPI, api: httpx.AsyncClient) -> None:
    app.state.ping_limit = RateLimiter(1, per_s=PINGS_OVER_S)
    for _ in range(3):
        assert (await api.post("/v1/webhooks/test", json={"url": "nowhere"})).status_code == 422


async def test_ping_to_a_forbidden_address_does_not_count(app: FastAPI, api: httpx.AsyncClient) -> None:
    app.state.ping_limit = RateLimiter(1, per_s=PINGS_OVER_S)
    for _ in range(3):
        response = await api.post("/v1/webhooks/test", json={"url": "http://10.0.0.1/hook"})
        assert response.json()["error"]["code"] == "forbidden_address"


async def test_ping_is_signed_and_its_result_returned(api: httpx.AsyncClient) -> None:
    secret = (await api.get("/v1/webhooks/secret")).json()["secret"]
    async with receiver("127.0.0.1", status(200, b"hello")) as server:
        response = await api.post("/v1/webhooks/test", json={"url": server.url()})
        got = await server.got()
    assert Webhook(secret).verify(got.body, got.headers)["type"] == "webhook.test"
    assert response.status_code == 200
    result = response.json()
    assert result.pop("duration_ms") >= 0
    assert result == {"delivered": True, "response_status": 200, "response_excerpt": "hello", "error": None}


async def test_ping_to_a_forbidden_address_is_refused(api: httpx.AsyncClient) -> None:
    async with receiver("127.0.0.2") as server:
        response = await api.post("/v1/webhooks/test", json={"url": server.url()})
        assert server.connections == 0
    assert response.json()["error"]["code"] == "forbidden_address"
    assert response.json()["delivered"] is False


@pytest.mark.parametrize(
    "body", [{}, {"url": None}, {"url": "ftp://example.com"}, {"url": "oss://b/a"}, {"url": "https://a", "x": 1}]
)
async def test_invalid_webhook_url_is_refused(api: httpx.AsyncClient, body: dict[str, object]) -> None:
    response = await api.post("/v1/webhooks/test", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")


async def test_log_has_each_attempt(api: httpx.AsyncClient, sessions: Sessions, job: UUID) -> None:
    (waiting,) = (await api.get(f"/v1/jobs/{job}/deliveries")).json()["items"]
    assert (waiting["status"], waiting["attempts"]) == ("pending", [])
    assert waiting["next_attempt_at"] is not None
    await attempt_all(sessions, DONE)
    (done,) = (await api.get(f"/v1/jobs/{job}/deliveries")).json()["items"]
    assert (done["status"], done["next_attempt_at"], done["type"]) == ("succeeded", None, "job.canceled")
    (attempt,) = done["attempts"]
    assert attempt.pop("started_at").endswith("Z")
    assert attempt == {
        "number": 1,
        "duration_ms": 12,
        "response_status": 200,
        "response_excerpt": "thanks",
        "error": None,
    }


async def test_log_has_pages(api: httpx.AsyncClient, sessions: Sessions, job: UUID) -> None:
    await api.post(f"/v1/jobs/{job}/retry")
    await api.post(f"/v1/jobs/{job}/cancel")
    first = (await api.get(f"/v1/jobs/{job}/deliveries?limit=1")).json()
    rest = (await api.get(f"/v1/jobs/{job}/deliveries", params={"cursor": first["next_cursor"]})).json()
    assert first["items"][0]["id"] > rest["items"][0]["id"]
    assert (len(rest["items"]), rest["next_cursor"]) == (1, None)


async def test_cursor_of_another_job_is_refused(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions, job: UUID
) -> None:
    await api.post(f"/v1/jobs/{job}/retry")
    await api.post(f"/v1/jobs/{job}/cancel")
    cursor = (await api.get(f"/v1/jobs/{job}/deliveries?limit=1")).json()["next_cursor"]
    other = await canceled_job(sessions, api_client[0].id, "https://example.com/hook")
    response = await api.get(f"/v1/jobs/{other}/deliveries", params={"cursor": cursor})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_cursor")


@pytest.mark.parametrize("attempt", [DONE, GONE])
async def test_delivery_of_any_status_can_be_retried(
    api: httpx.AsyncClient, sessions: Sessions, job: UUID, attempt: Attempt
) -> None:
    await attempt_all(sessions, attempt)
    (delivery,) = (await api.get(f"/v1/jobs/{job}/deliveries")).json()["items"]
    response = await api.post(f"/v1/deliveries/{delivery['id']}/retry")
    assert (response.status_code, response.json()["status"], response.json()["id"]) == (202, "pending", delivery["id"])
    await attempt_all(sessions, DONE)
    (again,) = (await api.get(f"/v1/jobs/{job}/deliveries")).json()["items"]
    assert (again["status"], [each["number"] for each in again["attempts"]]) == ("succeeded", [1, 2])


async def test_retry_does_not_change_a_leased_delivery(api: httpx.AsyncClient, sessions: Sessions, job: UUID) -> None:
    async with transaction(sessions) as session:
        (claimed,) = await claim(session, [])
    assert (await api.post(f"/v1/deliveries/{claimed.id}/retry")).status_code == 202
    async with transaction(sessions) as session:
        assert not await claim(session, [])


async def test_successful_ping_enables_a_disabled_url(
    api: httpx.AsyncClient, api_client: tuple[CurrentClient, str], sessions: Sessions
) -> None:
    async with receiver() as server:
        await canceled_job(sessions, api_client[0].id, server.url())
        await attempt_all(sessions, GONE)
        assert await new_delivery(api, sessions, api_client[0].id, server.url()) == "disabled"
        assert (await api.post("/v1/webhooks/test", json={"url": server.url()})).json()["delivered"]
        assert await new_delivery(api, sessions, api_client[0].id, server.url()) == "pending"


async def new_delivery(api: httpx.AsyncClient, sessions: Sessions, client_id: UUID, url: str) -> str:
    job = await canceled_job(sessions, client_id, url)
    (delivery,) = (await api.get(f"/v1/jobs/{job}/deliveries")).json()["items"]
    return str(delivery["status"])


async def test_deliveries_of_another_client_are_not_found(
    api: httpx.AsyncClient, other_api: httpx.AsyncClient, sessions: Sessions, job: UUID
) -> None:
    (delivery,) = (await api.get(f"/v1/jobs/{job}/deliveries")).json()["items"]
    for response in (
        await other_api.get(f"/v1/jobs/{job}/deliveries"),
        await other_api.post(f"/v1/deliveries/{delivery['id']}/retry"),
        await api.get(f"/v1/jobs/{UNKNOWN}/deliveries"),
        await api.post(f"/v1/deliveries/{UNKNOWN}/retry"),
    ):
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


async def test_openapi_describes_the_events(app: FastAPI) -> None:
    document = app.openapi()
    assert document["webhooks"].keys() == {"job.succeeded", "job.partial", "job.failed", "job.canceled"}
    for operation in (methods["post"] for methods in document["webhooks"].values()):
        assert {parameter["name"] for parameter in operation["parameters"]} == {
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
        }
        assert "422" not in operation["responses"]
    assert "files" not in document["components"]["schemas"]["JobSummary"]["properties"]
