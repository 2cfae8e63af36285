"""`/v1/jobs/{id}/events`: a job at each change, as server-sent events.

A stream holds no connection to PostgreSQL and sends it no query: `app.jobs.long_poll` polls for all streams.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from prometheus_client import Gauge

from app.api.parameters import DIGITS
from app.api.problems import responses
from app.clients.authentication import AuthenticatedRoute, ClientDep
from app.errors import InvalidRequest, NotFound
from app.jobs.dependencies import job_services
from app.jobs.long_poll import JobWaiters
from app.queue.job_json import JobSnapshot, job_bytes

# Proxies close connections that are silent for 30 to 60 s. A write also finds out that the client has disconnected.
KEEP_ALIVE_S = 15.0
# After a restart of the gateway, clients reconnect when it accepts connections again.
_RECONNECT = b"retry: 2000\n\n"
_KEEP_ALIVE = b": keep-alive\n\n"
# X-Accel-Buffering: nginx would buffer the events.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_EXAMPLE = (
    'retry: 2000\n\nevent: job\nid: 1\ndata: {"id": "019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11", "status": "queued", …}\n\n'
    ": keep-alive\n\n"
    'event: job\nid: 3\ndata: {"id": "019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11", "status": "succeeded", …}\n\n'
)
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `job`: `id` is the job's version, `data` the Job in one line of JSON.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    },
    204: {
        "description": "The job is final and the last event was received: there are no more events, do not reconnect."
    },
    **responses(InvalidRequest, NotFound),
}

STREAMS = Gauge("asr_gateway_event_streams", "Open event streams of jobs")

router = APIRouter(prefix="/v1/jobs", route_class=AuthenticatedRoute, tags=["jobs"])

LastEventId = Annotated[
    int | None,
    Header(alias="Last-Event-ID", ge=0, description="The `id` of the last event received."),
    DIGITS,
]


@router.get(
    "/{job_id}/events",
    operation_id="streamJobEvents",
    summary="Follow a job",
    response_class=StreamingResponse,
    responses=_RESPONSES,
)
async def stream_job_events(
    request: Request,
    job_id: UUID,
    *,
    client: ClientDep,
    last_event_id: LastEventId = None,
) -> Response:
    """Sends the job as it is now, and again after each change. The stream ends when the job is final.

    Changes within 0.1 s are one event, so ids may skip numbers; each event holds the whole job. A change of
    `waiting_reason` alone is an event with the same id. The stream also ends when the gateway stops, when the job is
    deleted and when the token is revoked: reconnect with `Last-Event-ID`, as browsers do by themselves. A comment
    every 15 s keeps the connection alive. The first event after a reconnect may be one that was sent before.
    \f
    One statement, and the token's.
    """
    services = job_services(request)
    snapshot = await services.find_job((client.id, job_id))
    if snapshot.final and last_event_id == snapshot.version.number:
        return Response(status_code=204, headers=_HEADERS)
    return StreamingResponse(_events(services.waiters, snapshot), headers=_HEADERS, media_type="text/event-stream")


async def _events(waiters: JobWaiters, snapshot: JobSnapshot) -> AsyncIterator[bytes]:
    with STREAMS.track_inprogress():
        yield _RECONNECT
        # Also if the client has seen this version: the waiting reason may have changed within it.
        yield _event(snapshot)
        while not (snapshot.final or waiters.closed):
            try:
                changed = await waiters.until_changed(snapshot.version, KEEP_ALIVE_S)
            except NotFound:
                return
            snapshot = changed or snapshot
            yield _event(snapshot) if changed else _KEEP_ALIVE


def _event(snapshot: JobSnapshot) -> bytes:
    return b"event: job\nid: %d\ndata: %b\n\n" % (snapshot.version.number, job_bytes(snapshot))
