"""`/v1/clients`: makes, lists and changes clients. Requires ADMIN_TOKEN. `app.jobs.client_revocation` revokes them."""

from typing import Any, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Response

from app.api.dependencies import SessionsDep, SettingsDep
from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit, Page, decode_cursor, paginate
from app.api.problems import responses
from app.clients import budgets, service
from app.clients.authentication import AdminRoute
from app.clients.schemas import Client, ClientChange, CreatedClient, NewClient
from app.clients.tokens import cursor_key, hash_token
from app.db import transaction
from app.errors import AdminDisabled, ClientExists, Forbidden, NotFound, TooManyWrongTokens

router = APIRouter(
    prefix="/v1/clients",
    route_class=AdminRoute,
    tags=["clients"],
    responses=responses(AdminDisabled, Forbidden, TooManyWrongTokens),
)

log = structlog.get_logger(__name__)

_CREATED: dict[str, Any] = {
    "description": "The client was created, and its token is valid.",
    "headers": {"Location": {"description": "URL of the client.", "schema": {"type": "string"}}},
}


@router.post("", summary="Create a client", status_code=201, responses={201: _CREATED, **responses(ClientExists)})
async def create_client(new: NewClient, sessions: SessionsDep, response: Response) -> CreatedClient:
    async with transaction(sessions) as session:
        client, token = await service.create_client(session, new.name)
        budget = new.budget.value if new.budget else None
        if budget:
            await budgets.set_budget(session, client.id, budget)
    log.info("client created", created=str(client.id), name=client.name)
    response.headers.update({"Location": f"/v1/clients/{client.id}", "Cache-Control": "no-store"})
    return CreatedClient(**Client.of(client, budget).model_dump(), token=token)


@router.get("", summary="List clients, newest first")
async def list_clients(
    sessions: SessionsDep, settings: SettingsDep, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[Client]:
    """Includes revoked clients."""
    # ADMIN_TOKEN is set: AdminRoute refuses requests without it.
    key = cursor_key(hash_token(settings.admin_token.get_secret_value() if settings.admin_token else ""))
    before = decode_cursor(cursor, tuple[Literal["clients"], UUID], key)[1] if cursor is not None else None
    async with transaction(sessions) as session:
        rows = await service.list_clients(session, limit=limit + 1, before=before)
        found = await budgets.find_budgets(session, [row.id for row in rows])
    clients, next_cursor = paginate(rows, limit, lambda row: ("clients", row.id), key)
    return Page(items=[Client.of(client, found.get(client.id)) for client in clients], next_cursor=next_cursor)


@router.get("/{client_id}", summary="Get a client", responses=responses(NotFound))
async def get_client(client_id: UUID, sessions: SessionsDep) -> Client:
    """Includes revoked clients."""
    async with transaction(sessions) as session:
        client = await service.get_client(session, client_id)
        found = await budgets.find_budgets(session, [client_id])
    return Client.of(client, found.get(client_id))


@router.patch("/{client_id}", summary="Change a client", responses=responses(NotFound))
async def change_client(client_id: UUID, change: ClientChange, sessions: SessionsDep) -> Client:
    """Sets or removes the budget, from the next job on. Jobs that are accepted already stay accepted.

    Their queued files wait while the budget has no room for them.

    What the client has spent in the present day or month counts, also from before it had a budget.
    """
    async with transaction(sessions) as session:
        client = await service.get_client(session, client_id)
        if "budget" in change.model_fields_set:
            budget = change.budget.value if change.budget else None
            await budgets.set_budget(session, client_id, budget)
            log.info("budget of a client changed", client=client.name, budget=str(budget) if budget else None)
        found = await budgets.find_budgets(session, [client_id])
    return Client.of(client, found.get(client_id))
