"""Revoking a client, and what happens to its jobs and deliveries."""

from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, text

from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.errors import NotFound
from app.identifiers import new_id
from app.queue.models import Job
from app.queue.revocation import revoke_client
from app.webhooks.outbox import Attempt, ClaimedDelivery, Event, claim, enqueue, record
from tests.api_fixtures import new_client
from tests.jobs.rows import QUEUED, SUCCEEDED, add_job

FAILED = Attempt(duration_ms=5, response_status=500, error_code="http_error", error_message="HTTP 500")


async def statuses(sessions: Sessions, table: str = "jobs") -> list[str]:
    async with transaction(sessions) as session:
        return list(await session.scalars(text(f"SELECT status FROM {table} ORDER BY id")))  # noqa: S608 - own names


async def add_delivery(sessions: Sessions, client_id: UUID, job_id: UUID) -> None:
    async with transaction(sessions) as session:
        await enqueue(session, [Event(client_id, job_id, "job.succeeded", "https://example.com/hook", "{}")])


async def test_jobs_continue_unless_they_are_to_be_canceled(
    admin: httpx.AsyncClient, api: httpx.AsyncClient, sessions: Sessions, client_id: UUID
) -> None:
    for files in ([QUEUED], [QUEUED, SUCCEEDED], [SUCCEEDED]):
        await add_job(sessions, client_id, files)
    other, _ = await new_client(sessions, "another")
    kept = await add_job(sessions, other.id, [QUEUED])
    assert (await admin.delete(f"/v1/clients/{client_id}")).status_code == 204
    assert (await api.get("/v1/jobs")).status_code == 401
    assert await statuses(sessions) == ["queued", "running", "succeeded", "queued"]
    # The client is revoked already.
    assert (await admin.delete(f"/v1/clients/{client_id}?cancel_jobs=true")).status_code == 204
    assert await statuses(sessions) == ["canceled", "canceled", "succeeded", "queued"]
    async with transaction(sessions) as session:
        assert await session.scalar(select(Job.status).where(Job.id == kept)) == "queued"


async def test_client_that_does_not_exist_is_404(admin: httpx.AsyncClient, client_id: UUID) -> None:
    for query in ("", "?cancel_jobs=true"):
        assert (await admin.delete(f"/v1/clients/{new_id()}{query}")).status_code == 404
    assert (await admin.delete(f"/v1/clients/{client_id}")).status_code == 204
    assert (await admin.delete(f"/v1/clients/{client_id}")).status_code == 404


async def test_revoking_by_name_returns_the_number_of_canceled_jobs(sessions: Sessions, client_id: UUID) -> None:
    for _ in range(3):
        await add_job(sessions, client_id, [QUEUED])
    assert await revoke_client(sessions, "tester", cancel_jobs=True) == 3
    assert await revoke_client(sessions, "tester", cancel_jobs=True) == 0
    with pytest.raises(NotFound):
        await revoke_client(sessions, "nobody", cancel_jobs=True)


async def claimed_delivery(sessions: Sessions, client_id: UUID, job_id: UUID) -> ClaimedDelivery:
    """A delivery that a poller has claimed."""
    await add_delivery(sessions, client_id, job_id)
    async with transaction(sessions) as session:
        [in_progress] = await claim(session, [])
    return in_progress


async def test_deliveries_of_a_revoked_client_end(
    sessions: Sessions, client_id: UUID, api_client: tuple[CurrentClient, str]
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED])
    in_progress = await claimed_delivery(sessions, client_id, job_id)
    await add_delivery(sessions, client_id, job_id)
    await revoke_client(sessions, "tester")
    await add_delivery(sessions, client_id, job_id)  # its job has finished meanwhile
    assert await statuses(sessions, "deliveries") == ["pending", "disabled", "disabled"]
    async with transaction(sessions) as session:
        assert await record(session, in_progress, FAILED)
    assert await statuses(sessions, "deliveries") == ["disabled"] * 3


async def test_delivery_of_a_killed_poller_ends_if_its_client_is_revoked(
    sessions: Sessions, client_id: UUID, api_client: tuple[CurrentClient, str]
) -> None:
    job_id = await add_job(sessions, client_id, [SUCCEEDED])
    in_progress = await claimed_delivery(sessions, client_id, job_id)
    await revoke_client(sessions, "tester")
    async with transaction(sessions) as session:
        await session.execute(text("UPDATE deliveries SET due_at = now()"))  # the lease has run out
    async with transaction(sessions) as session:
        assert await claim(session, []) == []
    assert await statuses(sessions, "deliveries") == ["disabled"]
    async with transaction(sessions) as session:
        assert not await record(session, in_progress, FAILED)
