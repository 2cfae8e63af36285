"""`/v1/jobs/{id}/events`: a job at each change, as server-sent events.

A stream holds no connection to PostgreSQL and sends it no query: `app.jobs.long_poll` polls for all streams.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from prometheus_client import Gauge
from pydantic import BeforeValidator
from starlette.types import Receive, Scope, Send

from app.api.parameters import DIGITS
from app.api.problems import responses
from app.clients.authentication import AuthenticatedRoute, ClientDep
from app.errors import InvalidRequest, NotFound, TooManyWaits
from app.jobs.dependencies import job_services
from app.jobs.long_poll import JobWaiters
from app.queue.job_json import JobSnapshot

# Proxies close connections that are silent for 30 to 60 s. A write also finds out that the client has disconnected.
KEEP_ALIVE_S = 15.0
# After a restart of the gateway, clients reconnect when it accepts connections again.
_RECONNECT = b"retry: 2000\n\n"
# Part of an event that waits in the buffer of a connection whose client reads slowly. The event itself is shared.
_PART_BYTES = 64 * 1024
KEEP_ALIVE = b": keep-alive\n\n"
# X-Accel-Buffering: nginx would buffer the events.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

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
    **responses(InvalidRequest, NotFound, TooManyWaits),
}

STREAMS = Gauge("asr_gateway_event_streams", "Open event streams of jobs")

router = APIRouter(prefix="/v1/jobs", route_class=AuthenticatedRoute, tags=["jobs"])

# Some clients send an empty id if they have received none.
LastEventId = Annotated[
    int | None,
    Header(alias="Last-Event-ID", ge=0, description="The `id` of the last event received."),
    DIGITS,
    BeforeValidator(lambda value: None if value == "" else value),
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
        return Response(status_code=204, headers=HEADERS)
    body = services.job_lists.body(snapshot)
    with ExitStack() as held:
        held.enter_context(services.wait_limits.hold(client.id, shown_bytes=len(body)))
        events = _events(services.waiters, snapshot, services.job_lists.body)
        return _HoldingResponse(events, held.pop_all())


class _HoldingResponse(StreamingResponse):
    """Releases `held` at the end of the stream, however it ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], held: ExitStack) -> None:
        super().__init__(events, headers=HEADERS)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held, STREAMS.track_inprogress():
            await super().__call__(scope, receive, send)


async def _events(
    waiters: JobWaiters, snapshot: JobSnapshot, body_of: Callable[[JobSnapshot], bytes]
) -> AsyncIterator[bytes]:
    yield _RECONNECT
    changed: JobSnapshot | None = snapshot
    while True:
        # First also if the client has seen this version: the waiting reason may have changed within it.
        if changed is None:
            yield KEEP_ALIVE
        else:
            snapshot = changed
            for part in _event_parts(snapshot, body_of(snapshot)):
                yield part
        if snapshot.final or waiters.closed:
            return
        try:
            changed = await waiters.until_changed(snapshot.version, KEEP_ALIVE_S)
        except NotFound:
            return


def _event_parts(snapshot: JobSnapshot, body: bytes) -> Iterator[bytes]:
    """The event in one part if it is small."""
    head = b"event: job\nid: %d\ndata: " % snapshot.version.number
    if len(body) <= _PART_BYTES:
        yield head + body + b"\n\n"
        return
    yield head
    for start in range(0, len(body), _PART_BYTES):
        yield body[start : start + _PART_BYTES]
    yield b"\n\n"
