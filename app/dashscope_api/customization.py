"""`POST …/services/audio/asr/customization`: hot-word lists in DashScope's protocol. Source: protocol, section 6.1.

Responses and errors have DashScope's form, and a client sees its own lists only. Unknown fields are accepted, as
DashScope accepts them.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from fastapi import Request, Response

from app.api.dependencies import sessions_of, settings_of
from app.catalogue.hot_words import HotWord
from app.dashscope_api.errors import Refused
from app.dashscope_api.route import client_of, region_of, respond
from app.dashscope_api.times import field_time
from app.db import transaction
from app.errors import InvalidRequest, NotFound, UnknownModel
from app.vocabularies import service
from app.vocabularies.lists import VocabularyLists
from app.vocabularies.models import Vocabulary
from app.vocabularies.routes import vocabulary_lists
from app.vocabularies.schemas import validate_new_vocabulary

MODEL = "speech-biasing"
MAX_PAGE_SIZE = 200
MAX_INTEGER = 2**31 - 1

JSONObject = dict[str, Any]


async def customize(request: Request) -> Response:
    """`POST /services/audio/asr/customization`: runs the action of the body."""
    fields = _input(await request.body())
    action = _ACTIONS.get(str(fields.get("action")))
    if action is None:
        raise InvalidRequest(f"action must be one of {', '.join(_ACTIONS)}")
    try:
        output = await action(_Call(request), fields)
    except NotFound:
        raise Refused(400, "BadRequest.ResourceNotExist", "The Required resource not exist.") from None
    except UnknownModel:
        raise Refused(400, "InvalidParameter", "Model not exist.") from None
    return respond(request, {"output": output, "usage": {"count": 1}})


class _Call:
    """An authenticated call. `region` is that of the path."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.client = client_of(request)
        self.region = region_of(request)
        self.lists: VocabularyLists = vocabulary_lists(request)

    async def own(self) -> Sequence[Vocabulary]:
        """All lists of the client in the region, newest first."""
        async with transaction(sessions_of(self.request)) as session:
            rows = await service.list_vocabularies(session, self.client.id)
        return [row for row in rows if self.region in {"auto", row.region}]

    async def find(self, fields: Mapping[str, Any]) -> str:
        """The `vocabulary_id` of the fields. Raises NotFound if it is no list of the client in the region."""
        vocabulary_id = fields.get("vocabulary_id")
        if vocabulary_id not in {row.vocabulary_id for row in await self.own()}:
            raise NotFound("The Required resource not exist.")
        return str(vocabulary_id)


async def _create(call: _Call, fields: Mapping[str, Any]) -> JSONObject:
    new = validate_new_vocabulary(
        call.client.id,
        region=call.region,
        target_model=_text(fields, "target_model"),
        prefix=_text(fields, "prefix"),
        words=_words(fields),
        served=tuple(settings_of(call.request).served_regions),
    )
    return {"vocabulary_id": (await call.lists.create(new)).vocabulary_id}


async def _list(call: _Call, fields: Mapping[str, Any]) -> JSONObject:
    prefix = fields.get("prefix")
    found = [row for row in await call.own() if not prefix or row.prefix == prefix]
    size = min(_integer(fields, "page_size", 10), MAX_PAGE_SIZE)
    first = _integer(fields, "page_index", 0) * size
    return {
        "vocabulary_list": [{"vocabulary_id": row.vocabulary_id} | _summary(row) for row in found[first : first + size]]
    }


async def _query(call: _Call, fields: Mapping[str, Any]) -> JSONObject:
    row = await call.lists.get(call.client.id, await call.find(fields))
    return _summary(row) | {"target_model": row.target_model, "vocabulary": row.vocabulary}


async def _update(call: _Call, fields: Mapping[str, Any]) -> JSONObject:
    await call.lists.update(call.client.id, await call.find(fields), _words(fields))
    return {}


async def _delete(call: _Call, fields: Mapping[str, Any]) -> JSONObject:
    await call.lists.delete(call.client.id, await call.find(fields))
    return {}


_ACTIONS: Mapping[str, Callable[[_Call, Mapping[str, Any]], Awaitable[JSONObject]]] = {
    "create_vocabulary": _create,
    "list_vocabulary": _list,
    "query_vocabulary": _query,
    "update_vocabulary": _update,
    "delete_vocabulary": _delete,
}


class _Word(msgspec.Struct):
    text: str
    weight: int
    lang: str | None = None


class _Body(msgspec.Struct):
    model: str
    input: JSONObject


def _input(body: bytes) -> JSONObject:
    try:
        parsed = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest("Required body invalid, please check the request body format.") from None
    if parsed.model != MODEL:
        raise InvalidRequest(f"model must be {MODEL}")
    return parsed.input


def _words(fields: Mapping[str, Any]) -> Sequence[HotWord]:
    try:
        words = msgspec.convert(fields.get("vocabulary"), list[_Word])
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"vocabulary: {error}") from None
    return [HotWord(word.text, word.weight, word.lang) for word in words]


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a string")
    return value


def _integer(fields: Mapping[str, Any], name: str, default: int) -> int:
    value = fields.get(name)
    if value is None:
        return default
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise InvalidRequest(f"{name} must be an integer from 0 to {MAX_INTEGER:,}")
    return value


def _summary(row: Vocabulary) -> JSONObject:
    return {
        "gmt_create": field_time(row.created_at, timespec="seconds"),
        "gmt_modified": field_time(row.updated_at, timespec="seconds"),
        "status": row.status,
    }
