"""`/v1/transcripts`: list, get, convert and delete transcripts. No route calls upstream."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.conditional import ETAG_RESPONSES, json_response
from app.api.dependencies import SessionsDep
from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit, decode_cursor, paginate, scoped_key
from app.api.parameters import DIGITS
from app.api.problems import responses
from app.clients.authentication import AuthenticatedRoute, ClientDep
from app.db import transaction
from app.errors import InvalidCursor, InvalidRequest, NotFound, TranscriptUnreadable
from app.search.filters import TranscriptQueryDep
from app.transcripts import queries
from app.transcripts.document_reader import SentenceFilters, SentencePosition, StoredDocument, find_sentences
from app.transcripts.responses import (
    Representation,
    StoredBodiesDep,
    serve_rendered,
    serve_stored,
)
from app.transcripts.schemas import SentencePage, Transcript, TranscriptSummaryPage
from app.transcripts.sensevoice_options import SenseVoiceOptions
from app.transcripts.sensevoice_options import render as render_with_options

router = APIRouter(prefix="/v1/transcripts", route_class=AuthenticatedRoute, tags=["transcripts"])

_RAW = {"file_url": "https://example.com/call-4711.wav", "properties": {}, "transcripts": []}

ChannelId = Annotated[int | None, Query(ge=0, description="Only this channel. Default: all channels."), DIGITS]
SpeakerId = Annotated[
    str | None, Query(min_length=1, max_length=100, description="Only this speaker, as in the transcript: `0`.")
]
Bom = Annotated[
    bool, Query(description="Begin with a byte order mark. Excel and some players need it to recognise UTF-8.")
]
Speakers = Annotated[bool, Query(description="Name the speakers, where the transcript has them.")]
KeepTrans = Annotated[
    bool | None,
    Query(
        description="SenseVoice only: whether to keep `text`. Sentences without text, emotion and event are left out."
        " Default: true."
    ),
]
KeepEmotions = Annotated[
    bool | None, Query(description="SenseVoice only: whether to keep `emotion` of sentences. Default: true.")
]
KeepEvents = Annotated[
    bool | None, Query(description="SenseVoice only: whether to keep `event` of sentences. Default: true.")
]
MAX_MS = 10**12
FROM_MS = Query(ge=0, le=MAX_MS, description="Only sentences that end after this position.", examples=[60000])
TO_MS = Query(ge=0, le=MAX_MS, description="Only sentences that begin before this position.", examples=[120000])


async def _sensevoice_options(
    *,
    keep_trans: KeepTrans = None,
    keep_emotions: KeepEmotions = None,
    keep_events: KeepEvents = None,
) -> SenseVoiceOptions:
    return SenseVoiceOptions(keep_trans, keep_emotions, keep_events)


SenseVoiceDep = Annotated[SenseVoiceOptions, Depends(_sensevoice_options)]


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
        raise InvalidRequest.at("/query/to_ms", "is before from_ms")
    key = scoped_key(client.cursor_key, transcript_id)
    after = None if cursor is None else decode_cursor(cursor, _SentenceCursor, key)
    return SentenceFilters(channel_id, speaker_id, from_ms, to_ms, SentencePosition(*after[1:]) if after else None)


_SentenceCursor = tuple[Literal["sentences"], int, int, int]
SentenceFiltersDep = Annotated[SentenceFilters, Depends(_sentence_filters)]


_FILE_NAME = {"description": "`inline`, with the name of the file for saving.", "schema": {"type": "string"}}


def document_responses(media_type: str | None = None, example: str = "") -> dict[int | str, dict[str, Any]]:
    # Captions are files: generated clients for Java parse every string that is not text/plain as JSON.
    schema = {"type": "string"} if media_type == "text/plain" else {"type": "string", "format": "binary"}
    content = {media_type: {"schema": schema, "example": example}} if media_type else {}
    ok = {**ETAG_RESPONSES[200], **({"content": content} if content else {})}
    if content:
        ok["headers"] = {**ok["headers"], "Content-Disposition": _FILE_NAME}
    return {**ETAG_RESPONSES, 200: ok, **responses(NotFound, TranscriptUnreadable)}


# FastAPI leaves the part of a docstring after a form feed out of OpenAPI. It says how many statements a request costs;
# the statement that finds the token is not counted.


@router.get(
    "",
    operation_id="listTranscripts",
    summary="List transcripts, newest first",
    response_model=TranscriptSummaryPage,
    responses={**ETAG_RESPONSES, **responses(InvalidRequest, InvalidCursor)},
)
async def list_transcripts(
    request: Request, client: ClientDep, sessions: SessionsDep, query: TranscriptQueryDep
) -> Response:
    """Summaries without the text. Pages stay stable while new transcripts arrive.
    \f
    One statement.
    """
    key = client.cursor_key
    before_id = None
    if query.cursor is not None:
        before_id = decode_cursor(query.cursor, tuple[Literal["transcripts"], UUID], key)[1]
    async with transaction(sessions) as session:
        rows = await queries.list_transcripts(session, client.id, query.filters, before_id, query.limit + 1)
    page, next_cursor = paginate(rows, query.limit, lambda row: ("transcripts", row.id), key)
    body = {"items": [row._asdict() for row in page], "next_cursor": next_cursor}
    return json_response(request, body)


@router.get(
    "/{transcript_id}",
    operation_id="getTranscript",
    summary="Get a transcript",
    response_model=Transcript,
    responses={**document_responses(), **responses(InvalidRequest, NotFound)},
)
async def get_transcript(
    request: Request, transcript_id: UUID, options: SenseVoiceDep, client: ClientDep, bodies: StoredBodiesDep
) -> Response:
    """The upstream's result document in one form for all model families: the same keys, positions in milliseconds.

    The options have the effect of the function in DashScope's guide to SenseVoice. They are a 422 for other families.
    \f
    One statement; with If-None-Match one for a 304, otherwise two.
    """
    if not options.given:
        return await serve_stored(request, bodies, client.id, transcript_id, "document")
    render = partial(render_with_options, options=options)
    form = Representation("application/json", None, options, render, require_model=options.require_model)
    return await serve_rendered(request, bodies, client.id, transcript_id, form)


@router.get(
    "/{transcript_id}/raw",
    operation_id="downloadTranscript",
    summary="Get the upstream's result document unchanged",
    response_class=Response,
    responses={
        **ETAG_RESPONSES,
        **responses(NotFound),
        200: {**ETAG_RESPONSES[200], "content": {"application/json": {"schema": {"type": "object"}, "example": _RAW}}},
    },
)
async def get_transcript_raw(
    request: Request, transcript_id: UUID, client: ClientDep, bodies: StoredBodiesDep
) -> Response:
    """The bytes that upstream sent. Their form differs between model families and may change with upstream.

    Also the bytes of a result that is no document: its file failed with `result_unreadable`, and they may not be JSON.
    \f
    Statements as getTranscript.
    """
    return await serve_stored(request, bodies, client.id, transcript_id, "raw")


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
    options: SenseVoiceDep,
    *,
    client: ClientDep,
    bodies: StoredBodiesDep,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Sentences of all channels with their words, in order of time. Sentences that begin together are in channel order.

    The options of SenseVoice are a 422 for other families.
    \f
    One statement, and one for each block of sentences beyond the first slice.
    """
    key = scoped_key(client.cursor_key, transcript_id)
    render = partial(_page_of_sentences, filters=filters, options=options, limit=limit, key=key)
    shown = (filters, limit, key, *([options] if options.given else []))
    form = Representation("application/json", filters.channel_id, shown, render, require_model=options.require_model)
    return await serve_rendered(request, bodies, client.id, transcript_id, form)


def _page_of_sentences(
    document: StoredDocument, filters: SentenceFilters, options: SenseVoiceOptions, limit: int, key: bytes
) -> Iterator[str]:
    found = find_sentences(document, filters, limit + 1, options.reduce if options.given else None)
    page, next_cursor = paginate(found, limit, lambda each: ("sentences", *each[0]), key)
    yield orjson.dumps({"items": [sentence for _, sentence in page], "next_cursor": next_cursor}).decode()
