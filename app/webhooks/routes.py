"""`/v1/webhooks` and `/v1/deliveries`: the secret, test pings, and retries by hand."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from app.api.dependencies import SessionsDep, SettingsDep
from app.api.problems import responses
from app.clients.authentication import AuthenticatedRoute, ClientDep
from app.clients.rate_limits import RateLimiter
from app.db import transaction
from app.errors import Fault, InvalidRequest, NotFound, TooManyTestPings
from app.urls import WEBHOOK_URL, encode_url
from app.webhooks import deliveries, signing_secrets
from app.webhooks.schemas import Delivery, WebhookSecret, WebhookTest, WebhookTestResult
from app.webhooks.sender import Sender

# Of a client. Events go to who asked for them with a job; pings go wherever the client says, at once.
MAX_PINGS = 60
PINGS_OVER_S = 60

router = APIRouter(prefix="/v1", route_class=AuthenticatedRoute, tags=["webhooks"])


async def _sender(request: Request, settings: SettingsDep) -> Sender:
    sender: Sender | None = getattr(request.app.state, "webhook_sender", None)
    return sender or Sender(settings.webhook_allowed_networks)


def ping_limit() -> RateLimiter:
    return RateLimiter(MAX_PINGS, over_s=PINGS_OVER_S)


async def _ping_limit(request: Request) -> RateLimiter:
    limit: RateLimiter = request.app.state.ping_limit
    return limit


SenderDep = Annotated[Sender, Depends(_sender)]
PingLimitDep = Annotated[RateLimiter, Depends(_ping_limit)]


@router.get("/webhooks/secret", operation_id="getWebhookSecret", summary="Get the signing secret")
async def get_webhook_secret(client: ClientDep, sessions: SessionsDep, response: Response) -> WebhookSecret:
    """The secret that all events of this client are signed with; made when it is first needed."""
    response.headers["Cache-Control"] = "no-store"
    async with transaction(sessions) as session:
        return WebhookSecret(secret=await signing_secrets.current_secret(session, client.id))


@router.post("/webhooks/secret/rotate", operation_id="rotateWebhookSecret", summary="Replace the signing secret")
async def rotate_webhook_secret(client: ClientDep, sessions: SessionsDep, response: Response) -> WebhookSecret:
    """The new secret. For 24 hours events are signed with the old one too, so that receivers can change over."""
    response.headers["Cache-Control"] = "no-store"
    async with transaction(sessions) as session:
        return WebhookSecret(secret=await signing_secrets.rotate_secret(session, client.id))


@router.post(
    "/webhooks/test",
    operation_id="testWebhook",
    summary="Send a test ping",
    responses=responses(InvalidRequest, TooManyTestPings),
)
async def send_test_webhook(
    body: WebhookTest, *, client: ClientDep, sessions: SessionsDep, sender: SenderDep, limit: PingLimitDep
) -> WebhookTestResult:
    """An event `webhook.test`, signed as all are, is sent to the URL now and once; the answer says what became of it.

    A URL that is disabled because it answered 410 Gone is enabled when it answers 2xx to the ping. A client may send
    60 pings at once, and then one each second; what may not be reached does not count.
    """
    try:
        url = encode_url(body.url, WEBHOOK_URL)
    except ValueError as error:
        raise InvalidRequest(f"/url {error}.", faults=[Fault("/url", str(error))]) from None
    if limit.take(client.id) is None:
        raise TooManyTestPings(f"A client may send {MAX_PINGS} test pings within {PINGS_OVER_S} s; try again later.")
    attempt = await deliveries.send_test(sessions, sender, client.id, url)
    if attempt.forbidden:
        limit.give_back(client.id)
    return WebhookTestResult.of(attempt)


@router.post(
    "/deliveries/{delivery_id}/retry",
    operation_id="retryDelivery",
    summary="Send a delivery again",
    status_code=202,
    responses={202: {"description": "It is due now, and that is durable."}, **responses(NotFound)},
)
async def retry_delivery(delivery_id: UUID, client: ClientDep, sessions: SessionsDep) -> Delivery:
    """The same event with the same `webhook-id`, whatever became of it before. If it fails, the schedule begins anew.

    One that is being tried at this moment stays as it is.
    """
    async with transaction(sessions) as session:
        return Delivery.of(await deliveries.retry_delivery(session, client.id, delivery_id))
