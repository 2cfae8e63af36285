"""`/v1/jobs/{id}/deliveries`: what a job's webhook was told, and how that went."""

from typing import Literal
from uuid import UUID

from fastapi import APIRouter

from app.api.dependencies import SessionsDep
from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit, decode_cursor, paginate, scoped_key
from app.api.problems import responses
from app.clients.authentication import AuthenticatedRoute, ClientDep
from app.db import transaction
from app.errors import InvalidCursor, InvalidRequest, NotFound
from app.queue import queries
from app.webhooks import deliveries
from app.webhooks.schemas import Delivery, DeliveryPage

router = APIRouter(prefix="/v1/jobs", route_class=AuthenticatedRoute, tags=["webhooks"])


@router.get(
    "/{job_id}/deliveries",
    operation_id="listJobDeliveries",
    summary="List what a job's webhook was told, and how that went",
    responses=responses(InvalidRequest, InvalidCursor, NotFound),
)
async def list_job_deliveries(
    job_id: UUID, *, client: ClientDep, sessions: SessionsDep, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> DeliveryPage:
    """Newest first: one delivery for each time that the job became final, with its attempts.
    \f
    Three statements, and the token's.
    """
    key = scoped_key(client.cursor_key, job_id)
    before = decode_cursor(cursor, tuple[Literal["deliveries"], UUID], key)[1] if cursor is not None else None
    async with transaction(sessions) as session:
        await queries.find_job(session, client.id, job_id)
        logs = await deliveries.list_deliveries(session, client.id, job_id, before=before, limit=limit + 1)
    page, next_cursor = paginate(logs, limit, lambda log: ("deliveries", log.delivery.id), key)
    return DeliveryPage(items=[Delivery.of(log) for log in page], next_cursor=next_cursor)
