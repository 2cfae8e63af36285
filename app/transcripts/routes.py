"""`/v1/transcripts`: what became of the files, in the forms that people use. Reads never touch upstream."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.dependencies import SessionsDep
from app.api.instants import Instant
from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit, cut_page, decode_cursor
from app.api.problems import responses
from app.clients.dependencies import ClientDep, ClientRoute
from app.db import Sessions, transaction
from app.errors import InvalidCursor, InvalidRequest, NotFound
from app.settings import RegionName
from app.transcripts import captions, reading, service
from app.transcripts.captions import MAX_CHARS_PER_LINE, MAX_LINES, CaptionOptions
from app.transcripts.reading import BodyKind, StoredBody, TranscriptFilters
from app.transcripts.rendering import LARGE_BYTES, render_captions, render_text
from app.transcripts.schemas import Transcript, TranscriptSummaryPage
from app.transcripts.serving import rendered_response, stored_response, unchanged

router = APIRouter(prefix="/v1/transcripts", route_class=ClientRoute, tags=["transcripts"])

_ETAG = {"ETag": {"description": "Strong, and another one for each coding.", "schema": {"type": "string"}}}
_RAW = {"file_url": "https://example.com/call-4711.wav", "properties": {}, "transcripts": []}
_UNCHANGED = {"description": "The caller has it.", "headers": _ETAG}

ChannelId = Annotated[int | None, Query(ge=0, description="Only this channel; absent: all of them.")]
Speakers = Annotated[bool, Query(description="Say who speaks, where the transcript knows it.")]
LINE_LENGTH = Query(ge=4, le=500, description="Columns: a Chinese character takes two of them, a Latin letter one.")
LINE_COUNT = Query(ge=1, le=20, description="Lines that a caption may have.")


async def _caption_options(
    *,
    channel_id: ChannelId = None,
    max_chars_per_line: Annotated[int, LINE_LENGTH] = MAX_CHARS_PER_LINE,
    max_lines: Annotated[int, LINE_COUNT] = MAX_LINES,
    speakers: Speakers = False,
) -> CaptionOptions:
    return CaptionOptions(
        channel_id=channel_id, max_chars_per_line=max_chars_per_line, max_lines=max_lines, speakers=speakers
    )


CaptionsDep = Annotated[CaptionOptions, Depends(_caption_options)]


def _document_responses(media_type: str | None = None, example: str = "") -> dict[int | str, dict[str, Any]]:
    # Captions are files: generated clients for Java read every string that is not text/plain as JSON.
    schema = {"type": "string"} if media_type == "text/plain" else {"type": "string", "format": "binary"}
    content = {media_type: {"schema": schema, "example": example}} if media_type else {}
    ok = {"headers": _ETAG, **({"content": content} if content else {})}
    return {200: ok, 304: _UNCHANGED, **responses(NotFound)}


@router.get(
    "",
    operation_id="listTranscripts",
    summary="List transcripts, newest first",
    response_model=TranscriptSummaryPage,
    responses=responses(InvalidRequest, InvalidCursor),
)
async def list_transcripts(
    *,
    client: ClientDep,
    sessions: SessionsDep,
    job_id: UUID | None = None,
    model: str | None = None,
    region: RegionName | None = None,
    created_after: Instant | None = None,
    created_before: Instant | None = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Without what was said; pages stay stable while new ones arrive.
    \f
    One statement, and the token's.
    """
    filters = TranscriptFilters(
        job_id=job_id,
        model=model,
        region=region,
        created_after=created_after,
        created_before=created_before,
        before_id=decode_cursor(cursor, tuple[Literal["transcripts"], UUID])[1] if cursor is not None else None,
    )
    async with transaction(sessions) as session:
        rows = await reading.list_transcripts(session, client.id, filters, limit + 1)
    page, next_cursor = cut_page(rows, limit, lambda row: ("transcripts", row.id))
    body = {"items": [row._asdict() for row in page], "next_cursor": next_cursor}
    return Response(msgspec.json.encode(body), media_type="application/json")


@router.get(
    "/{transcript_id}",
    operation_id="getTranscript",
    summary="Get a transcript",
    response_model=Transcript,
    responses=_document_responses(),
)
async def get_transcript(request: Request, transcript_id: UUID, client: ClientDep, sessions: SessionsDep) -> Response:
    """The upstream's result document, the same for all model families: same keys, positions in milliseconds.
    \f
    One statement; with If-None-Match one for a 304, else two. And the token's.
    """
    return await _serve(request, sessions, client.id, transcript_id, "document")


@router.get(
    "/{transcript_id}/raw",
    operation_id="getTranscriptRaw",
    summary="Get what the upstream sent",
    response_class=Response,
    responses={
        **_document_responses(),
        200: {"headers": _ETAG, "content": {"application/json": {"schema": {"type": "object"}, "example": _RAW}}},
    },
)
async def get_transcript_raw(
    request: Request, transcript_id: UUID, client: ClientDep, sessions: SessionsDep
) -> Response:
    """Byte for byte. Its form differs between model families and may change with the upstream.
    \f
    Statements as getTranscript.
    """
    return await _serve(request, sessions, client.id, transcript_id, "raw")


@router.get(
    "/{transcript_id}/text",
    operation_id="getTranscriptText",
    summary="Get a transcript as plain text",
    response_class=Response,
    responses=_document_responses("text/plain", "Hello World."),
)
async def get_transcript_text(
    request: Request,
    transcript_id: UUID,
    *,
    client: ClientDep,
    sessions: SessionsDep,
    channel_id: ChannelId = None,
    max_chars_per_line: Annotated[int | None, LINE_LENGTH] = None,
    max_lines: Annotated[int | None, LINE_COUNT] = None,
    speakers: Speakers = False,
) -> Response:
    """All channels, joined by newlines; with `speakers` one line for each turn.

    With `max_chars_per_line` or `max_lines` the lines of the captions; with `max_lines` a blank line parts captions.
    \f
    One statement, and the token's.
    """
    document = await _document(sessions, client.id, transcript_id)

    def render() -> bytes:
        if max_chars_per_line is None and max_lines is None:
            return render_text(document, channel_id=channel_id, speakers=speakers)
        options = CaptionOptions(
            channel_id=channel_id,
            max_chars_per_line=max_chars_per_line or MAX_CHARS_PER_LINE,
            max_lines=max_lines or MAX_LINES,
            speakers=speakers,
        )
        return render_captions(document, options, partial(captions.text, parted=max_lines is not None))

    return await _render(request, document, render, "text/plain; charset=utf-8")


@router.get(
    "/{transcript_id}/srt",
    operation_id="getTranscriptSrt",
    summary="Get a transcript as SubRip captions",
    response_class=Response,
    responses=_document_responses("application/x-subrip", "1\n00:00:00,760 --> 00:00:02,000\nHello World.\n\n"),
)
async def get_transcript_srt(
    request: Request, transcript_id: UUID, client: ClientDep, sessions: SessionsDep, options: CaptionsDep
) -> Response:
    """Sentences are cut at pauses and after punctuation; the times are those of the words.
    \f
    One statement, and the token's.
    """
    document = await _document(sessions, client.id, transcript_id)
    media_type = "application/x-subrip; charset=utf-8"
    return await _render(request, document, lambda: render_captions(document, options, captions.srt), media_type)


@router.get(
    "/{transcript_id}/vtt",
    operation_id="getTranscriptVtt",
    summary="Get a transcript as WebVTT captions",
    response_class=Response,
    responses=_document_responses("text/vtt", "WEBVTT\n\n00:00:00.760 --> 00:00:02.000\nHello World.\n"),
)
async def get_transcript_vtt(
    request: Request, transcript_id: UUID, client: ClientDep, sessions: SessionsDep, options: CaptionsDep
) -> Response:
    """The same captions as SubRip's; with `speakers` each is a voice.
    \f
    One statement, and the token's.
    """
    document = await _document(sessions, client.id, transcript_id)
    return await _render(
        request, document, lambda: render_captions(document, options, captions.vtt), "text/vtt; charset=utf-8"
    )


@router.delete(
    "/{transcript_id}",
    operation_id="deleteTranscript",
    summary="Delete a transcript",
    status_code=204,
    responses={204: {"description": "The transcript is gone."}, **responses(NotFound)},
)
async def delete_transcript(transcript_id: UUID, client: ClientDep, sessions: SessionsDep) -> Response:
    """It is gone for good. Its file stays, succeeded and without a `transcript_id`.
    \f
    Two statements, and the token's.
    """
    async with transaction(sessions) as session:
        await service.delete_transcript(session, client.id, transcript_id)
    return Response(status_code=204)


async def _serve(
    request: Request, sessions: Sessions, client_id: UUID, transcript_id: UUID, kind: BodyKind
) -> Response:
    async with transaction(sessions) as session:
        # Megabytes are not fetched only to say that the caller has them.
        if "if-none-match" in request.headers:
            sha256 = await reading.find_sha256(session, client_id, transcript_id, kind)
            if answer := unchanged(request, sha256):
                return answer
        body = await reading.find_body(session, client_id, transcript_id, kind)
    return stored_response(request, body, "application/json")


async def _document(sessions: Sessions, client_id: UUID, transcript_id: UUID) -> StoredBody:
    async with transaction(sessions) as session:
        return await reading.find_body(session, client_id, transcript_id, "document")


async def _render(request: Request, document: StoredBody, render: Callable[[], bytes], media_type: str) -> Response:
    """In a thread, and of large documents one at a time, so that memory stays bounded."""
    async with _turn(request, document):
        return await asyncio.to_thread(lambda: rendered_response(request, render(), media_type))


def _turn(request: Request, document: StoredBody) -> "asyncio.Lock | nullcontext[None]":
    if document.size_bytes < LARGE_BYTES:
        return nullcontext()
    state = request.app.state
    if not hasattr(state, "large_rendering"):
        state.large_rendering = asyncio.Lock()
    lock: asyncio.Lock = state.large_rendering
    return lock
