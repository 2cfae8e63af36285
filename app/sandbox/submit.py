"""`POST …/services/audio/asr/transcription` creates tasks. DashScope checks some inputs only when the task runs."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from starlette.responses import Response

from app.catalogue import MODELS, Model
from app.catalogue.defaults import MAX_DURATION_S
from app.sandbox import errors
from app.sandbox.behaviour import UnknownDirective, behaviour_of
from app.sandbox.documents import audio_duration_ms
from app.sandbox.errors import Refused
from app.sandbox.middleware import Call
from app.sandbox.responses import DroppedConnection, JSONResponse, new_request_id
from app.sandbox.results import sign_links
from app.sandbox.signing import signed_query
from app.sandbox.state import SandboxState
from app.sandbox.tasks import Failure, File, Task, failure
from app.sandbox.uploads import url_failure
from app.sandbox.vocabularies import find_vocabulary, no_vocabulary

_OSS_URL_TTL_S = 3600
# The vendor's sample bucket has no such objects.
_ABSENT = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/absent/"


async def submit(call: Call) -> Response:
    if call.request.headers.get("x-dashscope-async", "").lower() != "enable":
        raise Refused(errors.SYNCHRONOUS_CALL)
    body = _parse(await call.request.body())
    model = _model(call, body)
    call.refuse_key(model.id)
    call.take_rate(call.state.config.submit_rps or model.submit_rps, model.id)
    task = _task(call, model, body)
    return _store(call.state, task)


def _store(state: SandboxState, task: Task) -> Response:
    """Store the task and respond, unless a fault drops the connection or replaces the response."""
    faults = state.faults
    if state.chance("lose_submit", faults.lose_submit_rate):
        return DroppedConnection()
    error = state.chance("error_submit", faults.error_submit_rate)
    if error and state.random.random() < 0.5:
        raise Refused(state.random.choice((errors.INTERNAL_ERROR, errors.MODEL_SERVING_ERROR)))
    state.add(task)
    if error:
        raise Refused(state.random.choice((errors.INTERNAL_ERROR, errors.MODEL_SERVING_ERROR)))
    if state.chance("drop_submit", faults.drop_submit_rate):
        return DroppedConnection()
    id_name = "id" if state.quirk("submit_without_id") else "task_id"
    return JSONResponse({"output": {"task_status": "PENDING", id_name: task.id}, "request_id": task.request_id})


def _parse(body: bytes) -> dict[str, Any]:
    try:
        parsed = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise Refused(errors.INVALID_BODY) from None
    if not isinstance(parsed, dict):
        raise Refused(errors.INVALID_BODY)
    return parsed


def _model(call: Call, body: Mapping[str, Any]) -> Model:
    model_id = body.get("model")
    if not model_id:
        raise Refused(errors.EMPTY_MODEL)
    model = MODELS.get(model_id) if isinstance(model_id, str) else None
    if model is None and call.state.quirk("unknown_model_accepted"):
        return MODELS["fun-asr"]
    # A model that the region does not offer is unknown there.
    if model is None or call.caller.region not in model.regions:
        raise Refused(errors.UNKNOWN_MODEL[call.state.config.unknown_model_style])
    return model


def _task(call: Call, model: Model, body: Mapping[str, Any]) -> Task:
    state, config = call.state, call.state.config
    parameters = _parameters(body)
    _refuse_parameters(state, model, parameters)
    limit = sys.maxsize if state.quirk("more_files_accepted") else config.max_files_per_task
    urls, rejection = _file_urls(model, body.get("input"), limit)
    if call.caller.region == "singapore" and config.require_parameters_singapore and "parameters" not in body:
        rejection = Failure("InvalidParameter", 'Required parameter "parameters" missing from request.')
    rejection = _vocabulary_failure(call, parameters) or rejection
    resolves_oss = call.request.headers.get("x-dashscope-ossresourceresolve", "").lower() == "enable"
    files = [_file(call, model, url, resolves_oss=resolves_oss) for url in urls]
    submitted_at = state.now()
    queue_s, run_s = _spans(state, files)
    task = Task(
        caller=call.caller,
        model=model,
        parameters=parameters,
        files=files,
        rejection=rejection,
        request_id=new_request_id(),
        submitted_at=submitted_at,
        starts_at=submitted_at + queue_s,
        ends_at=submitted_at + queue_s + run_s,
    )
    _arrange_results(state, task)
    return task


def _arrange_results(state: SandboxState, task: Task) -> None:
    order = list(range(len(task.files)))
    if state.config.shuffle_results:
        state.random.shuffle(order)
    task.order = order
    sign_links(state, task)


def _parameters(body: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Refused(errors.INVALID_PARAMETER.with_message("parameters must be an object"))
    channels = parameters.get("channel_id") or [0]
    if not isinstance(channels, list) or not all(type(channel) is int and channel >= 0 for channel in channels):
        raise Refused(errors.INVALID_PARAMETER.with_message("channel_id must be a list of integers"))
    return parameters


def _vocabulary_failure(call: Call, parameters: Mapping[str, Any]) -> Failure | None:
    """The failure of the task if its hot-word list does not exist, or Refused, by `missing_vocabulary_style`."""
    vocabulary_id = parameters.get("vocabulary_id")
    if vocabulary_id is None or find_vocabulary(call.state, call.caller.account_id, vocabulary_id):
        return None
    refusal = no_vocabulary(call.state)
    if call.state.config.missing_vocabulary_style == "task":
        return Failure(refusal.code, refusal.message)
    raise Refused(refusal)


def _refuse_parameters(state: SandboxState, model: Model, parameters: Mapping[str, Any]) -> None:
    """DashScope ignores unknown parameters, as far as is known, and checks channels when the task runs."""
    unknown = sorted(set(parameters) - {parameter.name for parameter in model.parameters})
    if unknown and state.quirk("unknown_parameter_refused"):
        raise Refused(errors.INVALID_PARAMETER.with_message(f"{unknown[0]} is not a parameter"))
    if any(parameters.get("channel_id") or []) and state.quirk("absent_channel_refused"):
        raise Refused(errors.INVALID_PARAMETER.with_message("channel_id has a channel that the file does not have"))


def _file_urls(model: Model, input_: Any, limit: int | None) -> tuple[Sequence[str], Failure | None]:
    if not input_:
        raise Refused(errors.EMPTY_INPUT)
    if not isinstance(input_, dict):
        raise Refused(errors.INVALID_BODY)
    urls, url = input_.get("file_urls"), input_.get("file_url")
    if model.input_style == "file_url" and isinstance(url, str) and url:
        return [url], None
    if not isinstance(urls, list) or not urls or not all(isinstance(one, str) and one for one in urls):
        raise Refused(errors.NO_FILE_URLS if model.input_style == "file_urls" else errors.NO_FILE_URL)
    if model.input_style == "file_url":
        # DashScope accepts the submit and checks the input when the task runs.
        return urls, failure("InvalidParameter.MalformedURL")
    maximum = limit or model.max_files_per_task
    if len(urls) > maximum:
        raise Refused(errors.INVALID_PARAMETER.with_message(f"input.file_urls must not have more than {maximum} URLs"))
    return urls, None


def _file(call: Call, model: Model, url: str, *, resolves_oss: bool) -> File:
    state = call.state
    try:
        behaviour = behaviour_of(url)
    except UnknownDirective as error:
        raise Refused(errors.INVALID_PARAMETER.with_message(str(error))) from None
    if behaviour.refuse:
        raise Refused(errors.BAD_URL)
    if behaviour.deny:
        raise Refused(errors.ACCESS_DENIED)
    code = _url_failure(url, resolves_oss=resolves_oss)
    code = code or url_failure(state, url, account_id=call.caller.account_id, model=model.id) or behaviour.fail_code
    if code is None and behaviour.fail_once_code is not None and url not in state.failed_once:
        state.failed_once.add(url)
        code = behaviour.fail_once_code
    duration_ms = audio_duration_ms(model.family, url, audio_s=behaviour.audio_s, words=behaviour.words)
    if code is None and (behaviour.audio_s or 0) > (model.max_duration_s or MAX_DURATION_S):
        code = "AUDIO_DURATION_TOO_LONG"
    echo_url = _resolved(url, state.now()) if resolves_oss and url.startswith("oss://") else url
    if echo_url != url and state.quirk("upload_echo_renamed"):
        echo_url = f"{echo_url.rpartition('/')[0]}/{new_request_id()}"
    if state.faults.unescape_echo:
        echo_url = unquote(echo_url)
    return File(url, echo_url, behaviour, failure(code) if code else None, duration_ms)


def _url_failure(url: str, *, resolves_oss: bool) -> str | None:
    scheme = url.partition("://")[0].lower()
    if scheme == "oss":  # the rest is a key and no URL: it has no escapes
        return None if resolves_oss else "FILE_DOWNLOAD_FAILED"
    if not url.isascii() or " " in url:
        return "InvalidFile.DownloadFailed"
    if url.startswith(_ABSENT):
        return "FILE_404_NOT_FOUND"
    return None if scheme in {"http", "https"} else "REQUEST_INVALID_FILE_URL_VALUE"


def _resolved(url: str, now: float) -> str:
    """The signed URL that DashScope shows in place of a temporary `oss://` URL."""
    parts = urlsplit(url)
    signed = f"http://dashscope-file-mgr.oss-cn-beijing.aliyuncs.com/{parts.netloc}{parts.path}"
    return f"{signed}?{signed_query(parts.path, int(now) + _OSS_URL_TTL_S)}"


def _spans(state: SandboxState, files: Sequence[File]) -> tuple[float, float]:
    """The times for which the task is PENDING and RUNNING: those of its slowest file."""
    config = state.config
    queue_s = max(config.queue_s if (own := file.behaviour.queue_s) is None else own for file in files)
    run_s = max(
        config.run_s + config.run_s_per_audio_s * file.duration_ms / 1000
        if (own := file.behaviour.run_s) is None
        else own
        for file in files
    )
    return queue_s, run_s
