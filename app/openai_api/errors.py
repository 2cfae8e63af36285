"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`. Its clients read no other form.

Clients repeat a request after 408, 409, 429 and 5xx by themselves, unless `x-should-retry` is `false`.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.types import Scope

from app.api.problems import ErrorFormat, problem_type
from app.errors import BudgetExceeded, Fault, GatewayError, InvalidRequest
from app.queue.codes import FileErrorCode
from app.queue.job_json import JobFile

PATHS = re.compile(r"/v1/audio(?:/|\Z)")
RETRYABLE = {408, 409, 429, 500, 503, 504}
# The official clients do not retry at all if they would have to wait longer.
MAX_RETRY_AFTER_S = 120

# Fields of a job, and the fields of the form from which they are made.
_PARAMS = {
    "file_urls": "url",
    "language_hints": "language",
    "corpus": "prompt",
    "diarization_enabled": "response_format",
    "enable_words": "timestamp_granularities",
    "region": "model",
}
# The others are failures of DashScope or of the gateway.
_FAULTS_OF_THE_FILE = {
    FileErrorCode.AUDIO_TOO_LONG,
    FileErrorCode.AUDIO_UNREADABLE,
    FileErrorCode.CONTENT_REJECTED,
    FileErrorCode.FILE_TOO_LARGE,
    FileErrorCode.FILE_UNREACHABLE,
    FileErrorCode.FILE_URL_REFUSED,
    FileErrorCode.UPLOAD_EXPIRED,
}

_EXAMPLE: dict[str, JsonValue] = {
    "message": "response_format needs one of json, text, srt, verbose_json, vtt, diarized_json.",
    "type": "invalid_request_error",
    "param": "response_format",
    "code": "validation_failed",
}


class TranscriptionErrorDetail(BaseModel):
    """An error in OpenAI's form."""

    message: str
    type: str = Field(
        description="`invalid_request_error`, `rate_limit_error`, `insufficient_quota` or `server_error`."
    )
    param: str | None = Field(description="The field of the form that is wrong.")
    code: str = Field(description="A code of this API, or the code of the file's error.")


class TranscriptionError(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"error": _EXAMPLE}]})

    error: TranscriptionErrorDetail


class TranscriptionRefused(Exception):
    """Ends a call with an error that only this protocol has."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(status, code, message, param)
        self.headers = headers or {}

    def response(self) -> Response:
        return _response(self.status, self.body, self.headers)


def file_failure(file: JobFile, param: str) -> TranscriptionRefused:
    """The error of a file that failed or was canceled. Final: the same request would begin a new job."""
    if file.error is None:
        message = "The job was canceled. Send the request again to begin a new one."
        return TranscriptionRefused(409, "canceled", message, headers={"x-should-retry": "false"})
    status = 400 if file.error.code in _FAULTS_OF_THE_FILE else 502
    return TranscriptionRefused(status, file.error.code, file.error.message, param=param if status == 400 else None)


def error_body(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    kind = (
        "insufficient_quota"
        if code == BudgetExceeded.code
        else "server_error"
        if status >= 500
        else "rate_limit_error"
        if status == 429
        else "invalid_request_error"
    )
    # A message may repeat lone surrogates of the request, which have no UTF-8.
    readable = message.encode("utf-8", "replace").decode()
    return {"error": {"message": readable, "type": kind, "param": param, "code": code}}


def gateway_error_body(error: GatewayError) -> dict[str, Any]:
    message, param = error.detail, None
    if isinstance(error, InvalidRequest) and error.faults:
        message, param = _message(error, error.faults[0])
    return error_body(_status(error), error.code, message, param)


def _write(_scope: Scope, error: GatewayError, headers: Mapping[str, str]) -> Response:
    return _response(_status(error), gateway_error_body(error), {**problem_type(type(error)).headers, **headers})


ERROR_FORMAT = ErrorFormat(PATHS.match, _write)


def _status(error: GatewayError) -> int:
    """OpenAI has no 422."""
    status = problem_type(type(error)).status
    return 400 if status == 422 else status


def _message(error: GatewayError, fault: Fault) -> tuple[str, str | None]:
    """The message without the pointer with which many details begin, and the field of the form."""
    names = [step for step in fault.pointer.split("/") if step and step != "parameters"]
    param = _PARAMS.get(names[0], names[0]) if names else None
    if param and error.detail.startswith(f"{fault.pointer} "):
        return f"{param}{error.detail.removeprefix(fault.pointer)}", param
    return error.detail, param


def _response(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    wait_s = headers.get("Retry-After", "0")
    retry = status in RETRYABLE and wait_s.isdecimal() and int(wait_s) <= MAX_RETRY_AFTER_S
    more = {"x-should-retry": "true" if retry else "false", **headers}
    return Response(orjson.dumps(body), status, more, media_type="application/json")
