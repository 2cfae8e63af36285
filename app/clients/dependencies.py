"""Who calls: the bearer token of the request, checked against the database every time, so that revoking works at once.

`request.state.client` keeps the answer for the rest of the request, and for its access log line.
"""

import hmac
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.dependencies import SessionsDep, SettingsDep
from app.clients.limits import RequestLimit, limit_fields, policy_fields
from app.clients.service import CurrentClient, find_client
from app.db import Sessions, transaction
from app.errors import AdminDisabled, Forbidden, RateLimited, Unauthorized
from app.settings import Settings

HOW_TO = "send it as `Authorization: Bearer <token>`"

client_scheme = HTTPBearer(
    scheme_name="clientToken", auto_error=False, description="A client's token: API_TOKEN, or made by `clients create`."
)
admin_scheme = HTTPBearer(scheme_name="adminToken", auto_error=False, description="ADMIN_TOKEN.")
Credentials = HTTPAuthorizationCredentials | None


async def current_client(
    request: Request, sessions: SessionsDep, credentials: Annotated[Credentials, Depends(client_scheme)]
) -> CurrentClient:
    """Raises Unauthorized or RateLimited."""
    known: CurrentClient | None = getattr(request.state, "client", None)
    if known is not None:
        return known
    client = await _find(sessions, _token(credentials))
    if client is None:
        raise Unauthorized(f"This token is unknown or revoked; {HOW_TO}.")
    request.state.client = client
    _count(request, client)
    return client


ClientDep = Annotated[CurrentClient, Depends(current_client)]


class ClientRoute(APIRoute):
    """Asks who calls before it reads the body: FastAPI alone would read and parse 16 MB of a stranger's JSON first."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def check_first(request: Request) -> Response:
            await current_client(request, request.app.state.sessions, await client_scheme(request))
            return await handle(request)

        return check_first


async def require_admin(
    settings: SettingsDep, sessions: SessionsDep, credentials: Annotated[Credentials, Depends(admin_scheme)]
) -> None:
    """Raises AdminDisabled, Unauthorized, or Forbidden for what is a client's token."""
    if settings.admin_token is None:
        raise AdminDisabled("Set ADMIN_TOKEN to manage clients over HTTP, or use `python -m app clients`.")
    token = _token(credentials)
    if hmac.compare_digest(token, settings.admin_token.get_secret_value().encode()):
        return
    if await _find(sessions, token):
        raise Forbidden("This is a client's token; clients are managed with ADMIN_TOKEN.")
    raise Unauthorized(f"This is not ADMIN_TOKEN; {HOW_TO}.")


def _count(request: Request, client: CurrentClient) -> None:
    """One request of the client. All answers say what is left, the refusal too."""
    state = request.app.state
    settings: Settings = state.settings
    request.state.answer_headers = policy_fields(settings)
    per_s = settings.client_requests_per_s
    if per_s is None:
        return
    if not hasattr(state, "request_limit"):
        state.request_limit = RequestLimit(per_s)
    left = state.request_limit.take(client.id)
    request.state.answer_headers |= limit_fields(left)
    if left is None:
        raise RateLimited(f"A client may make {per_s} requests in a second; try again in one.")


async def _find(sessions: Sessions, token: bytes) -> CurrentClient | None:
    async with transaction(sessions) as session:
        return await find_client(session, token)


def _token(credentials: Credentials) -> bytes:
    if credentials is None:
        raise Unauthorized(f"A token is needed; {HOW_TO}.")
    # Starlette reads headers as Latin-1: back to the bytes that were sent.
    return credentials.credentials.encode("latin-1")
