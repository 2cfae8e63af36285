"""RFC 9457 problems: maps each error class to a status, a title and headers.

`type` links to `/docs/errors`, which is generated from this table. A pointer is an RFC 6901 pointer into the JSON
body (`/file_urls/0`; an empty one is the whole body) or names another part of the request: `/query/limit`,
`/header/Idempotency-Key`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.types import Scope

from app import errors

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
MAX_FAULTS = 100  # bounds the response to a hostile body


class MalformedRequest(errors.GatewayError):
    code = "malformed_request"


class HeadTooLarge(errors.GatewayError):
    code = "head_too_large"


class RequestTimeout(errors.GatewayError):
    code = "request_timeout"


class TooManyConnections(errors.ServiceUnavailable):
    code = "too_many_connections"


class MalformedBody(errors.GatewayError):
    code = "malformed_body"


class InvalidJson(errors.GatewayError):
    code = "invalid_json"


class MethodNotAllowed(errors.GatewayError):
    code = "method_not_allowed"


class NotAcceptable(errors.GatewayError):
    code = "not_acceptable"


class UnsupportedMediaType(errors.GatewayError):
    code = "unsupported_media_type"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """Status, title and headers of all problems of one error class."""

    status: int
    title: str
    headers: Mapping[str, str] = field(default_factory=dict)


_RETRY = {"Retry-After": str(RETRY_AFTER_S)}

# A class without a row uses the row of its nearest base class.
PROBLEM_TYPES: dict[type[errors.GatewayError], ProblemType] = {
    errors.GatewayError: ProblemType(500, "The gateway failed"),
    errors.InvalidRequest: ProblemType(422, "The request is not valid"),
    errors.UnknownModel: ProblemType(422, "The catalogue has no such model"),
    errors.ModelNotInRegion: ProblemType(422, "The region does not have the model"),
    errors.RegionNotServed: ProblemType(422, "This gateway has no key for the region"),
    errors.IdempotencyKeyReused: ProblemType(422, "The Idempotency-Key was used with another body"),
    errors.UnsupportedFormat: ProblemType(422, "The model does not take files of this format"),
    errors.UploadNotFound: ProblemType(422, "There is no such upload"),
    errors.UploadExpired: ProblemType(422, "The upload has expired"),
    errors.UploadNotForModel: ProblemType(422, "The upload was made for another model"),
    errors.VocabularyNotFound: ProblemType(422, "There is no such hot-word list"),
    errors.VocabularyModelMismatch: ProblemType(422, "The hot-word list was made for another model"),
    errors.InvalidCursor: ProblemType(422, "The cursor is not one of this list"),
    errors.Unauthorized: ProblemType(
        401, "A valid token is needed", {"WWW-Authenticate": 'Bearer realm="asr-gateway"'}
    ),
    errors.Forbidden: ProblemType(403, "This token may not do that"),
    errors.AdminDisabled: ProblemType(403, "Admin calls are switched off"),
    errors.NotFound: ProblemType(404, "There is nothing here"),
    errors.Conflict: ProblemType(409, "The current state does not allow that"),
    errors.ClientExists: ProblemType(409, "A client has that name already"),
    errors.JobFinal: ProblemType(409, "The job is already final"),
    errors.JobNotFinal: ProblemType(409, "The job is not final yet"),
    errors.TranscriptUnreadable: ProblemType(409, "The transcript has no form but its raw bytes"),
    errors.NothingToRetry: ProblemType(409, "The job has no file to retry"),
    errors.VocabularyLimit: ProblemType(409, "The accounts have no room for another hot-word list"),
    errors.BodyTooLarge: ProblemType(413, "The body is too large"),
    errors.UploadTooLarge: ProblemType(413, "The file is too large"),
    errors.RateLimited: ProblemType(429, "Too many requests", {"Retry-After": "1"}),
    errors.TooManyWaitingFiles: ProblemType(429, "Too many files of this client wait", _RETRY),
    errors.BudgetCurrencyMismatch: ProblemType(422, "The budget has another currency than the model"),
    errors.BudgetExceeded: ProblemType(429, "The budget of this client is used up"),
    errors.TooManyTestPings: ProblemType(429, "Too many test pings", {"Retry-After": "1"}),
    errors.TooManyWrongTokens: ProblemType(429, "Too many wrong admin tokens", {"Retry-After": "60"}),
    errors.TooManyWaits: ProblemType(429, "Too many long polls and event streams are open", _RETRY),
    errors.TooManyUploads: ProblemType(429, "Too many uploads are in progress", _RETRY),
    errors.VocabularyUpdatedRecently: ProblemType(429, "The hot-word list was updated a moment ago", _RETRY),
    errors.ServiceUnavailable: ProblemType(503, "Temporarily unavailable", _RETRY),
    errors.DatabaseUnavailable: ProblemType(503, "The database is temporarily unavailable", _RETRY),
    errors.UploadUnavailable: ProblemType(503, "The file cannot be stored now", _RETRY),
    errors.UpstreamUnavailable: ProblemType(503, "DashScope cannot do this now", _RETRY),
    MalformedRequest: ProblemType(400, "The request is not valid HTTP"),
    RequestTimeout: ProblemType(408, "The request arrived too slowly"),
    HeadTooLarge: ProblemType(431, "The path and the headers are too large"),
    TooManyConnections: ProblemType(503, "All connections are in use", _RETRY),
    MalformedBody: ProblemType(400, "The body cannot be read"),
    InvalidJson: ProblemType(400, "The body is not JSON"),
    MethodNotAllowed: ProblemType(405, "This path has no such method"),
    NotAcceptable: ProblemType(406, "The response would be JSON"),
    UnsupportedMediaType: ProblemType(415, "The body has the wrong media type"),
}


class ProblemPlace(BaseModel):
    """One fault of the request."""

    pointer: str = Field(
        description="RFC 6901 pointer into the body, or `/query/…`, `/header/…`.", examples=["/file_urls/0"]
    )
    detail: str = Field(description="The fault, and the correct form.")


_PROPERTIES: dict[str, JsonValue] = {
    "amount": {"type": "string", "examples": ["0.00264"]},
    "currency": {"type": "string"},
}
_AMOUNT: dict[str, JsonValue] = {"type": "object", "properties": _PROPERTIES, "required": ["amount", "currency"]}
# Optional members, which only some problems have.
_MEMBERS: dict[str, JsonValue] = {
    "budget": {
        "type": "object",
        "properties": {**_PROPERTIES, "period": {"type": "string"}},
        "required": ["amount", "currency", "period"],
        "description": "Of `budget_exceeded`: the budget of the client.",
    },
    "spent": {**_AMOUNT, "description": "Of `budget_exceeded`: the cost of the files that ended in the period."},
    "reserved": {**_AMOUNT, "description": "Of `budget_exceeded`: the estimated cost of the files under way."},
    "requested": {**_AMOUNT, "description": "Of `budget_exceeded`: the estimated cost of the files of the request."},
    "resets_at": {
        "type": "string",
        "format": "date-time",
        "description": "Of `budget_exceeded`: when the next period of the budget begins.",
    },
}


def _describe_members(schema: dict[str, Any]) -> None:
    schema["properties"].update(_MEMBERS)


class Problem(BaseModel):
    """An error in the form of RFC 9457. Programs use `code`; `title` and `detail` are for people."""

    model_config = ConfigDict(
        json_schema_serialization_defaults_required=True, json_schema_extra=_describe_members
    )  # fmt: skip

    type: str = Field(description="A page that explains `code`, relative to the gateway.")
    title: str
    status: int
    detail: str
    instance: str = Field(description="The path of the request.")
    code: str = Field(description="Stable identifier of this kind of error.", examples=["validation_failed"])
    request_id: str = Field(description="The X-Request-ID of the response; the gateway's log lines have it too.")
    errors: list[ProblemPlace] = Field(default=[], description="The faults of an invalid request.")


def problem_type(error_class: type[errors.GatewayError]) -> ProblemType:
    return next(PROBLEM_TYPES[base] for base in error_class.__mro__ if base in PROBLEM_TYPES)


def problem(error: errors.GatewayError, *, instance: str, request_id: str) -> Problem:
    kind = problem_type(type(error))
    return Problem(
        type=f"/docs/errors#{error.code}",
        title=kind.title,
        status=kind.status,
        detail=error.detail,
        instance=instance,
        code=error.code,
        request_id=request_id,
        errors=[ProblemPlace(pointer=fault.pointer, detail=fault.detail) for fault in error.faults[:MAX_FAULTS]],
    )


# Writes an error in the form of another protocol. Takes the scope, the error and additional headers.
ErrorWriter = Callable[[Scope, errors.GatewayError, Mapping[str, str]], Response]


@dataclass(frozen=True, slots=True)
class ErrorFormat:
    """All errors of the paths that `matches`, in the form that the clients of another protocol read."""

    matches: Callable[[str], object]
    write: ErrorWriter


def add_error_format(app: FastAPI, error_format: ErrorFormat) -> None:
    """Errors of its paths are no problems any more, wherever they occur: in routes, middleware or for unknown paths."""
    app.state.error_formats = (*getattr(app.state, "error_formats", ()), error_format)


def problem_response(scope: Scope, error: errors.GatewayError, *, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as response to the request of `scope`. The query string is left out: it may hold secrets."""
    formats: Sequence[ErrorFormat] = getattr(scope["app"].state, "error_formats", ()) if "app" in scope else ()
    for each in formats:
        if each.matches(scope["path"]):
            return each.write(scope, error, headers or {})
    kind = problem_type(type(error))
    body = problem(error, instance=quote(scope["path"], safe="/:@!$&'()*+,;=~"), request_id=request_id(scope))
    # Details may repeat lone surrogates from the request, which have no UTF-8: they are sent as JSON escapes.
    text = json.dumps({**body.model_dump(mode="python"), **error.members}, ensure_ascii=False, separators=(",", ":"))
    # The newline is for people: without it, the prompt of a shell follows the error on its line.
    content = f"{text}\n".encode("utf-8", "backslashreplace")
    return Response(content, kind.status, {**kind.headers, **(headers or {})}, MEDIA_TYPE)


def request_id(scope: Scope) -> str:
    """The id that RequestContextMiddleware gave to the request."""
    return cast("str", scope.get("state", {}).get("request_id", ""))


def responses(*error_classes: type[errors.GatewayError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for the errors of one route. `app.api.openapi.document` adds the errors of all routes."""
    by_status: dict[int | str, list[type[errors.GatewayError]]] = {}
    for error_class in error_classes:
        by_status.setdefault(problem_type(error_class).status, []).append(error_class)
    return {status: _response(classes) for status, classes in by_status.items()}


def _response(classes: Sequence[type[errors.GatewayError]]) -> dict[str, Any]:
    return {
        "description": "; ".join(f"`{cls.code}`: {problem_type(cls).title}" for cls in classes),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {cls.code: {"value": _example(cls)} for cls in classes},
            }
        },
    }


def _example(error_class: type[errors.GatewayError]) -> dict[str, Any]:
    kind = problem_type(error_class)
    faults = [errors.Fault("/file_urls/0", "The correct form.")] if kind.status == 422 else []
    error = error_class(f"{kind.title}.", faults=faults)
    return problem(error, instance="/v1/jobs", request_id="0198c9f2").model_dump()
