"""The form and the responses of transcriptions, for the OpenAPI document."""

from typing import Any, get_args

from app.api.problems import MalformedBody, UnsupportedMediaType, problem_type
from app.errors import (
    BodyTooLarge,
    DatabaseUnavailable,
    GatewayError,
    InvalidRequest,
    NotFound,
    RateLimited,
    TooManyWaitingFiles,
    TooManyWaits,
    Unauthorized,
    UnknownModel,
    UnsupportedFormat,
    UploadTooLarge,
    UploadUnavailable,
)
from app.openai_api.errors import TranscriptionError, gateway_error_body
from app.openai_api.form import BOOLEANS, ResponseFormat

_STRING = {"type": "string"}
_NUMBER = {"type": "number"}
_RETRIED = {
    "x-should-retry": {
        "description": "Whether the official clients repeat the request by themselves.",
        "schema": {"type": "string"},
    }
}

_FORM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The audio or video file."},
        "url": {**_STRING, "description": "In place of `file`: a URL that DashScope can fetch."},
        "model": {
            **_STRING,
            "description": "An id of `GET /v1/models`, or a name of OpenAI's models, which stands for `fun-asr`."
            " Default: `fun-asr`.",
        },
        "language": {**_STRING, "description": "Such as `en`. No effect if the model does not take the language."},
        "prompt": {**_STRING, "description": "Context. No effect if the model takes none."},
        "response_format": {
            **_STRING,
            "description": f"One of {', '.join(f'`{name}`' for name in get_args(ResponseFormat))}. Default: `json`.",
        },
        "timestamp_granularities[]": {
            "type": "array",
            "items": _STRING,
            "description": "`segment` and `word`, for `verbose_json`. Default: `segment`.",
        },
        "stream": {
            **_STRING,
            "pattern": f"^({'|'.join(BOOLEANS)}|)$",  # an empty field counts as missing
            "description": "Respond with server-sent events. Default: `false`.",
        },
        "temperature": {"description": "No effect, whatever the value."},
    },
    "additionalProperties": True,
}
FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": _FORM_SCHEMA,
            "example": {"file": "the bytes of the file", "model": "whisper-1", "response_format": "json"},
        }
    },
}

_SEGMENT: dict[str, Any] = {
    "type": "object",
    "description": "With `diarized_json`, `id` is a string and there is a `speaker`.",
    "properties": {"start": _NUMBER, "end": _NUMBER, "text": _STRING, "speaker": _STRING},
}
_WORD = {"type": "object", "properties": {"word": _STRING, "start": _NUMBER, "end": _NUMBER}}
_TRANSCRIPTION: dict[str, Any] = {
    "type": "object",
    "required": ["text"],
    "properties": {
        "text": _STRING,
        "task": _STRING,
        "language": {**_STRING, "description": "`unknown` if it is not known."},
        "duration": {**_NUMBER, "description": "In seconds."},
        "segments": {"type": "array", "items": _SEGMENT},
        "words": {"type": "array", "items": _WORD},
        "usage": {"type": "object", "properties": {"type": _STRING, "seconds": _NUMBER}},
    },
}
_TRANSCRIBED: dict[str, Any] = {
    "description": "The transcript in the `response_format`. With `stream`, server-sent events.",
    "content": {
        "application/json": {
            "schema": _TRANSCRIPTION,
            "example": {"text": "Hello World.", "usage": {"type": "duration", "seconds": 4.726}},
        },
        "text/plain": {"schema": _STRING, "example": "Hello World."},
        "text/event-stream": {
            "example": 'data: {"type":"transcript.text.delta","delta":"Hello World."}\n\n'
            'data: {"type":"transcript.text.done","text":"Hello World."}\n\ndata: [DONE]\n\n',
        },
    },
}
_ERRORS: tuple[type[GatewayError], ...] = (
    MalformedBody,
    InvalidRequest,
    UnknownModel,
    UnsupportedFormat,
    Unauthorized,
    NotFound,
    BodyTooLarge,
    UploadTooLarge,
    UnsupportedMediaType,
    RateLimited,
    TooManyWaitingFiles,
    TooManyWaits,
    GatewayError,
    DatabaseUnavailable,
    UploadUnavailable,
)
# Errors of the protocol itself: status, code, meaning.
_OWN_ERRORS = (
    (400, "audio_unreadable", "the code of the file's error, if the recording is the cause"),
    (409, "canceled", "The job was canceled"),
    (502, "upstream_error", "the code of the file's error, if DashScope is the cause"),
    (504, "still_running", "The job is not final after 590 s; the same request waits on"),
)


def transcription_responses() -> dict[int | str, dict[str, Any]]:
    """All responses, with errors in OpenAI's form."""
    found: dict[int | str, dict[str, Any]] = {200: _TRANSCRIBED}
    for error_class in _ERRORS:
        kind = problem_type(error_class)
        body = gateway_error_body(error_class(f"{kind.title}."))
        status = 400 if kind.status == 422 else kind.status
        _add(found, status, error_class.code, kind.title, body)
    for status, code, meaning in _OWN_ERRORS:
        body = {"error": {"message": f"{meaning}.", "type": "server_error", "param": None, "code": code}}
        _add(found, status, code, meaning, body)
    location = {"Location": {"description": "Path of the job.", "schema": _STRING}}
    found[504]["headers"] |= {**location, "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return found


def _add(found: dict[int | str, dict[str, Any]], status: int, code: str, meaning: str, body: dict[str, Any]) -> None:
    content: dict[str, Any] = {"application/json": {"examples": {}}}
    empty = {"description": "", "headers": dict(_RETRIED), "model": TranscriptionError, "content": content}
    response = found.setdefault(status, empty)
    response["description"] = "; ".join(filter(None, [response["description"], f"`{code}`: {meaning}"]))
    response["content"]["application/json"]["examples"][code] = {"value": body}
