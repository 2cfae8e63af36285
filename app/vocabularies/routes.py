"""`/v1/vocabularies`: hot-word lists of clients."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response

from app.api.dependencies import SessionsDep, SettingsDep
from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit, Page, decode_cursor, paginate
from app.api.problems import responses
from app.clients.authentication import AuthenticatedRoute, ClientDep
from app.dashscope.vocabularies import MAX_ID_CHARS
from app.db import transaction
from app.errors import (
    InvalidRequest,
    ModelNotInRegion,
    NotFound,
    RegionNotServed,
    UnknownModel,
    UpstreamUnavailable,
    VocabularyLimit,
    VocabularyUpdatedRecently,
)
from app.vocabularies import service
from app.vocabularies.lists import VocabularyLists
from app.vocabularies.schemas import Vocabulary, VocabularyRequest, VocabularyUpdate, show, validate_new_vocabulary

router = APIRouter(prefix="/v1/vocabularies", route_class=AuthenticatedRoute, tags=["vocabularies"])

VocabularyId = Annotated[str, Path(max_length=MAX_ID_CHARS)]

_CREATED: dict[str, Any] = {
    "description": "DashScope has the list.",
    "headers": {"Location": {"description": "Path of the list.", "schema": {"type": "string"}}},
}


def vocabulary_lists(request: Request) -> VocabularyLists:
    lists: VocabularyLists = request.app.state.vocabulary_lists
    return lists


@router.post(
    "",
    operation_id="createVocabulary",
    summary="Create a hot-word list",
    status_code=201,
    responses={
        201: _CREATED,
        **responses(
            InvalidRequest, UnknownModel, ModelNotInRegion, RegionNotServed, VocabularyLimit, UpstreamUnavailable
        ),
    },
)
async def create_vocabulary(
    body: VocabularyRequest, request: Request, response: Response, client: ClientDep, settings: SettingsDep
) -> Vocabulary:
    """Creates the list at DashScope, in an account of the region that has room.

    An account has ten lists, over all clients and models. After a 503 send the same request again: if DashScope has
    made the list, the gateway finds it and makes no second one.
    """
    new = validate_new_vocabulary(
        client.id,
        region=body.region,
        target_model=body.target_model,
        prefix=body.prefix,
        words=[word.to_hot_word() for word in body.vocabulary],
        served=tuple(settings.served_regions),
    )
    created = show(await vocabulary_lists(request).create(new))
    response.headers["Location"] = f"/v1/vocabularies/{created.id}"
    return created


@router.get("", operation_id="listVocabularies", summary="List hot-word lists, newest first")
async def list_vocabularies(
    sessions: SessionsDep, client: ClientDep, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[Vocabulary]:
    """As stored by the gateway. `getVocabulary` asks DashScope for the status."""
    key = client.cursor_key
    before = decode_cursor(cursor, tuple[Literal["vocabularies"], UUID], key)[1] if cursor is not None else None
    async with transaction(sessions) as session:
        rows = await service.list_vocabularies(session, client.id, limit=limit + 1, before=before)
    found, next_cursor = paginate(rows, limit, lambda row: ("vocabularies", row.id), key)
    return Page(items=[show(row) for row in found], next_cursor=next_cursor)


@router.get(
    "/{vocabulary_id}",
    operation_id="getVocabulary",
    summary="Get a hot-word list",
    responses=responses(NotFound),
)
async def get_vocabulary(vocabulary_id: VocabularyId, request: Request, client: ClientDep) -> Vocabulary:
    """As DashScope has the list now, or as the gateway stored it if DashScope does not respond within 5 s."""
    return show(await vocabulary_lists(request).get(client.id, vocabulary_id))


@router.put(
    "/{vocabulary_id}",
    operation_id="updateVocabulary",
    summary="Replace the words of a hot-word list",
    responses=responses(InvalidRequest, NotFound, VocabularyUpdatedRecently, UpstreamUnavailable),
)
async def update_vocabulary(
    vocabulary_id: VocabularyId, body: VocabularyUpdate, request: Request, client: ClientDep
) -> Vocabulary:
    """DashScope takes one update of a list in five minutes; `Retry-After` has the rest. The id stays the same."""
    words = [word.to_hot_word() for word in body.vocabulary]
    return show(await vocabulary_lists(request).update(client.id, vocabulary_id, words))


@router.delete(
    "/{vocabulary_id}",
    operation_id="deleteVocabulary",
    summary="Delete a hot-word list",
    status_code=204,
    responses={204: {"description": "The list is deleted."}, **responses(NotFound, UpstreamUnavailable)},
)
async def delete_vocabulary(vocabulary_id: VocabularyId, request: Request, client: ClientDep) -> Response:
    """Queued files that use the list fail with `vocabulary_not_found`."""
    await vocabulary_lists(request).delete(client.id, vocabulary_id)
    return Response(status_code=204)
