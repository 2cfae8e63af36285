"""From the end of a job to a client's server: the poller, the sandbox, real servers and the official verifier."""

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from app.db import transaction
from app.queue.commands import cancel_job, delete_job, retry_job
from app.queue.job_json import encode
from app.queue.queries import find_job
from app.webhooks.outbox import MAX_AT_ONCE, MAX_PER_HOST, Attempt, claim, record
from app.webhooks.retry_schedule import DELAYS_S
from app.webhooks.signing_secrets import current_secret, rotate_secret
from tests.poller.conftest import QueueClient as Desk
from tests.poller.conftest import StartPoller
from tests.webhooks.receiver import receiver, status

LOOPBACK = {"webhook_allowed_networks": "127.0.0.1/32"}
GOOD, BAD = "https://example.com/a.wav", "https://example.com/b.wav?sandbox=fail:FILE_DOWNLOAD_FAILED"
FAILED = Attempt(duration_ms=5, response_status=500, error_code="http_error", error_message="HTTP 500")
GONE = Attempt(duration_ms=5, response_status=410, error_code="gone", error_message="HTTP 410")
DONE = Attempt(duration_ms=5, response_status=204)


async def final_job(services: Desk, url: str, *, client_id: UUID | None = None) -> UUID:
    """A job that is final at once, by being canceled, with its event in the outbox."""
    owner = client_id or services.client_id
    job = await services.post(GOOD, webhook_url=url, client_id=owner)
    await cancel_job(services.sessions, owner, job)
    return job


async def deliveries(services: Desk) -> list[Any]:
    return list(await services.rows("SELECT *, due_at - now() AS wait FROM deliveries ORDER BY id"))


async def tried(services: Desk, attempt: Attempt) -> None:
    """Claim what is due and record this for it."""
    async with transaction(services.sessions) as session:
        claims = await claim(session, [])
    for claimed in claims:
        async with transaction(services.sessions) as session:
            assert await record(session, claimed, attempt)


async def due_now(services: Desk) -> None:
    await services.rows("UPDATE deliveries SET due_at = now() WHERE status = 'pending' RETURNING id")


@pytest.mark.parametrize(("urls", "outcome"), [([GOOD], "succeeded"), ([GOOD, BAD], "partial"), ([BAD], "failed")])
async def test_the_end_of_a_job_is_told_with_the_job_and_a_signature(
    services: Desk, start_poller: StartPoller, urls: list[str], outcome: str
) -> None:
    async with receiver() as server, start_poller(**LOOPBACK):
        job = await services.post(*urls, webhook_url=server.url())
        got = await server.got()
        await services.until("SELECT 1 FROM deliveries WHERE status = 'succeeded'")
    async with transaction(services.sessions) as session:
        secret = await current_secret(session, services.client_id)
        shown = json.loads(encode((await find_job(session, services.client_id, job)).job))
    event = Webhook(secret).verify(got.body, got.headers)
    assert event["type"] == f"job.{outcome}"
    assert event["data"] == {name: value for name, value in shown.items() if not name.startswith("files")}
    assert event["timestamp"] == event["data"]["finished_at"]
    (delivery,) = await deliveries(services)
    assert got.headers["webhook-id"] == str(delivery.id)
    assert len(server.received) == 1


async def test_a_job_without_a_webhook_leaves_nothing_in_the_outbox(services: Desk) -> None:
    job = await services.post(GOOD)
    await cancel_job(services.sessions, services.client_id, job)
    assert not await deliveries(services)


async def test_the_event_is_there_as_soon_as_the_job_is_final_and_never_before(services: Desk) -> None:
    job = await services.post(GOOD, webhook_url="https://example.com/hook")
    assert not await deliveries(services)
    await cancel_job(services.sessions, services.client_id, job)
    (delivery,) = await deliveries(services)
    assert (delivery.job_id, delivery.type, delivery.status) == (job, "job.canceled", "pending")
    assert delivery.host == "example.com:https"


async def test_a_job_that_is_retried_is_told_of_again(services: Desk) -> None:
    job = await final_job(services, "https://example.com/hook")
    async with transaction(services.sessions) as session:
        await retry_job(session, services.client_id, job)
    assert len(await deliveries(services)) == 1
    await cancel_job(services.sessions, services.client_id, job)
    first, second = await deliveries(services)
    assert (first.id != second.id, first.body != second.body) == (True, True)


async def test_a_deleted_job_takes_its_deliveries_with_it(services: Desk) -> None:
    job = await final_job(services, "https://example.com/hook")
    await tried(services, FAILED)
    async with transaction(services.sessions) as session:
        await delete_job(session, services.client_id, job)
    assert not await deliveries(services)


async def test_what_fails_is_sent_again_with_the_same_id_and_body_and_a_new_timestamp(
    services: Desk, start_poller: StartPoller
) -> None:
    async with receiver("127.0.0.1", status(500, b"oh no"), status(204)) as server, start_poller(**LOOPBACK):
        await final_job(services, server.url())
        first = await server.got(1)
        await services.until("SELECT 1 FROM deliveries WHERE attempts = 1 AND lease_token IS NULL")
        await due_now(services)
        second = await server.got(2)
        await services.until("SELECT 1 FROM deliveries WHERE status = 'succeeded'")
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    log = await services.rows("SELECT * FROM delivery_attempts ORDER BY number")
    assert [(row.number, row.response_status, row.error_code) for row in log] == [
        (1, 500, "http_error"),
        (2, 204, None),
    ]
    assert log[0].response_excerpt == "oh no"


async def test_a_delivery_is_tried_along_the_schedule_and_then_given_up(services: Desk) -> None:
    await final_job(services, "https://example.com/hook")
    for delay_s in DELAYS_S:
        await tried(services, FAILED)
        (delivery,) = await deliveries(services)
        assert delivery.status == "pending"
        assert delay_s * 0.95 <= delivery.wait.total_seconds() <= delay_s * 1.1 + 1
        await due_now(services)
    await tried(services, FAILED)
    (delivery,) = await deliveries(services)
    assert (delivery.status, delivery.attempts) == ("failed", len(DELAYS_S) + 1)


async def test_a_url_that_is_gone_is_told_nothing_more(services: Desk) -> None:
    for url in ("https://example.com/gone", "https://example.com/gone", "https://example.com/other"):
        await final_job(services, url)
    async with transaction(services.sessions) as session:
        claims = await claim(session, [])
        await session.rollback()
    gone = next(each for each in claims if each.url.endswith("gone"))
    await services.rows(
        "UPDATE deliveries SET lease_token = :token WHERE id = :id RETURNING id", token=gone.token, id=gone.id
    )
    async with transaction(services.sessions) as session:
        assert await record(session, gone, GONE)
    await final_job(services, "https://example.com/gone")
    stranger = await services.client("stranger")
    await final_job(services, "https://example.com/gone", client_id=stranger)
    rows = await deliveries(services)
    assert [row.status for row in rows] == ["failed", "disabled", "pending", "disabled", "pending"]
    assert rows[4].client_id == stranger


async def test_a_lost_lease_logs_nothing_and_what_was_claimed_is_due_again_later(services: Desk) -> None:
    await final_job(services, "https://example.com/hook")
    async with transaction(services.sessions) as session:
        (late,) = await claim(session, [])
    async with transaction(services.sessions) as session:
        assert not await claim(session, [])
    await due_now(services)
    async with transaction(services.sessions) as session:
        (current,) = await claim(session, [])
    async with transaction(services.sessions) as session:
        assert not await record(session, late, FAILED)
        assert await record(session, current, DONE)
    (delivery,) = await deliveries(services)
    assert (delivery.status, delivery.attempts) == ("succeeded", 1)


async def test_two_pollers_that_claim_at_once_share_what_is_due(services: Desk) -> None:
    for _ in range(6):
        await final_job(services, "https://example.com/hook")

    async def take() -> set[UUID]:
        async with transaction(services.sessions) as session:
            return {claimed.id for claimed in await claim(session, [])}

    taken = await asyncio.gather(*(take() for _ in range(4)))
    assert sum(len(ids) for ids in taken) == len(set().union(*taken)) == 6


async def test_a_claim_takes_few_of_one_host_and_clients_in_turn(services: Desk) -> None:
    other = await services.client("other")
    for _ in range(MAX_PER_HOST + 3):
        await final_job(services, "https://shared.example/hook")
    await final_job(services, "https://shared.example/hook", client_id=other)
    await final_job(services, "https://own.example/hook")
    async with transaction(services.sessions) as session:
        first = await claim(session, [])
    assert sum(each.host == "shared.example:https" for each in first) == MAX_PER_HOST
    assert {each.client_id for each in first} == {services.client_id, other}
    assert len(first) == MAX_PER_HOST + 1 <= MAX_AT_ONCE
    async with transaction(services.sessions) as session:
        assert not await claim(session, first)
    async with transaction(services.sessions) as session:
        ended = next(each for each in first if each.host == "shared.example:https")
        (freed,) = await claim(session, [each for each in first if each is not ended])
    assert freed.host == ended.host


async def test_a_server_that_never_answers_holds_nobody_else_up(services: Desk, start_poller: StartPoller) -> None:
    async with receiver("127.0.0.1", None) as slow, receiver() as quick, start_poller(**LOOPBACK):
        for _ in range(MAX_PER_HOST + 4):
            await final_job(services, slow.url())
        await slow.got(MAX_PER_HOST)
        await final_job(services, quick.url())
        await quick.got()
        assert slow.most_at_once == MAX_PER_HOST
        slow.release.set()
        await services.until(
            "SELECT 1 FROM deliveries WHERE status = 'succeeded' HAVING count(*) = :all", all=MAX_PER_HOST + 5
        )
        assert slow.most_at_once == MAX_PER_HOST


async def test_loopback_is_not_reached_unless_it_is_allowed(services: Desk, start_poller: StartPoller) -> None:
    async with receiver() as server, start_poller():
        await final_job(services, server.url())
        await services.until("SELECT 1 FROM delivery_attempts WHERE error_code = 'forbidden_address'")
        assert server.connections == 0


async def test_after_a_rotation_both_secrets_verify(services: Desk, start_poller: StartPoller) -> None:
    async with transaction(services.sessions) as session:
        old = await current_secret(session, services.client_id)
        new = await rotate_secret(session, services.client_id)
    async with receiver() as server, start_poller(**LOOPBACK):
        await final_job(services, server.url())
        got = await server.got()
        assert [verified(secret, got.body, got.headers) for secret in (old, new)] == ["job.canceled"] * 2
        await services.rows("UPDATE webhook_secrets SET expires_at = now() WHERE expires_at IS NOT NULL RETURNING id")
        await final_job(services, server.url())
        got = await server.got(2)
    assert len(got.headers["webhook-signature"].split()) == 1
    assert verified(new, got.body, got.headers) == "job.canceled"


def verified(secret: str, body: str, headers: dict[str, str]) -> str:
    event: dict[str, str] = Webhook(secret).verify(body, headers)
    return event["type"]
