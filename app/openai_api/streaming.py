"""`stream=true`: server-sent events of a transcription, sent when its job is final.

Only `data:` lines and comments: OpenAI's clients read the type of an event from its data.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import orjson

from app.errors import GatewayError, ServiceUnavailable
from app.jobs.dependencies import JobServices
from app.jobs.event_stream import KEEP_ALIVE, KEEP_ALIVE_S
from app.openai_api.errors import TranscriptionRefused, gateway_error_body
from app.openai_api.formats import stream_events
from app.openai_api.outcome import transcript_of
from app.openai_api.submission import Submission
from app.queue.job_json import JobSnapshot
from app.transcripts.queries import StoredBodies
from app.transcripts.responses import encode_pieces, next_piece, open_document, render_lock


async def transcription_events(
    services: JobServices, bodies: StoredBodies, client_id: UUID, submission: Submission
) -> AsyncIterator[bytes]:
    """A comment every 15 s until the job is final, then the events. A failure is an event with an `error`."""
    try:
        snapshot = submission.snapshot
        with services.wait_limits.hold(client_id):
            while not snapshot.final:
                if services.waiters.closed:
                    raise ServiceUnavailable("The gateway stops; send the request again, which joins the same job.")
                final = await services.waiters.until_final(snapshot.job.id, KEEP_ALIVE_S)
                snapshot = final or snapshot
                yield KEEP_ALIVE
        async for piece in _pieces(bodies, client_id, submission, snapshot):
            yield piece
    except TranscriptionRefused as refused:
        yield _error(refused.body)
    except GatewayError as error:
        yield _error(gateway_error_body(error))


async def _pieces(
    bodies: StoredBodies, client_id: UUID, submission: Submission, snapshot: JobSnapshot
) -> AsyncIterator[bytes]:
    request = submission.request
    transcript_id, _ = transcript_of(snapshot, request)
    body, document = await open_document(bodies, client_id, transcript_id)
    pieces = encode_pieces(stream_events(document, diarized=request.response_format == "diarized_json"))
    lock = render_lock(body)
    while (piece := await next_piece(pieces, lock)) is not None:
        yield piece


def _error(body: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
