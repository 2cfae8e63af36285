"""`/v1/transcripts`: what became of the files, in the forms that people use. Reads never touch upstream."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.dependencies import SessionsDep
from app.api.integers import DIGITS
from app.api.json_answers import ETAG_RESPONSES, json_response
from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit, decode_cursor, paginate, scoped_key
from app.api.problems import responses
from app.clients.authentication import AuthenticatedRoute, ClientDep
from app.db import transaction
from app.errors import Fault, InvalidCursor, InvalidRequest, NotFound
from app.search.filters import AskedDep
from app.transcripts import captions, queries, storage
from app.transcripts.captions import MAX_CHARS_PER_LINE, MAX_LINES, CaptionOptions
from app.transcripts.document_reader import Position, StoredDocument
from app.transcripts.rendering import render_captions, render_text
from app.transcripts.responses import Representation, kept_slices, serve_rendered, serve_stored
from app.transcripts.schemas import SentencePage, Transcript, TranscriptSummaryPage
from app.transcripts.sentences import SentenceFilters, find_sentences

router = APIRouter(prefix="/v1/transcripts", route_class=AuthenticatedRoute, tags=["transcripts"])

_RAW = {"file_url": "https://example.com/call-4711.wav", "properties": {}, "transcripts": []}

ChannelId = Annotated[int | None, Query(ge=0, description="Only this channel; absent: all of them."), DIGITS]
SpeakerId = Annotated[
    str | None, Query(min_length=1, max_length=100, description="Only this speaker, as the transcript has it: `0`.")
]
Speakers = Annotated[bool, Query(description="Say who speaks, where the transcript knows it.")]
MAX_MS = 10**12
FROM_MS = Query(ge=0, le=MAX_MS, description="Only what is still said after this moment.", examples=[60000])
TO_MS = Query(ge=0, le=MAX_MS, description="Only what began before this moment.", examples=[120000])
LINE_LENGTH = Query(ge=4, le=500, description="Columns: a Chinese character takes two of them, a Latin letter one.")
LINE_COUNT = Query(ge=1, le=20, description="Lines that a caption may have.")


async def _caption_options(
    *,
    channel_id: ChannelId = None,
    max_chars_per_line: Annotated[int, LINE_LENGTH, DIGITS] = MAX_CHARS_PER_LINE,
    max_lines: Annotated[int, LINE_COUNT, DIGITS] = MAX_LINES,
    speakers: Speakers = False,
) -> CaptionOptions:
    return CaptionOptions(
        channel_id=channel_id, max_chars_per_line=max_chars_per_line, max_lines=max_lines, speakers=speakers
    )


CaptionsDep = Annotated[CaptionOptions, Depends(_caption_options)]


async def _sentence_filters(
    *,
    client: ClientDep,
    transcript_id: UUID,
    channel_id: ChannelId = None,
    speaker_id: SpeakerId = None,
    from_ms: Annotated[int | None, FROM_MS, DIGITS] = None,
    to_ms: Annotated[int | None, TO_MS, DIGITS] = None,
    cursor: Cursor = None,
) -> SentenceFilters:
    if from_ms is not None and to_ms is not None and from_ms > to_ms:
        detail = "is before from_ms"
        raise InvalidRequest(f"/query/to_ms {detail}.", faults=[Fault("/query/to_ms", detail)])
    key = scoped_key(client.cursor_key, transcript_id)
    after = None if cursor is None else decode_cursor(cursor, _SentenceCursor, key)
    return SentenceFilters(channel_id, speaker_id, from_ms, to_ms, Position(*after[1:]) if after else None)


_SentenceCursor = tuple[Literal["sentences"], int, int, int]
SentenceFiltersDep = Annotated[SentenceFilters, Depends(_sentence_filters)]


def document_responses(media_type: str | None = None, example: str = "") -> dict[int | str, dict[str, Any]]:
    # Captions are files: generated clients for Java read every string that is not text/plain as JSON.
    schema = {"type": "string"} if media_type == "text/plain" else {"type": "string", "format": "binary"}
    content = {media_type: {"schema": schema, "example": example}} if media_type else {}
    ok = {**ETAG_RESPONSES[200], **({"content": content} if content else {})}
    return {**ETAG_RESPONSES, 200: ok, **responses(NotFound)}


@router.get(
    "",
    operation_id="listTranscripts",
    summary="List transcripts, newest first",
    response_model=TranscriptSummaryPage,
    responses={**ETAG_RESPONSES, **responses(InvalidRequest, InvalidCursor)},
)
async def list_transcripts(request: Request, client: ClientDep, sessions: SessionsDep, asked: AskedDep) -> Response:
    """Without what was said; pages stay stable while new ones arrive.
    \f
    One statement, and the token's.
    """
    key = client.cursor_key
    before_id = None
    if asked.cursor is not None:
        before_id = decode_cursor(asked.cursor, tuple[Literal["transcripts"], UUID], key)[1]
    async with transaction(sessions) as session:
        rows = await queries.list_transcripts(session, client.id, asked.filters, before_id, asked.limit + 1)
    page, next_cursor = paginate(rows, asked.limit, lambda row: ("transcripts", row.id), key)
    body = {"items": [row._asdict() for row in page], "next_cursor": next_cursor}
    return json_response(request, body)


@router.get(
    "/{transcript_id}",
    operation_id="getTranscript",
    summary="Get a transcript",
    response_model=Transcript,
    responses=document_responses(),
)
async def get_transcript(request: Request, transcript_id: UUID, client: ClientDep, sessions: SessionsDep) -> Response:
    """The upstream's result document, the same for all model families: same keys, positions in milliseconds.
    \f
    One statement; with If-None-Match one for a 304, else two. And the token's.
    """
    return await serve_stored(request, sessions, client.id, transcript_id, "document")


@router.get(
    "/{transcript_id}/raw",
    operation_id="getTranscriptRaw",
    summary="Get what the upstream sent",
    response_class=Response,
    responses={
        **document_responses(),
        200: {**ETAG_RESPONSES[200], "content": {"application/json": {"schema": {"type": "object"}, "example": _RAW}}},
    },
)
async def get_transcript_raw(
    request: Request, transcript_id: UUID, client: ClientDep, sessions: SessionsDep
) -> Response:
    """Byte for byte. Its form differs between model families and may change with the upstream.
    \f
    Statements as getTranscript.
    """
    return await serve_stored(request, sessions, client.id, transcript_id, "raw")


@router.get(
    "/{transcript_id}/text",
    operation_id="getTranscriptText",
    summary="Get a transcript as plain text",
    response_class=Response,
    responses=document_responses("text/plain", "Hello World."),
)
async def get_transcript_text(
    request: Request,
    transcript_id: UUID,
    *,
    client: ClientDep,
    sessions: SessionsDep,
    channel_id: ChannelId = None,
    max_chars_per_line: Annotated[int | None, LINE_LENGTH, DIGITS] = None,
    max_lines: Annotated[int | None, LINE_COUNT, DIGITS] = None,
    speakers: Speakers = False,
) -> Response:
    """All channels, joined by newlines; with `speakers` one line for each turn.

    With `max_chars_per_line` or `max_lines` the lines of the captions; with `max_lines` a blank line parts captions.
    \f
    One statement, and the token's.
    """
    if max_chars_per_line is None and max_lines is None:
        make = partial(render_text, channel_id=channel_id, speakers=speakers)
    else:
        options = CaptionOptions(
            channel_id=channel_id,
            max_chars_per_line=max_chars_per_line or MAX_CHARS_PER_LINE,
            max_lines=max_lines or MAX_LINES,
            speakers=speakers,
        )
        make = partial(render_captions, options=options, write=partial(captions.text, parted=max_lines is not None))
    form = Representation("text/plain; charset=utf-8", channel_id, (max_chars_per_line, max_lines, speakers), make)
    return await serve_rendered(request, sessions, client.id, transcript_id, form)


@router.get(
    "/{transcript_id}/srt",
    operation_id="getTranscriptSrt",
    summary="Get a transcript as SubRip captions",
    response_class=Response,
    responses=document_responses("application/x-subrip", "1\n00:00:00,760 --> 00:00:02,000\nHello World.\n\n"),
)
async def get_transcript_srt(
    request: Request, transcript_id: UUID, client: ClientDep, sessions: SessionsDep, options: CaptionsDep
) -> Response:
    """Sentences are cut at pauses and after punctuation; the times are those of the words.
    \f
    One statement, and the token's.
    """
    make = partial(render_captions, options=options, write=captions.srt)
    form = Representation("application/x-subrip; charset=utf-8", options.channel_id, options, make)
    return await serve_rendered(request, sessions, client.id, transcript_id, form)


@router.get(
    "/{transcript_id}/vtt",
    operation_id="getTranscriptVtt",
    summary="Get a transcript as WebVTT captions",
    response_class=Response,
    responses=document_responses("text/vtt", "WEBVTT\n\n00:00:00.760 --> 00:00:02.000\nHello World.\n"),
)
async def get_transcript_vtt(
    request: Request, transcript_id: UUID, client: ClientDep, sessions: SessionsDep, options: CaptionsDep
) -> Response:
    """The same captions as SubRip's; with `speakers` each is a voice.
    \f
    One statement, and the token's.
    """
    make = partial(render_captions, options=options, write=captions.vtt)
    form = Representation("text/vtt; charset=utf-8", options.channel_id, options, make)
    return await serve_rendered(request, sessions, client.id, transcript_id, form)


@router.get(
    "/{transcript_id}/sentences",
    operation_id="listSentences",
    summary="List the sentences of a transcript",
    response_model=SentencePage,
    responses={**document_responses(), **responses(InvalidRequest, InvalidCursor, NotFound)},
)
async def list_sentences(
    request: Request,
    transcript_id: UUID,
    filters: SentenceFiltersDep,
    *,
    client: ClientDep,
    sessions: SessionsDep,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """In order of time over all channels, with their words; those that begin together in the order of the channels.
    \f
    One statement, one for each block of sentences beyond the first slice, and the token's.
    """
    key = scoped_key(client.cursor_key, transcript_id)
    make = partial(_page_of_sentences, filters=filters, limit=limit, key=key)
    form = Representation("application/json", filters.channel_id, (filters, limit, key), make)
    return await serve_rendered(request, sessions, client.id, transcript_id, form)


def _page_of_sentences(document: StoredDocument, filters: SentenceFilters, limit: int, key: bytes) -> Iterator[str]:
    found = find_sentences(document, filters, limit + 1)
    page, next_cursor = paginate(found, limit, lambda each: ("sentences", *each[0]), key)
    yield orjson.dumps({"items": [sentence for _, sentence in page], "next_cursor": next_cursor}).decode()


@router.delete(
    "/{transcript_id}",
    operation_id="deleteTranscript",
    summary="Delete a transcript",
    status_code=204,
    responses={204: {"description": "The transcript is gone."}, **responses(NotFound)},
)
async def delete_transcript(
    request: Request, transcript_id: UUID, client: ClientDep, sessions: SessionsDep
) -> Response:
    """It is gone for good. Its file stays, succeeded and without a `transcript_id`.
    \f
    Two statements, and the token's.
    """
    async with transaction(sessions) as session:
        await storage.delete_transcript(session, client.id, transcript_id)
    kept_slices(request).forget_transcript(transcript_id)
    return Response(status_code=204)
