"""`/v1/clients`: creates and lists clients. Requires ADMIN_TOKEN. `app.jobs.client_revocation` revokes them."""

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
from app.clients import service
from app.clients.authentication import AdminRoute
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


class Client(BaseModel):
    """A tenant of the gateway. A client sees only its own jobs, transcripts and deliveries."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime | None = Field(description="Recorded once per minute.")
    revoked_at: datetime | None


class CreatedClient(Client):
    model_config = ConfigDict(json_schema_extra={"examples": [{**_EXAMPLE, "token": "asr_shown-this-once"}]})

    token: str = Field(description="Shown only in this response: the gateway stores a hash of the token.")


@router.post("", summary="Create a client", status_code=201, responses={201: _CREATED, **responses(ClientExists)})
async def create_client(new: NewClient, sessions: SessionsDep, response: Response) -> CreatedClient:
    async with transaction(sessions) as session:
        client, token = await service.create_client(session, new.name)
    log.warning("client created", created=str(client.id), name=client.name)
    response.headers.update({"Location": f"/v1/clients/{client.id}", "Cache-Control": "no-store"})
    return CreatedClient(**Client.model_validate(client).model_dump(), token=token)


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
    clients, next_cursor = paginate(rows, limit, lambda row: ("clients", row.id), key)
    return Page(items=[Client.model_validate(client) for client in clients], next_cursor=next_cursor)


@router.get("/{client_id}", summary="Get a client", responses=responses(NotFound))
async def get_client(client_id: UUID, sessions: SessionsDep) -> Client:
    """Includes revoked clients."""
    async with transaction(sessions) as session:
        return Client.model_validate(await service.get_client(session, client_id))
