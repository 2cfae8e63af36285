"""Deliveries from the end of a job to a client's server, with the poller, the sandbox and real servers."""

import asyncio
import json
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from app.db import transaction
from app.queue.commands import cancel_job, delete_job, retry_job
from app.queue.job_json import encode
from app.queue.queries import find_job
from app.webhooks.outbox import (
    KEPT_FREE,
    MAX_AT_ONCE,
    MAX_PER_CLIENT,
    MAX_PER_HOST,
    POSTPONE_S,
    Attempt,
    claim,
    postpone,
    record,
)
from app.webhooks.retry_schedule import DELAYS_S
from app.webhooks.signing_secrets import current_secret, rotate_secret
from tests.poller.conftest import QueueClient, StartPoller
from tests.webhooks.receiver import receiver, status

LOOPBACK = {"webhook_allowed_networks": "127.0.0.1/32"}
GOOD, BAD = "https://example.com/a.wav", "https://example.com/b.wav?sandbox=fail:FILE_DOWNLOAD_FAILED"
FAILED = Attempt(duration_ms=5, response_status=500, error_code="http_error", error_message="HTTP 500")
GONE = Attempt(duration_ms=5, response_status=410, error_code="gone", error_message="HTTP 410")
DONE = Attempt(duration_ms=5, response_status=204)


async def final_job(queue: QueueClient, url: str, *, client_id: UUID | None = None) -> UUID:
    """A job that is final at once, by being canceled, with its event in the outbox."""
    owner = client_id or queue.client_id
    job = await queue.post(GOOD, webhook_url=url, client_id=owner)
    await cancel_job(queue.sessions, owner, job)
    return job


async def deliveries(queue: QueueClient) -> list[Any]:
    return list(await queue.rows("SELECT *, due_at - now() AS wait FROM deliveries ORDER BY id"))


async def attempt_all(queue: QueueClient, attempt: Attempt) -> None:
    """Claim the due deliveries and record `attempt` for each."""
    async with transaction(queue.sessions) as session:
        claims = await claim(session, [])
    for claimed in claims:
        async with transaction(queue.sessions) as session:
            assert await record(session, claimed, attempt)


async def due_now(queue: QueueClient) -> None:
    await queue.rows("UPDATE deliveries SET due_at = now() WHERE status = 'pending' RETURNING id")


@pytest.mark.parametrize(("urls", "outcome"), [([GOOD], "succeeded"), ([GOOD, BAD], "partial"), ([BAD], "failed")])
async def test_final_job_is_sent_with_a_signature(
    queue: QueueClient, start_poller: StartPoller, urls: list[str], outcome: str
) -> None:
    async with receiver() as server, start_poller(**LOOPBACK):
        job = await queue.post(*urls, webhook_url=server.url())
        got = await server.got()
        await queue.until("SELECT 1 FROM deliveries WHERE status = 'succeeded'")
    async with transaction(queue.sessions) as session:
        secret = await current_secret(session, queue.client_id)
        expected = json.loads(encode((await find_job(session, queue.client_id, job)).job))
    event = Webhook(secret).verify(got.body, got.headers)
    assert event["type"] == f"job.{outcome}"
    assert event["data"] == {name: value for name, value in expected.items() if not name.startswith("files")}
    assert event["timestamp"] == event["data"]["finished_at"]
    (delivery,) = await deliveries(queue)
    assert got.headers["webhook-id"] == str(delivery.id)
    assert len(server.received) == 1


async def test_job_without_a_webhook_has_no_delivery(queue: QueueClient) -> None:
    job = await queue.post(GOOD)
    await cancel_job(queue.sessions, queue.client_id, job)
    assert not await deliveries(queue)


async def test_event_is_stored_when_the_job_becomes_final(queue: QueueClient) -> None:
    job = await queue.post(GOOD, webhook_url="https://example.com/hook")
    assert not await deliveries(queue)
    await cancel_job(queue.sessions, queue.client_id, job)
    (delivery,) = await deliveries(queue)
    assert (delivery.job_id, delivery.type, delivery.status) == (job, "job.canceled", "pending")
    assert delivery.host == "example.com:https"


async def retry(queue: QueueClient, job: UUID) -> None:
    async with transaction(queue.sessions) as session:
        await retry_job(session, queue.client_id, job)


async def test_retried_job_has_a_second_event_that_replaces_the_first(queue: QueueClient) -> None:
    job = await final_job(queue, "https://example.com/hook")
    other = await final_job(queue, "https://example.com/hook")
    await attempt_all(queue, FAILED)
    await retry(queue, job)
    assert {row.job_id: row.status for row in await deliveries(queue)} == {job: "superseded", other: "pending"}
    await cancel_job(queue.sessions, queue.client_id, job)
    first, second = [row for row in await deliveries(queue) if row.job_id == job]
    assert (first.status, second.status) == ("superseded", "pending")
    assert (first.id != second.id, first.body != second.body) == (True, True)
    assert json.loads(first.body)["timestamp"] < json.loads(second.body)["timestamp"]


@pytest.mark.parametrize(("outcome", "status"), [(FAILED, "superseded"), (DONE, "succeeded")])
async def test_an_attempt_during_the_retry_of_its_job_is_the_last(
    queue: QueueClient, outcome: Attempt, status: str
) -> None:
    job = await final_job(queue, "https://example.com/hook")
    async with transaction(queue.sessions) as session:
        (claimed,) = await claim(session, [])
    await retry(queue, job)
    await cancel_job(queue.sessions, queue.client_id, job)
    async with transaction(queue.sessions) as session:
        assert await record(session, claimed, outcome)
    first, second = await deliveries(queue)
    assert (first.status, first.attempts, second.status) == (status, 1, "pending")


async def test_deleting_a_job_deletes_its_deliveries(queue: QueueClient) -> None:
    job = await final_job(queue, "https://example.com/hook")
    await attempt_all(queue, FAILED)
    async with transaction(queue.sessions) as session:
        await delete_job(session, queue.client_id, job)
    assert not await deliveries(queue)


async def test_retry_sends_the_same_id_and_body(queue: QueueClient, start_poller: StartPoller) -> None:
    async with receiver("127.0.0.1", status(500, b"oh no"), status(204)) as server, start_poller(**LOOPBACK):
        await final_job(queue, server.url())
        first = await server.got(1)
        await queue.until("SELECT 1 FROM deliveries WHERE attempts = 1 AND lease_token IS NULL")
        await due_now(queue)
        second = await server.got(2)
        await queue.until("SELECT 1 FROM deliveries WHERE status = 'succeeded'")
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    log = await queue.rows("SELECT * FROM delivery_attempts ORDER BY number")
    assert [(row.number, row.response_status, row.error_code) for row in log] == [
        (1, 500, "http_error"),
        (2, 204, None),
    ]
    assert log[0].response_excerpt == "oh no"


async def test_delivery_fails_at_the_end_of_the_schedule(queue: QueueClient) -> None:
    await final_job(queue, "https://example.com/hook")
    for delay_s in DELAYS_S:
        await attempt_all(queue, FAILED)
        (delivery,) = await deliveries(queue)
        assert delivery.status == "pending"
        assert delay_s * 0.95 <= delivery.wait.total_seconds() <= delay_s * 1.1 + 1
        await due_now(queue)
    await attempt_all(queue, FAILED)
    (delivery,) = await deliveries(queue)
    assert (delivery.status, delivery.attempts) == ("failed", len(DELAYS_S) + 1)


async def test_url_that_answers_410_is_disabled_for_its_client(queue: QueueClient) -> None:
    for url in ("https://example.com/gone", "https://example.com/gone", "https://example.com/other"):
        await final_job(queue, url)
    async with transaction(queue.sessions) as session:
        claims = await claim(session, [])
        await session.rollback()
    gone = next(each for each in claims if each.url.endswith("gone"))
    await queue.rows(
        "UPDATE deliveries SET lease_token = :token WHERE id = :id RETURNING id", token=gone.token, id=gone.id
    )
    async with transaction(queue.sessions) as session:
        assert await record(session, gone, GONE)
    await final_job(queue, "https://example.com/gone")
    other = await queue.client("other")
    await final_job(queue, "https://example.com/gone", client_id=other)
    rows = await deliveries(queue)
    assert [row.status for row in rows] == ["failed", "disabled", "pending", "disabled", "pending"]
    assert rows[4].client_id == other


async def test_attempt_with_a_lost_lease_is_not_recorded(queue: QueueClient) -> None:
    await final_job(queue, "https://example.com/hook")
    async with transaction(queue.sessions) as session:
        (late,) = await claim(session, [])
    async with transaction(queue.sessions) as session:
        assert not await claim(session, [])
    await due_now(queue)
    async with transaction(queue.sessions) as session:
        (current,) = await claim(session, [])
    async with transaction(queue.sessions) as session:
        assert not await record(session, late, FAILED)
        assert await record(session, current, DONE)
    (delivery,) = await deliveries(queue)
    assert (delivery.status, delivery.attempts) == ("succeeded", 1)


async def test_concurrent_claims_share_the_due_deliveries(queue: QueueClient) -> None:
    for _ in range(6):
        await final_job(queue, "https://example.com/hook")

    async def take() -> set[UUID]:
        async with transaction(queue.sessions) as session:
            return {claimed.id for claimed in await claim(session, [])}

    taken = await asyncio.gather(*(take() for _ in range(4)))
    assert sum(len(ids) for ids in taken) == len(set().union(*taken)) == 6


async def test_claim_limits_each_host_and_serves_clients_in_turn(queue: QueueClient) -> None:
    other = await queue.client("other")
    for _ in range(MAX_PER_HOST + 3):
        await final_job(queue, "https://shared.example/hook")
    await final_job(queue, "https://shared.example/hook", client_id=other)
    await final_job(queue, "https://own.example/hook")
    async with transaction(queue.sessions) as session:
        first = await claim(session, [])
    assert sum(each.host == "shared.example:https" for each in first) == MAX_PER_HOST
    assert {each.client_id for each in first} == {queue.client_id, other}
    assert len(first) == MAX_PER_HOST + 1 <= MAX_AT_ONCE
    async with transaction(queue.sessions) as session:
        assert not await claim(session, first)
    async with transaction(queue.sessions) as session:
        finished = next(each for each in first if each.host == "shared.example:https")
        (freed,) = await claim(session, [each for each in first if each is not finished])
    assert freed.host == finished.host


async def test_one_client_does_not_take_all_places(queue: QueueClient) -> None:
    others = [await queue.client(f"client-{number}") for number in range(4)]
    for number in range(MAX_PER_CLIENT + 4):
        for client_id in (queue.client_id, *others[:2]):
            await final_job(queue, f"https://host-{number % 5}.{client_id}.example/hook", client_id=client_id)
    async with transaction(queue.sessions) as session:
        first = await claim(session, [])
    assert Counter(each.client_id for each in first) == dict.fromkeys(
        (queue.client_id, *others[:2]), (MAX_AT_ONCE - KEPT_FREE) // 3
    )
    # The places that are kept free are for clients without an attempt in flight, one for each.
    for client_id in others[2:]:
        for _ in range(2):
            await final_job(queue, f"https://{client_id}.example/hook", client_id=client_id)
    async with transaction(queue.sessions) as session:
        second = await claim(session, first)
    assert sorted(each.client_id for each in second) == sorted(others[2:])


async def test_a_client_alone_has_its_limit(queue: QueueClient) -> None:
    for number in range(MAX_PER_CLIENT + 4):
        await final_job(queue, f"https://host-{number}.example/hook")
    async with transaction(queue.sessions) as session:
        first = await claim(session, [])
    async with transaction(queue.sessions) as session:
        assert not await claim(session, first)
    assert len(first) == MAX_PER_CLIENT


async def test_a_postponed_delivery_counts_no_attempt(queue: QueueClient) -> None:
    await final_job(queue, "https://example.com/hook")
    async with transaction(queue.sessions) as session:
        (claimed,) = await claim(session, [])
    async with transaction(queue.sessions) as session:
        await postpone(session, claimed)
    (delivery,) = await deliveries(queue)
    assert (delivery.status, delivery.attempts, delivery.lease_token) == ("pending", 0, None)
    assert 0 < delivery.wait.total_seconds() <= POSTPONE_S


async def test_slow_server_does_not_delay_other_hosts(queue: QueueClient, start_poller: StartPoller) -> None:
    async with receiver("127.0.0.1", None) as slow, receiver() as quick, start_poller(**LOOPBACK):
        for _ in range(MAX_PER_HOST + 4):
            await final_job(queue, slow.url())
        await slow.got(MAX_PER_HOST)
        await final_job(queue, quick.url())
        await quick.got()
        assert slow.max_concurrent == MAX_PER_HOST
        slow.release.set()
        await queue.until(
            "SELECT 1 FROM deliveries WHERE status = 'succeeded' HAVING count(*) = :all", all=MAX_PER_HOST + 5
        )
        assert slow.max_concurrent == MAX_PER_HOST


async def test_loopback_is_forbidden_by_default(queue: QueueClient, start_poller: StartPoller) -> None:
    async with receiver() as server, start_poller():
        await final_job(queue, server.url())
        await queue.until("SELECT 1 FROM delivery_attempts WHERE error_code = 'forbidden_address'")
        assert server.connections == 0


async def test_both_secrets_verify_after_a_rotation(queue: QueueClient, start_poller: StartPoller) -> None:
    async with transaction(queue.sessions) as session:
        old = await current_secret(session, queue.client_id)
        new = await rotate_secret(session, queue.client_id)
    async with receiver() as server, start_poller(**LOOPBACK):
        await final_job(queue, server.url())
        got = await server.got()
        assert [verified(secret, got.body, got.headers) for secret in (old, new)] == ["job.canceled"] * 2
        await queue.rows("UPDATE webhook_secrets SET expires_at = now() WHERE expires_at IS NOT NULL RETURNING id")
        await final_job(queue, server.url())
        got = await server.got(2)
    assert len(got.headers["webhook-signature"].split()) == 1
    assert verified(new, got.body, got.headers) == "job.canceled"


def verified(secret: str, body: str, headers: dict[str, str]) -> str:
    event: dict[str, str] = Webhook(secret).verify(body, headers)
    return event["type"]
