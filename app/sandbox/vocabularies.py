"""`POST …/services/audio/asr/customization` manages hot-word lists, which have no effect on transcripts."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from app.catalogue import MODELS, Model
from app.catalogue.hot_words import HotWord, vocabulary_faults
from app.sandbox import errors
from app.sandbox.errors import Refusal, Refused
from app.sandbox.middleware import Call
from app.sandbox.responses import DroppedConnection, JSONResponse, new_request_id
from app.sandbox.state import SandboxState, Vocabulary
from app.sandbox.times import whole_seconds

JSONObject = dict[str, Any]


async def customize(call: Call) -> Response:
    state, faults = call.state, call.state.faults
    fields = _input(await call.request.body())
    name = str(fields.get("action"))
    action = _ACTIONS.get(name)
    if action is None:
        raise Refused(errors.INVALID_PARAMETER.with_message("action is not supported"))
    if faults.vocabularies_down:
        raise Refused(errors.SERVICE_UNAVAILABLE)
    changes = name not in _READS
    if changes and state.chance("lose_vocabulary", faults.lose_vocabulary_rate):
        return DroppedConnection()
    error = changes and state.chance("error_vocabulary", faults.error_vocabulary_rate)
    if error and state.random.random() < 0.5:
        raise Refused(errors.INTERNAL_ERROR)
    output = action(call, fields)
    if error:
        raise Refused(errors.INTERNAL_ERROR)
    if changes and state.chance("drop_vocabulary", faults.drop_vocabulary_rate):
        return DroppedConnection()
    return JSONResponse({"output": output, "usage": {"count": 1}, "request_id": new_request_id()})


def find_vocabulary(state: SandboxState, account_id: str, vocabulary_id: object) -> Vocabulary | None:
    """The list, or None if it does not exist or belongs to another account."""
    vocabulary = state.vocabularies.get(str(vocabulary_id))
    return vocabulary if vocabulary is not None and vocabulary.account_id == account_id else None


def no_vocabulary(state: SandboxState) -> Refusal:
    return errors.NO_VOCABULARY_416 if state.config.missing_vocabulary_style == "416" else errors.NO_VOCABULARY


def _create(call: Call, fields: Mapping[str, Any]) -> JSONObject:
    prefix, target_model = str(fields.get("prefix")), str(fields.get("target_model"))
    model = MODELS.get(target_model)
    if model is None or call.caller.region not in model.regions:
        raise Refused(errors.UNKNOWN_MODEL["400"])
    words = _words(fields, model, prefix)
    if len(_own(call)) >= call.state.config.max_vocabularies:
        raise Refused(errors.VOCABULARY_QUOTA)
    now = call.state.now()
    vocabulary_id = f"vocab-{prefix}-{uuid.uuid4().hex}"
    vocabulary = Vocabulary(call.caller.account_id, vocabulary_id, target_model, words, now, now)
    call.state.vocabularies[vocabulary_id] = vocabulary
    return {"id" if call.state.quirk("vocabulary_without_id") else "vocabulary_id": vocabulary_id}


def _list(call: Call, fields: Mapping[str, Any]) -> JSONObject:
    prefix = fields.get("prefix")
    own = [] if call.state.quirk("vocabulary_unlisted") else _own(call)
    own = [one for one in own if not prefix or one.id.startswith(f"vocab-{prefix}-")]
    page_size = _integer(fields, "page_size", 10)
    first = _integer(fields, "page_index", 0) * page_size
    return {
        "vocabulary_list": [{"vocabulary_id": one.id} | _summary(call, one) for one in own[first : first + page_size]]
    }


def _query(call: Call, fields: Mapping[str, Any]) -> JSONObject:
    vocabulary = _find(call, fields)
    return _summary(call, vocabulary) | {"target_model": vocabulary.target_model, "vocabulary": vocabulary.words}


def _update(call: Call, fields: Mapping[str, Any]) -> JSONObject:
    vocabulary = _find(call, fields)
    words, now = _words(fields, MODELS[vocabulary.target_model]), call.state.now()
    if vocabulary.is_updated and now < vocabulary.modified_at + call.state.config.vocabulary_update_s:
        raise Refused(errors.UPDATED_RECENTLY)
    vocabulary.words, vocabulary.modified_at, vocabulary.is_updated = words, now, True
    return {}


def _delete(call: Call, fields: Mapping[str, Any]) -> JSONObject:
    vocabulary = _find(call, fields)
    if call.state.quirk("vocabulary_undeletable"):
        raise Refused(errors.INVALID_PARAMETER)
    del call.state.vocabularies[vocabulary.id]
    return {}


_ACTIONS: Mapping[str, Callable[[Call, Mapping[str, Any]], JSONObject]] = {
    "create_vocabulary": _create,
    "list_vocabulary": _list,
    "query_vocabulary": _query,
    "update_vocabulary": _update,
    "delete_vocabulary": _delete,
}
_READS = {"list_vocabulary", "query_vocabulary"}


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


def _words(fields: Mapping[str, Any], model: Model, prefix: str = "0") -> list[JSONObject]:
    try:
        words = msgspec.convert(fields.get("vocabulary"), list[_Word])
    except msgspec.ValidationError as error:
        raise Refused(errors.INVALID_PARAMETER.with_message(f"vocabulary: {error}")) from None
    if faults := vocabulary_faults(model, prefix, [HotWord(word.text, word.weight, word.lang) for word in words]):
        raise Refused(errors.INVALID_PARAMETER.with_message(f"{faults[0].pointer} {faults[0].detail}"))
    return [msgspec.to_builtins(word) for word in words]


def _integer(fields: Mapping[str, Any], name: str, default: int) -> int:
    value = fields.get(name, default)
    if type(value) is not int or value < 0:
        raise Refused(errors.INVALID_PARAMETER.with_message(f"{name} must be an integer"))
    return value


def _summary(call: Call, vocabulary: Vocabulary) -> JSONObject:
    deployed = call.state.now() >= vocabulary.modified_at + call.state.config.vocabulary_deploy_s
    return {
        "gmt_create": whole_seconds(vocabulary.created_at),
        "gmt_modified": whole_seconds(vocabulary.modified_at),
        "status": "OK" if deployed and not call.state.quirk("vocabulary_unusable") else "UNDEPLOYED",
    }


def _own(call: Call) -> list[Vocabulary]:
    return [one for one in call.state.vocabularies.values() if one.account_id == call.caller.account_id]


def _find(call: Call, fields: Mapping[str, Any]) -> Vocabulary:
    vocabulary = find_vocabulary(call.state, call.caller.account_id, fields.get("vocabulary_id"))
    if vocabulary is None:
        raise Refused(no_vocabulary(call.state))
    return vocabulary
