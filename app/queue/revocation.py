"""Revokes a client with what belongs to it: its webhook deliveries end, and its jobs are canceled on request."""

from contextlib import suppress
from uuid import UUID

from sqlalchemy import text

from app.clients import service
from app.db import Sessions, transaction
from app.errors import JobFinal, NotFound
from app.queue.commands import cancel_job
from app.webhooks.outbox import end_deliveries


async def revoke_client(
    sessions: Sessions, client: UUID | str, *, cancel_jobs: bool = False, may_be_revoked: bool = False
) -> int:
    """Revoke the client with this id or name, and return how many of its jobs were canceled.

    The token is refused from the first commit on; each job is canceled in a transaction of its own. If that is
    interrupted, the same call goes on: with `cancel_jobs` or `may_be_revoked` the client may be revoked already. Raises
    NotFound.
    """
    async with transaction(sessions) as session:
        try:
            if isinstance(client, UUID):
                revoked = [await service.revoke_client_by_id(session, client)]
            else:
                revoked = [await service.revoke_client(session, client)]
        except NotFound:
            if not (cancel_jobs or may_be_revoked):
                raise
            revoked = [*await service.find_revoked(session, client)]
        ids = [each.id for each in revoked]
        for client_id in ids:
            await end_deliveries(session, client_id)
    return sum([await _cancel_jobs(sessions, client_id) for client_id in ids]) if cancel_jobs else 0


async def _cancel_jobs(sessions: Sessions, client_id: UUID) -> int:
    """Cancel all jobs that are not final, also those that a request has created meanwhile."""
    canceled = 0
    while True:
        async with transaction(sessions) as session:
            open_jobs = list(await session.scalars(_OPEN_JOBS, {"client_id": client_id}))
        if not open_jobs:
            return canceled
        for job_id in open_jobs:
            with suppress(JobFinal, NotFound):
                await cancel_job(sessions, client_id, job_id)
                canceled += 1


# `<> 'succeeded'` is the condition of a partial index.
_OPEN_JOBS = text("""
    SELECT id FROM jobs
    WHERE client_id = :client_id AND status <> 'succeeded' AND finished_at IS NULL
    ORDER BY id LIMIT 1000
""")
