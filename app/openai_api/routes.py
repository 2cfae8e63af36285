"""`POST /v1/audio/transcriptions`, as OpenAI's clients call it."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from time import monotonic
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from app.clients.authentication import AuthenticatedRoute, current_client
from app.jobs.dependencies import job_services, wait_until_final
from app.jobs.event_stream import HEADERS, KEEP_ALIVE_S
from app.openai_api.errors import TranscriptionRefused
from app.openai_api.form import is_urlencoded, read_urlencoded
from app.openai_api.formats import representation
from app.openai_api.outcome import require_final, transcript_of
from app.openai_api.schemas import FORM, transcription_responses
from app.openai_api.streaming import transcription_events
from app.openai_api.submission import FormSubmitter
from app.transcripts.responses import serve_rendered, stored_bodies_of
from app.uploads.form import read_form
from app.uploads.routes import uploader_of

# Some seconds for the wait remain however long the file took to arrive.
_MIN_WAIT_S = 10.0


class OpenAIRoute(AuthenticatedRoute):
    """A route that reads a form as a stream. Query parameters and `Accept` have no effect, as with OpenAI."""

    streams_body = True

    async def authorize(self, request: Request) -> None:
        await current_client(request)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_refusals(request: Request) -> Response:
            try:
                return await handle(request)
            except TranscriptionRefused as refused:
                return refused.response()

        return handle_refusals


router = APIRouter(prefix="/v1/audio", route_class=OpenAIRoute, tags=["audio"])


@router.post(
    "/transcriptions",
    operation_id="createTranscription",
    summary="Transcribe a file, as with OpenAI",
    response_class=Response,
    openapi_extra={"requestBody": FORM},
    responses=transcription_responses(),
)
async def create_transcription(request: Request) -> Response:
    """For OpenAI's clients: only the base URL and the key change. Unknown fields have no effect.

    A repeated request (same client, bytes and fields) within 30 minutes joins the job of the first one. Errors are in
    OpenAI's form.
    """
    began_at = monotonic()
    client = await current_client(request)
    services = job_services(request)
    bodies = stored_bodies_of(request)
    form = read_urlencoded(request) if is_urlencoded(request) else read_form(request)
    submission = await FormSubmitter(services, uploader_of(request), client).submit(form)
    transcription = submission.request
    max_wait_s: float = request.app.state.transcription_wait_s
    timeout_s = max(max_wait_s - (monotonic() - began_at), min(_MIN_WAIT_S, max_wait_s))
    if transcription.stream:
        timeout_s = min(timeout_s, KEEP_ALIVE_S)
    snapshot = await wait_until_final(request, client.id, submission.snapshot, timeout_s)
    if transcription.stream:
        if snapshot.final:
            transcript_of(snapshot, transcription)  # a failure is an HTTP error as long as nothing is sent
        events = transcription_events(services, bodies, client.id, replace(submission, snapshot=snapshot))
        return StreamingResponse(events, headers=HEADERS, media_type="text/event-stream")
    require_final(services, snapshot)
    transcript_id, duration_ms = transcript_of(snapshot, transcription)
    return await serve_rendered(request, bodies, client.id, transcript_id, representation(transcription, duration_ms))
