"""Claims for tests."""

from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from app.queue.claiming import Claim, claim_tasks
from app.queue.submit_queues import QueueHeads, SubmitQueue


async def claim_task(
    session: AsyncSession, submit_queue: SubmitQueue, *, token: UUID | None = None, heads: QueueHeads | None = None
) -> Claim | None:
    """Claim one task, or None if no file may be submitted now."""
    claims = await claim_tasks(session, submit_queue, tokens=[token or uuid4()], heads=heads)
    return claims[0] if claims else None
