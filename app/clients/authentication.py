"""Who calls: the bearer token of the request, checked against the database every time, so that revoking works at once.

`request.state.client` keeps the answer for the rest of the request, and for its access log line.
"""

import hmac
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from app.api.strict_route import RequestRoute, StrictRoute
from app.clients.rate_limits import RateLimiter, rate_limit_header
from app.clients.recognition import Authenticator
from app.clients.service import CurrentClient
from app.errors import AdminDisabled, Forbidden, RateLimited, Unauthorized
from app.settings import Settings

HOW_TO = "send it as `Authorization: Bearer <token>`"

client_scheme = HTTPBearer(
    scheme_name="clientToken", auto_error=False, description="A client's token: API_TOKEN, or made by `clients create`."
)
admin_scheme = HTTPBearer(scheme_name="adminToken", auto_error=False, description="ADMIN_TOKEN.")


async def current_client(request: Request) -> CurrentClient:
    """Raises Unauthorized or RateLimited."""
    state = request.scope["state"]  # of `request.state`, whose attributes take a microsecond each
    known: CurrentClient | None = state.get("client")
    if known is not None:
        return known
    client = await _find(request, _bearer(request))
    if client is None:
        raise Unauthorized(f"This token is unknown or revoked; {HOW_TO}.")
    state["client"] = client
    _count(request, client)
    return client


ClientDep = Annotated[CurrentClient, Depends(current_client)]


class AuthenticatedRoute(StrictRoute):
    """Authenticates the client first: FastAPI alone would first parse up to 16 MB of JSON without a valid token."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        # For the OpenAPI document: `authorize` reads the token.
        options["dependencies"] = [Depends(client_scheme), *(options.get("dependencies") or ())]
        super().__init__(path, endpoint, **options)

    async def authorize(self, request: Request) -> None:
        await current_client(request)
        await super().authorize(request)


class AuthenticatedRequestRoute(AuthenticatedRoute, RequestRoute):
    """A RequestRoute of clients: its endpoint gets the client from `current_client`."""


async def require_token(request: Request) -> None:
    """Any valid one, for paths and methods that are not there. Raises as `current_client`."""
    if not _is_admins(request, _bearer(request)):
        await current_client(request)


async def require_admin(request: Request) -> None:
    """Raises AdminDisabled, Unauthorized, or Forbidden for what is a client's token."""
    settings: Settings = request.app.state.settings
    if settings.admin_token is None:
        raise AdminDisabled("Set ADMIN_TOKEN to manage clients over HTTP, or use `python -m app clients`.")
    token = _bearer(request)
    if _is_admins(request, token):
        return
    if await _find(request, token):
        raise Forbidden("This is a client's token; clients are managed with ADMIN_TOKEN.")
    raise Unauthorized(f"This is not ADMIN_TOKEN; {HOW_TO}.")


def _is_admins(request: Request, token: bytes) -> bool:
    settings: Settings = request.app.state.settings
    expected = settings.admin_token
    return expected is not None and hmac.compare_digest(token, expected.get_secret_value().encode())


def _count(request: Request, client: CurrentClient) -> None:
    """One request of the client. All answers say what is left, the refusal too."""
    policy: dict[str, str] = request.app.state.policy_fields
    if not policy:
        return
    request.state.answer_headers = policy
    limit: RateLimiter | None = request.app.state.request_limit
    if limit is None:
        return
    left = limit.take(client.id)
    request.state.answer_headers = policy | rate_limit_header(left)
    if left is None:
        raise RateLimited(f"A client may make {limit.most} requests in a second; try again in one.")


def _bearer(request: Request) -> bytes:
    """The token. Raises Unauthorized. FastAPI's schemes read it alike; here they only fill the document."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized(f"A token is needed; {HOW_TO}.")
    # Starlette reads headers as Latin-1: back to the bytes that were sent.
    return token.encode("latin-1")


async def _find(request: Request, token: bytes) -> CurrentClient | None:
    recognition: Authenticator = request.app.state.recognition
    return await recognition.client(token)
