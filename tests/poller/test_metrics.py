"""The metrics that show whether the poller works and what waits."""

import time
from datetime import timedelta

from prometheus_client import REGISTRY
from sqlalchemy import insert

from app.connections import Connections, DatabaseAvailability
from app.db import transaction
from app.identifiers import new_id
from app.poller.metrics import measure
from app.webhooks.models import Delivery
from tests.poller.conftest import QueueClient, StartPoller

ACCOUNTS = ["beijing/default", "singapore/default"]


def metric(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(f"asr_gateway_{name}", labels)
    assert value is not None, (name, labels)
    return value


async def test_job_moves_the_metrics_of_calls_budgets_and_the_poller(
    queue: QueueClient, start_poller: StartPoller
) -> None:
    began_at = time.time()
    job = await queue.post("https://example.com/a.wav?sandbox=seconds:5")
    async with start_poller():
        assert await queue.final(job) == ["succeeded"]
    for kind in ("submit", "query"):
        assert metric("upstream_call_seconds_count", account="beijing/default", kind=kind) >= 1
    assert metric("upstream_last_response_timestamp_seconds", account="beijing/default") >= began_at
    assert metric("poller_last_round_timestamp_seconds") >= began_at
    assert metric("budget_calls_total", account="beijing/default", kind="submit:fun-asr") >= 1
    assert metric("audio_seconds_total", model="fun-asr", region="beijing") >= 5
    assert metric("cost_total", model="fun-asr", region="beijing", currency="CNY") > 0
    await measure(queue.sessions, ACCOUNTS)
    assert metric("budget_limit", account="beijing/default", kind="submit:fun-asr") == 10
    assert 0 < metric("budget_rate", account="beijing/default", kind="submit:fun-asr") <= 10


async def test_gauges_of_an_idle_database_are_zero(queue: QueueClient) -> None:
    await measure(queue.sessions, ACCOUNTS)
    for name in ("webhooks_pending", "webhooks_pending_seconds", "search_segments_unindexed"):
        assert metric(name) == 0
    for account in ACCOUNTS:
        for name in ("tasks_in_flight", "tasks_unsure", "results_uncollected_seconds"):
            assert metric(name, account=account) == 0
    assert metric("files_waiting", region="singapore", model="fun-asr") == 0


async def test_backlogs_have_a_number_and_an_age(queue: QueueClient, start_poller: StartPoller) -> None:
    job = await queue.post("https://example.com/a.wav")
    async with start_poller():
        await queue.final(job)
    (row,) = await queue.rows(
        "UPDATE tasks SET state = 'running', done_at = NULL, ended_at = now() - interval '1 hour'"
        " RETURNING now() AS now"
    )
    delivery = {
        "id": new_id(),
        "job_id": job,
        "client_id": queue.client_id,
        "type": "job.succeeded",
        "url": "https://example.com/hook",
        "host": "example.com",
        "body": "{}",
        "created_at": row.now - timedelta(hours=2),
    }
    async with transaction(queue.sessions) as session:
        await session.execute(insert(Delivery).values(**delivery))
    await queue.rows("UPDATE transcript_segments SET terms = NULL RETURNING number")
    await measure(queue.sessions, ACCOUNTS)
    assert metric("webhooks_pending") == 1
    assert metric("webhooks_pending_seconds") >= 7200
    assert metric("results_uncollected_seconds", account="beijing/default") >= 3600
    assert metric("search_segments_unindexed") >= 1


async def test_pool_shows_connections_in_use() -> None:
    async def connect() -> str:
        return "connection"

    connections = Connections(2, DatabaseAvailability(log_changes=False))
    connections.observe("test")
    assert metric("database_connections_limit", pool="test") == 2
    await connections.take(connect)
    assert metric("database_connections_in_use", pool="test") == 1
    assert metric("database_connections_waiting", pool="test") == 0
    connections.release()
    assert metric("database_connections_in_use", pool="test") == 0
