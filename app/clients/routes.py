"""`/v1/clients`: managing tokens over HTTP, with ADMIN_TOKEN only."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

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
from app.errors import AdminDisabled, ClientExists, Forbidden, NotFound
from app.settings import Settings

router = APIRouter(
    prefix="/v1/clients",
    route_class=AdminRoute,
    tags=["clients"],
    responses=responses(AdminDisabled, Forbidden),
)

_EXAMPLE: dict[str, JsonValue] = {
    "id": "019ab0a4-2b1d-7e04-8a55-0b6e9f6c2d10",
    "name": "call-centre",
    "created_at": "2026-11-23T08:00:00.120000Z",
    "last_used_at": None,
    "revoked_at": None,
}

_CREATED: dict[str, Any] = {
    "description": "The client may call from now on.",
    "headers": {"Location": {"description": "Where the client is.", "schema": {"type": "string"}}},
}


class NewClient(RequestBody):
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "call-centre"}]})

    # Checked by `create_client`, in words.
    name: str = Field(
        description="Unique among the active clients.", json_schema_extra={"pattern": f"^{NAME_PATTERN}$"}
    )


class Client(BaseModel):
    """Someone who may call the gateway, and sees only what is their own."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: UUID
    name: str
    created_at: datetime
    last_used_at: datetime | None = Field(description="Exact to the minute.")
    revoked_at: datetime | None


class CreatedClient(Client):
    model_config = ConfigDict(json_schema_extra={"examples": [{**_EXAMPLE, "token": "asr_shown-this-once"}]})

    token: str = Field(description="Shown this once: the gateway stores its hash only.")


@router.post("", summary="Create a client", status_code=201, responses={201: _CREATED, **responses(ClientExists)})
async def create_client(new: NewClient, sessions: SessionsDep, response: Response) -> CreatedClient:
    async with transaction(sessions) as session:
        client, token = await service.create_client(session, new.name)
    response.headers.update({"Location": f"/v1/clients/{client.id}", "Cache-Control": "no-store"})
    return CreatedClient(**Client.model_validate(client).model_dump(), token=token)


@router.get("", summary="List clients, newest first")
async def list_clients(
    sessions: SessionsDep, settings: SettingsDep, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[Client]:
    """The revoked ones too."""
    key = _cursor_key(settings)
    before = decode_cursor(cursor, tuple[Literal["clients"], UUID], key)[1] if cursor is not None else None
    async with transaction(sessions) as session:
        rows = await service.list_clients(session, limit=limit + 1, before=before)
    clients, next_cursor = paginate(rows, limit, lambda row: ("clients", row.id), key)
    return Page(items=[Client.model_validate(client) for client in clients], next_cursor=next_cursor)


@router.get("/{client_id}", summary="Get a client", responses=responses(NotFound))
async def get_client(client_id: UUID, sessions: SessionsDep) -> Client:
    """A revoked one too."""
    async with transaction(sessions) as session:
        return Client.model_validate(await service.get_client(session, client_id))


@router.delete(
    "/{client_id}",
    summary="Revoke a client",
    status_code=204,
    responses={204: {"description": "The client may not call any more."}},
)
async def revoke_client(client_id: UUID, sessions: SessionsDep) -> Response:
    """The token is refused from now on. Jobs go on; nobody can read them over the API any more."""
    async with transaction(sessions) as session:
        await service.revoke_client_by_id(session, client_id)
    return Response(status_code=204)


def _cursor_key(settings: Settings) -> bytes:
    """That of ADMIN_TOKEN, which is set: without it nobody comes here."""
    return cursor_key(hash_token(settings.admin_token.get_secret_value() if settings.admin_token else ""))
