"""`/v1/search`: over everything that a client has."""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Request, Response

from app.api.dependencies import SessionsDep
from app.api.json_answers import ETAG_RESPONSES, json_response
from app.api.pagination import decode_cursor, encode_cursor
from app.api.problems import responses
from app.clients.authentication import AuthenticatedRoute, ClientDep
from app.db import transaction
from app.errors import Fault, InvalidCursor, InvalidRequest
from app.search.filters import AskedDep
from app.search.query import MAX_FOLDED, NothingToFind, TooLong, parse
from app.search.query import Query as SearchQuery
from app.search.schemas import SearchPage
from app.search.searching import Hit, Position, search

MAX_QUERY_LENGTH = 200

router = APIRouter(prefix="/v1/search", route_class=AuthenticatedRoute, tags=["transcripts"])

Q = Annotated[
    str,
    Query(
        min_length=1,
        max_length=MAX_QUERY_LENGTH,
        description='Words and their beginnings, characters, and `"exact phrases"`; all of them in one sentence. '
        f"At most {MAX_FOLDED} characters once signs such as `㌖`, which stands for six, are written out.",
        examples=["退款"],
    ),
]
# Row numbers are PostgreSQL's and Python's own: beyond these nobody's cursor leads.
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
    request: Request, client: ClientDep, sessions: SessionsDep, q: Q, asked: AskedDep
) -> Response:
    """Sentences that have all of `q`: of the newest transcript first, then as they were spoken, channel by channel.

    Chinese, Japanese, Thai and the like are found by any characters, other words by their beginning; case and width
    do not matter. A page may be short, or empty, and still have a `next_cursor`: what was asked for is rare then,
    though its words are not, and the search goes on with the next page.
    \f
    Some four statements, and the token's.
    """
    query = _parse(q)
    start = Position()
    if asked.cursor is not None:
        start = Position(*decode_cursor(asked.cursor, _CursorShape, client.cursor_key)[1:])
    async with transaction(sessions) as session:
        found = await search(session, client.id, query, asked.filters, limit=asked.limit, start=start)
    body = {
        "items": [_item(hit) for hit in found.hits],
        "next_cursor": encode_cursor(("search", *found.next), client.cursor_key) if found.next else None,
    }
    return json_response(request, body)


def _parse(q: str) -> SearchQuery:
    try:
        return parse(q)
    except NothingToFind:
        raise _refusal(
            "needs a letter, a digit or a character of any script; punctuation is not searched for"
        ) from None
    except TooLong:
        raise _refusal(f"is longer than {MAX_FOLDED} characters once its signs are written out") from None


def _refusal(detail: str) -> InvalidRequest:
    return InvalidRequest(f"/query/q {detail}.", faults=[Fault("/query/q", detail)])


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
