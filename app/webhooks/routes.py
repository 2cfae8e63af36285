"""The routes of `/v1/webhooks` and `/v1/deliveries`: secrets, test pings and manual retries."""

from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.dependencies import SessionsDep
from app.api.problems import responses
from app.clients.authentication import AuthenticatedRoute, ClientDep
from app.clients.rate_limits import RateLimiter
from app.db import transaction
from app.errors import InvalidRequest, NotFound, TooManyTestPings
from app.urls import WEBHOOK_URL, encode_url
from app.webhooks import deliveries, signing_secrets
from app.webhooks.schemas import Delivery, WebhookSecret, WebhookTest, WebhookTestResult
from app.webhooks.sender import Sender

# Limit per client, so that pings cannot flood a server: a ping goes to any URL at once, without a job.
MAX_PINGS = 60
PINGS_OVER_S = 60

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/v1", route_class=AuthenticatedRoute, tags=["webhooks"])


async def _sender(request: Request) -> Sender:
    sender: Sender = request.app.state.webhook_sender
    return sender


def ping_limit() -> RateLimiter:
    return RateLimiter(MAX_PINGS, per_s=PINGS_OVER_S)


async def _ping_limit(request: Request) -> RateLimiter:
    limit: RateLimiter = request.app.state.ping_limit
    return limit


RevokeParameter = Annotated[
    bool, Query(description="End all older secrets at once, instead of after 24 hours.", examples=[False])
]
SenderDep = Annotated[Sender, Depends(_sender)]
PingLimitDep = Annotated[RateLimiter, Depends(_ping_limit)]


@router.get("/webhooks/secret", operation_id="getWebhookSecret", summary="Get the signing secret")
async def get_webhook_secret(client: ClientDep, sessions: SessionsDep, response: Response) -> WebhookSecret:
    """The secret that signs the events of this client. It is created when it is first needed."""
    response.headers["Cache-Control"] = "no-store"
    async with transaction(sessions) as session:
        return WebhookSecret(secret=await signing_secrets.current_secret(session, client.id))


@router.post("/webhooks/secret/rotate", operation_id="rotateWebhookSecret", summary="Replace the signing secret")
async def rotate_webhook_secret(
    client: ClientDep, sessions: SessionsDep, response: Response, *, revoke: RevokeParameter = False
) -> WebhookSecret:
    """Create a new secret and return it. For 24 hours the old secret signs too, so that receivers can switch.

    If the old secret is known to others, use `revoke`: the new secret is the only one from then on.
    """
    response.headers["Cache-Control"] = "no-store"
    async with transaction(sessions) as session:
        secret = await signing_secrets.rotate_secret(session, client.id, revoke=revoke)
    log.info("webhook secret rotated", client=client.name)
    return WebhookSecret(secret=secret)


@router.post(
    "/webhooks/test",
    operation_id="testWebhook",
    summary="Send a test ping",
    responses=responses(InvalidRequest, TooManyTestPings),
)
async def send_test_webhook(
    body: WebhookTest, *, client: ClientDep, sessions: SessionsDep, sender: SenderDep, limit: PingLimitDep
) -> WebhookTestResult:
    """Send a signed event of type `webhook.test` to the URL, once and without delay. The response has the result.

    If the URL was disabled because it answered 410 Gone, a 2xx to the ping enables the URL again. A client may send
    60 pings at once, and then one per second. Pings to addresses that webhooks may not reach do not count.
    """
    try:
        url = encode_url(body.url, WEBHOOK_URL)
    except ValueError as error:
        raise InvalidRequest.at("/url", str(error)) from None
    if limit.take(client.id) is None:
        raise TooManyTestPings(f"A client may send {MAX_PINGS} test pings within {PINGS_OVER_S} s. Try again later.")
    attempt = await deliveries.send_test(sessions, sender, client.id, url)
    if attempt.forbidden:
        limit.give_back(client.id)
    return WebhookTestResult.of(attempt)


@router.post(
    "/deliveries/{delivery_id}/retry",
    operation_id="retryDelivery",
    summary="Send a delivery again",
    status_code=202,
    responses={202: {"description": "The delivery is due now. This is stored."}, **responses(NotFound)},
)
async def retry_delivery(delivery_id: UUID, client: ClientDep, sessions: SessionsDep) -> Delivery:
    """Send the event again with the same `webhook-id`, whatever its status. The retry schedule restarts.

    A delivery with an attempt in progress stays unchanged.
    """
    async with transaction(sessions) as session:
        return Delivery.of(await deliveries.retry_delivery(session, client.id, delivery_id))
