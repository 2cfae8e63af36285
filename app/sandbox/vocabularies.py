"""`POST …/services/audio/asr/customization` manages hot-word lists, which have no effect on transcripts."""

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from app.catalogue import MODELS
from app.sandbox import errors
from app.sandbox.errors import Refused
from app.sandbox.middleware import Call
from app.sandbox.responses import JSONResponse, new_request_id
from app.sandbox.state import Vocabulary
from app.sandbox.times import whole_seconds

MAX_VOCABULARIES = 10
_PREFIX = re.compile(r"[0-9a-z]{1,9}")

JSONObject = dict[str, Any]


async def customize(call: Call) -> Response:
    fields = _input(await call.request.body())
    action = _ACTIONS.get(str(fields.get("action")))
    if action is None:
        raise Refused(errors.INVALID_PARAMETER.with_message("action is not supported"))
    return JSONResponse({"output": action(call, fields), "usage": {"count": 1}, "request_id": new_request_id()})


def _create(call: Call, fields: Mapping[str, Any]) -> JSONObject:
    prefix, target_model = str(fields.get("prefix")), str(fields.get("target_model"))
    if not _PREFIX.fullmatch(prefix):
        raise Refused(errors.INVALID_PARAMETER.with_message("prefix must be up to 9 digits and lower-case letters"))
    if target_model not in MODELS:
        raise Refused(errors.UNKNOWN_MODEL["400"])
    if len(_own(call)) >= MAX_VOCABULARIES:
        raise Refused(errors.VOCABULARY_QUOTA)
    now = call.state.now()
    vocabulary_id = f"vocab-{prefix}-{uuid.uuid4().hex}"
    vocabulary = Vocabulary(call.caller.account_id, vocabulary_id, target_model, _words(fields), now, now)
    call.state.vocabularies[vocabulary_id] = vocabulary
    return {"vocabulary_id": vocabulary_id}


def _list(call: Call, fields: Mapping[str, Any]) -> JSONObject:
    prefix = fields.get("prefix")
    own = [one for one in _own(call) if not prefix or one.id.startswith(f"vocab-{prefix}-")]
    page_size = _integer(fields, "page_size", 10)
    first = _integer(fields, "page_index", 0) * page_size
    return {"vocabulary_list": [{"vocabulary_id": one.id} | _summary(one) for one in own[first : first + page_size]]}


def _query(call: Call, fields: Mapping[str, Any]) -> JSONObject:
    vocabulary = _find(call, fields)
    return _summary(vocabulary) | {"target_model": vocabulary.target_model, "vocabulary": vocabulary.words}


def _update(call: Call, fields: Mapping[str, Any]) -> JSONObject:
    vocabulary = _find(call, fields)
    vocabulary.words = _words(fields)
    vocabulary.modified_at = call.state.now()
    return {}


def _delete(call: Call, fields: Mapping[str, Any]) -> JSONObject:
    del call.state.vocabularies[_find(call, fields).id]
    return {}


_ACTIONS: Mapping[str, Callable[[Call, Mapping[str, Any]], JSONObject]] = {
    "create_vocabulary": _create,
    "list_vocabulary": _list,
    "query_vocabulary": _query,
    "update_vocabulary": _update,
    "delete_vocabulary": _delete,
}


class _Word(msgspec.Struct, omit_defaults=True):
    text: str
    weight: int
    lang: str | None = None


class _Input(msgspec.Struct):
    input: JSONObject


def _input(body: bytes) -> JSONObject:
    try:
        return msgspec.json.decode(body, type=_Input).input
    except msgspec.DecodeError:
        raise Refused(errors.INVALID_BODY) from None


def _words(fields: Mapping[str, Any]) -> list[JSONObject]:
    try:
        words = msgspec.convert(fields.get("vocabulary"), list[_Word])
    except msgspec.ValidationError as error:
        raise Refused(errors.INVALID_PARAMETER.with_message(f"vocabulary: {error}")) from None
    return [msgspec.to_builtins(word) for word in words]


def _integer(fields: Mapping[str, Any], name: str, default: int) -> int:
    value = fields.get(name, default)
    if type(value) is not int or value < 0:
        raise Refused(errors.INVALID_PARAMETER.with_message(f"{name} must be an integer"))
    return value


def _summary(vocabulary: Vocabulary) -> JSONObject:
    return {
        "gmt_create": whole_seconds(vocabulary.created_at),
        "gmt_modified": whole_seconds(vocabulary.modified_at),
        "status": "OK",
    }


def _own(call: Call) -> list[Vocabulary]:
    return [one for one in call.state.vocabularies.values() if one.account_id == call.caller.account_id]


def _find(call: Call, fields: Mapping[str, Any]) -> Vocabulary:
    vocabulary = call.state.vocabularies.get(str(fields.get("vocabulary_id")))
    if vocabulary is None or vocabulary.account_id != call.caller.account_id:
        raise Refused(errors.NO_VOCABULARY)
    return vocabulary
