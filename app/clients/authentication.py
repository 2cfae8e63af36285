"""Authentication: the bearer token of a request, checked in the database every time, so that revoking works at once.

`request.state.client` holds the client for the rest of the request and for its log line.
"""

import asyncio
import hmac
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from app.api.headers import first_header
from app.api.strict_route import RequestRoute, StrictRoute
from app.batching import Batcher
from app.clients.rate_limits import rate_limit_header, rate_limit_policy_header, rate_limiter
from app.clients.service import CurrentClient, find_clients
from app.clients.tokens import hash_token
from app.clients.wrong_tokens import WrongTokens
from app.db import Sessions, raw_connection
from app.errors import AdminDisabled, Forbidden, RateLimited, Unauthorized
from app.settings import Settings

log = structlog.get_logger(__name__)
# The longest that a request of `patient_client` waits for its turn: shorter than any client's timeout.
PATIENCE_S = 5

HOW_TO = "send it as `Authorization: Bearer <token>`"

client_scheme = HTTPBearer(
    scheme_name="clientToken", auto_error=False, description="A client's token: API_TOKEN, or made by `clients create`."
)
admin_scheme = HTTPBearer(scheme_name="adminToken", auto_error=False, description="ADMIN_TOKEN.")


class Authenticator:
    """Checks tokens and counts the requests of each client. One per process, at `app.state.authenticator`.

    Requests that arrive together share one statement. A result is never cached.
    """

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._admin_token = settings.admin_token.get_secret_value().encode() if settings.admin_token else None
        self._clients = Batcher(partial(raw_connection, sessions), find_clients)
        self.rate_limiter = rate_limiter(settings)
        self.wrong_tokens = WrongTokens()
        self._policy = rate_limit_policy_header(settings)

    async def current_client(self, request: Request) -> CurrentClient:
        """Raises Unauthorized or RateLimited."""
        known: CurrentClient | None = request.scope["state"].get("client")
        if known is not None:
            return known
        return self._accept_and_count(request, await self._clients(hash_token(bearer_token(request))))

    async def patient_client(self, request: Request) -> CurrentClient:
        """As `current_client`, but a request that exceeds the limit is delayed, and not refused.

        For clients that give up their work at the first 429. Raises Unauthorized.
        """
        client = self._accept(request, await self._clients(hash_token(bearer_token(request))))
        request.state.response_headers = self._policy
        if self.rate_limiter is not None:
            await asyncio.sleep(self.rate_limiter.delay_s(client.id, at_most_s=PATIENCE_S))
        return client

    async def require_token(self, request: Request) -> None:
        """Accepts ADMIN_TOKEN too. Raises as `current_client`."""
        if not self._is_admin(bearer_token(request)):
            await self.current_client(request)

    async def require_admin(self, request: Request) -> None:
        """Raises AdminDisabled, TooManyWrongTokens, Unauthorized, or Forbidden for the token of a client."""
        if self._admin_token is None:
            raise AdminDisabled("Set ADMIN_TOKEN to manage clients over HTTP, or use `python -m app clients`.")
        token = bearer_token(request)
        if self._check_admin_token(request, token):
            return
        if await self._clients(hash_token(token)):
            raise Forbidden("This is a client's token; clients are managed with ADMIN_TOKEN.")
        self._count_wrong_token(request)
        raise Unauthorized(f"This is not ADMIN_TOKEN; {HOW_TO}.")

    async def client_or_admin(self, request: Request) -> CurrentClient | None:
        """The client of the token, or None for ADMIN_TOKEN.

        Raises Unauthorized or RateLimited, and TooManyWrongTokens as `require_admin`, but not for a client.
        """
        token = bearer_token(request)
        client = await self._clients(hash_token(token))
        if client is not None or self._admin_token is None:
            return self._accept_and_count(request, client)
        if self._check_admin_token(request, token):
            return None
        self._count_wrong_token(request)
        raise Unauthorized(f"This token is unknown, revoked, or not ADMIN_TOKEN; {HOW_TO}.")

    def _check_admin_token(self, request: Request, token: bytes) -> bool:
        """True if the token is ADMIN_TOKEN. Raises TooManyWrongTokens."""
        # Before the comparison: otherwise the pause would not stop a guess that is right.
        self.wrong_tokens.check(_peer(request))
        return self._is_admin(token)

    def _count_wrong_token(self, request: Request) -> None:
        self.wrong_tokens.count(_peer(request))
        log.warning("admin token refused", peer=_peer(request))

    def _accept_and_count(self, request: Request, client: CurrentClient | None) -> CurrentClient:
        """Raises Unauthorized or RateLimited."""
        accepted = self._accept(request, client)
        self._count_request(request, accepted)
        return accepted

    def _accept(self, request: Request, client: CurrentClient | None) -> CurrentClient:
        """Note the client of the request's token. Raises Unauthorized if there is none."""
        if client is None:
            raise Unauthorized(f"This token is unknown or revoked; {HOW_TO}.")
        request.scope["state"]["client"] = client
        return client

    def _is_admin(self, token: bytes) -> bool:
        return self._admin_token is not None and hmac.compare_digest(token, self._admin_token)

    def _count_request(self, request: Request, client: CurrentClient) -> None:
        """Every response has the headers, including the 429."""
        if not self._policy:
            return
        request.state.response_headers = self._policy
        if self.rate_limiter is None:
            return
        remaining = self.rate_limiter.take(client.id)
        request.state.response_headers = self._policy | rate_limit_header(remaining)
        if remaining is None:
            raise RateLimited(
                f"A client may make {self.rate_limiter.limit} requests per second; try again in one second."
            )


def authenticator_of(request: Request) -> Authenticator:
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator


async def current_client(request: Request) -> CurrentClient:
    """Raises Unauthorized or RateLimited."""
    return await authenticator_of(request).current_client(request)


def authenticated_client(request: Request) -> CurrentClient:
    """The client of a request that an AuthenticatedRoute has authorized."""
    client: CurrentClient = request.scope["state"]["client"]
    return client


async def require_token(request: Request) -> None:
    """Raises Unauthorized or RateLimited."""
    await authenticator_of(request).require_token(request)


ClientDep = Annotated[CurrentClient, Depends(current_client)]


class _TokenRoute(StrictRoute):
    """Authenticates the caller first: FastAPI alone would first parse up to 16 MB of JSON without a valid token."""

    # For the OpenAPI document: `authorize` reads the token.
    schemes: ClassVar[Sequence[HTTPBearer]]

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        options["dependencies"] = [*map(Depends, self.schemes), *(options.get("dependencies") or ())]
        super().__init__(path, endpoint, **options)


class AuthenticatedRoute(_TokenRoute):
    """For clients."""

    schemes = (client_scheme,)

    async def authorize(self, request: Request) -> None:
        await authenticator_of(request).current_client(request)
        await super().authorize(request)


class AuthenticatedRequestRoute(AuthenticatedRoute, RequestRoute):
    """A RequestRoute for clients. Its endpoint calls `authenticated_client`."""


class ClientOrAdminRoute(_TokenRoute):
    """For clients, and for ADMIN_TOKEN, with which `request.state.client` is None."""

    schemes = (client_scheme, admin_scheme)

    async def authorize(self, request: Request) -> None:
        request.state.client = await authenticator_of(request).client_or_admin(request)
        await super().authorize(request)


class AdminRoute(_TokenRoute):
    """For ADMIN_TOKEN."""

    schemes = (admin_scheme,)

    async def authorize(self, request: Request) -> None:
        await authenticator_of(request).require_admin(request)
        await super().authorize(request)


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


def bearer_token(request: Request) -> bytes:
    """The token of the Authorization header. Raises Unauthorized."""
    scheme, _, token = (first_header(request.scope, b"authorization") or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized(f"A token is needed; {HOW_TO}.")
    # Restores the bytes that were sent.
    return token.encode("latin-1")
