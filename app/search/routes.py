"""`GET /v1/search`: search over all transcripts of a client."""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.api.conditional import ETAG_RESPONSES, json_response
from app.api.dependencies import SessionsDep
from app.api.pagination import Page, decode_cursor, encode_cursor
from app.api.problems import responses
from app.clients.authentication import AuthenticatedRoute, ClientDep
from app.db import transaction
from app.errors import InvalidCursor, InvalidRequest
from app.search.candidates import HitPosition
from app.search.filters import TranscriptQueryDep
from app.search.query import MAX_FOLDED, NothingToFind, TooLong, parse
from app.search.query import Query as SearchQuery
from app.search.searching import Hit, search

MAX_QUERY_LENGTH = 200

router = APIRouter(prefix="/v1/search", route_class=AuthenticatedRoute, tags=["transcripts"])

_EXAMPLE: dict[str, JsonValue] = {
    "transcript_id": "019ab0a4-5c1e-7cc3-98c4-dc0c0c07398f",
    "job_id": "019ab0a4-4d5e-7a20-8f3b-2b1c6a0d9e11",
    "file_url": "https://example.com/call-4711.wav",
    "channel_id": 0,
    "begin_time": 760,
    "end_time": 2000,
    "speaker_id": 0,
    "snippet": "我想给我的<mark>iPhone手机</mark>退款。",
}


class SearchHit(BaseModel):
    """A sentence that matches the query."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    transcript_id: UUID
    job_id: UUID
    file_url: str
    channel_id: int
    begin_time: int = Field(description="Milliseconds from the beginning of the file.")
    end_time: int
    speaker_id: int | str | None = Field(description="From 0, when diarization was enabled.")
    snippet: str = Field(
        description="HTML: up to 120 characters of the sentence, escaped except for `<mark>` around the matches; "
        "`…` where the sentence is cut."
    )


SearchPage = Page[SearchHit]

Q = Annotated[
    str,
    Query(
        min_length=1,
        max_length=MAX_QUERY_LENGTH,
        description='Words, beginnings of words, characters, and `"exact phrases"`. A sentence must contain all. '
        f"At most {MAX_FOLDED} characters once signs such as `㌖`, which stands for six, are written out.",
        examples=["退款"],
    ),
]
# Limits of the cursor's numbers: both are 32-bit integers in PostgreSQL.
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_CursorShape = tuple[Literal["search"], UUID, _Number, _Number]


@router.get(
    "",
    operation_id="searchTranscripts",
    summary="Search transcripts for what was said",
    response_model=SearchPage,
    responses={**ETAG_RESPONSES, **responses(InvalidRequest, InvalidCursor)},
)
async def search_transcripts(
    request: Request, client: ClientDep, sessions: SessionsDep, q: Q, query: TranscriptQueryDep
) -> Response:
    """Sentences that contain all parts of `q`, newest transcript first, in spoken order within each channel.

    Chinese, Japanese, Thai and similar scripts match by any characters, other words by their beginning. Case and
    character width do not matter. A page may be short or empty and still have a `next_cursor`: the search then
    stopped early because matches are rare, and continues with the next page.
    \f
    About two statements, besides the one for the token.
    """
    parsed = _parse(q)
    start = HitPosition()
    if query.cursor is not None:
        start = HitPosition(*decode_cursor(query.cursor, _CursorShape, client.cursor_key)[1:])
    async with transaction(sessions) as session:
        result = await search(session, client.id, parsed, query.filters, limit=query.limit, start=start)
    body = {
        "items": [_item(hit) for hit in result.hits],
        "next_cursor": encode_cursor(("search", *result.next), client.cursor_key) if result.next else None,
    }
    return json_response(request, body)


def _parse(q: str) -> SearchQuery:
    try:
        return parse(q)
    except NothingToFind:
        detail = "needs a letter, a digit or a character of any script; punctuation is not searched for"
        raise InvalidRequest.at("/query/q", detail) from None
    except TooLong:
        detail = f"is longer than {MAX_FOLDED} characters once its signs are written out"
        raise InvalidRequest.at("/query/q", detail) from None


def _item(hit: Hit) -> dict[str, Any]:
    match = hit.match
    return {
        "transcript_id": hit.transcript_id,
        "job_id": hit.job_id,
        "file_url": hit.file_url,
        "channel_id": match.channel_id,
        "begin_time": match.begin_time,
        "end_time": match.end_time,
        "speaker_id": match.speaker_id,
        "snippet": match.snippet,
    }
