"""DELETE /v1/clients/{id}. It is here because it may cancel jobs, which `app.clients` does not know."""

from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Query, Request, Response

from app.api.problems import responses
from app.clients.authentication import AdminRoute
from app.errors import AdminDisabled, Forbidden, NotFound, TooManyWrongTokens, UpstreamUnavailable
from app.jobs.dependencies import job_services
from app.queue.revocation import revoke_client as revoke
from app.vocabularies.routes import vocabulary_lists

router = APIRouter(prefix="/v1/clients", route_class=AdminRoute, tags=["clients"])
log = structlog.get_logger(__name__)


@router.delete(
    "/{client_id}",
    operation_id="revokeClient",
    summary="Revoke a client",
    status_code=204,
    responses={
        204: {"description": "The client is revoked."},
        **responses(AdminDisabled, Forbidden, NotFound, TooManyWrongTokens, UpstreamUnavailable),
    },
)
async def revoke_client(
    request: Request,
    client_id: UUID,
    *,
    cancel_jobs: Annotated[bool, Query(description="Cancel all jobs of the client too.")] = False,
    delete_vocabularies: Annotated[
        bool, Query(description="Delete all hot-word lists of the client too, which makes room in their accounts.")
    ] = False,
) -> Response:
    """The token is refused at once and permanently. Waiting webhook deliveries of the client end.

    The client's jobs continue, and are billed, unless `cancel_jobs` is true; the API no longer shows them. With
    `cancel_jobs` the response is sent when all jobs are canceled, with `delete_vocabularies` when all hot-word lists
    are deleted. The call then works for a revoked client too: repeat it after a 503, or if the connection breaks.
    """
    services = job_services(request)
    canceled = await revoke(
        services.sessions, client_id, cancel_jobs=cancel_jobs, may_be_revoked=delete_vocabularies
    )  # fmt: skip
    if canceled:
        services.wakeup.notify()
    log.info("client revoked", revoked=str(client_id), jobs_canceled=canceled)
    if delete_vocabularies:
        await vocabulary_lists(request).delete_all(client_id)
    return Response(status_code=204)
