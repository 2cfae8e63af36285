"""`/v1/clients`: makes, lists and changes clients. Requires ADMIN_TOKEN. `app.jobs.client_revocation` revokes them."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.api.dependencies import SessionsDep, SettingsDep
from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit, Page, decode_cursor, paginate
from app.api.problems import responses
from app.api.request_body import RequestBody
from app.clients import budgets, models, service
from app.clients.authentication import AdminRoute
from app.clients.schemas import BudgetBody
from app.clients.service import NAME_PATTERN
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

_EXAMPLE: dict[str, JsonValue] = {
    "id": "019ab0a4-2b1d-7e04-8a55-0b6e9f6c2d10",
    "name": "call-centre",
    "created_at": "2026-11-23T08:00:00.120000Z",
    "last_used_at": None,
    "revoked_at": None,
    "budget": {"amount": "100.00", "currency": "CNY", "period": "month"},
}

_CREATED: dict[str, Any] = {
    "description": "The client was created, and its token is valid.",
    "headers": {"Location": {"description": "URL of the client.", "schema": {"type": "string"}}},
}


class NewClient(RequestBody):
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "call-centre"}]})

    # `create_client` checks the pattern, with a better message.
    name: str = Field(
        description="Unique among the active clients.", json_schema_extra={"pattern": f"^{NAME_PATTERN}$"}
    )
    budget: BudgetBody | None = Field(None, description="What the client may spend; null: as much as it likes.")


class ClientChange(RequestBody):
    """What is to be changed. Fields that are absent stay as they are."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"budget": {"amount": "100.00", "currency": "CNY", "period": "month"}}]}
    )

    budget: BudgetBody | None = Field(None, description="The new budget; null removes it.")


class Client(BaseModel):
    """A tenant of the gateway. A client sees only its own jobs, transcripts and deliveries."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime | None = Field(description="Recorded once per minute.")
    revoked_at: datetime | None
    budget: BudgetBody | None = Field(description="What the client may spend; null: as much as it likes.")

    @classmethod
    def of(cls, client: models.Client, budget: budgets.Budget | None) -> "Client":
        return cls(
            id=client.id,
            name=client.name,
            created_at=client.created_at,
            last_used_at=client.last_used_at,
            revoked_at=client.revoked_at,
            budget=BudgetBody.of(budget) if budget else None,
        )


class CreatedClient(Client):
    model_config = ConfigDict(json_schema_extra={"examples": [{**_EXAMPLE, "token": "asr_shown-this-once"}]})

    token: str = Field(description="Shown only in this response: the gateway stores a hash of the token.")


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
