"""`POST …/services/audio/asr/customization`: hot-word lists. They are kept, and change no transcript."""

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
from app.sandbox.responses import JSONAnswer, new_request_id
from app.sandbox.state import Vocabulary
from app.sandbox.times import whole_seconds

MAX_VOCABULARIES = 10
_PREFIX = re.compile(r"[0-9a-z]{1,9}")

JSONObject = dict[str, Any]


async def customize(call: Call) -> Response:
    given = _input(await call.request.body())
    act = _ACTIONS.get(str(given.get("action")))
    if act is None:
        raise Refused(errors.INVALID_PARAMETER.saying("action is not supported"))
    return JSONAnswer({"output": act(call, given), "usage": {"count": 1}, "request_id": new_request_id()})


def _create(call: Call, given: Mapping[str, Any]) -> JSONObject:
    prefix, target_model = str(given.get("prefix")), str(given.get("target_model"))
    if not _PREFIX.fullmatch(prefix):
        raise Refused(errors.INVALID_PARAMETER.saying("prefix must be up to 9 digits and lower-case letters"))
    if target_model not in MODELS:
        raise Refused(errors.UNKNOWN_MODEL["400"])
    if len(_own(call)) >= MAX_VOCABULARIES:
        raise Refused(errors.VOCABULARY_QUOTA)
    now = call.state.now()
    vocabulary_id = f"vocab-{prefix}-{uuid.uuid4().hex}"
    vocabulary = Vocabulary(call.caller.account_id, vocabulary_id, target_model, _words(given), now, now)
    call.state.vocabularies[vocabulary_id] = vocabulary
    return {"vocabulary_id": vocabulary_id}


def _list(call: Call, given: Mapping[str, Any]) -> JSONObject:
    prefix = given.get("prefix")
    own = [one for one in _own(call) if not prefix or one.id.startswith(f"vocab-{prefix}-")]
    page_size = _integer(given, "page_size", 10)
    first = _integer(given, "page_index", 0) * page_size
    return {"vocabulary_list": [{"vocabulary_id": one.id} | _summary(one) for one in own[first : first + page_size]]}


def _query(call: Call, given: Mapping[str, Any]) -> JSONObject:
    vocabulary = _find(call, given)
    return _summary(vocabulary) | {"target_model": vocabulary.target_model, "vocabulary": vocabulary.words}


def _update(call: Call, given: Mapping[str, Any]) -> JSONObject:
    vocabulary = _find(call, given)
    vocabulary.words = _words(given)
    vocabulary.modified_at = call.state.now()
    return {}


def _delete(call: Call, given: Mapping[str, Any]) -> JSONObject:
    del call.state.vocabularies[_find(call, given).id]
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


def _words(given: Mapping[str, Any]) -> list[JSONObject]:
    try:
        words = msgspec.convert(given.get("vocabulary"), list[_Word])
    except msgspec.ValidationError as error:
        raise Refused(errors.INVALID_PARAMETER.saying(f"vocabulary: {error}")) from None
    return [msgspec.to_builtins(word) for word in words]


def _integer(given: Mapping[str, Any], name: str, default: int) -> int:
    value = given.get(name, default)
    if type(value) is not int or value < 0:
        raise Refused(errors.INVALID_PARAMETER.saying(f"{name} must be an integer"))
    return value


def _summary(vocabulary: Vocabulary) -> JSONObject:
    return {
        "gmt_create": whole_seconds(vocabulary.created_at),
        "gmt_modified": whole_seconds(vocabulary.modified_at),
        "status": "OK",
    }


def _own(call: Call) -> list[Vocabulary]:
    return [one for one in call.state.vocabularies.values() if one.account_id == call.caller.account_id]


def _find(call: Call, given: Mapping[str, Any]) -> Vocabulary:
    vocabulary = call.state.vocabularies.get(str(given.get("vocabulary_id")))
    if vocabulary is None or vocabulary.account_id != call.caller.account_id:
        raise Refused(errors.NO_VOCABULARY)
    return vocabulary
