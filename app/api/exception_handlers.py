"""Turns what routes raise into problems, whoever raised it: our rooms, FastAPI, Starlette or pydantic."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException

from app.api.problems import (
    MAX_FAULTS,
    MAX_STEP_LENGTH,
    InvalidJson,
    MalformedBody,
    MethodNotAllowed,
    UnsupportedMediaType,
    problem_response,
)
from app.errors import (
    BodyTooLarge,
    DatabaseUnavailable,
    Fault,
    Forbidden,
    GatewayError,
    InvalidRequest,
    NotFound,
    ServiceUnavailable,
    Unauthorized,
)
from app.outages import PASSING

log = structlog.get_logger(__name__)

_NOTHING_HERE = "There is no such thing here: it never was, it is deleted, or it is not yours."
_BY_STATUS: dict[int, tuple[type[GatewayError], str]] = {
    401: (Unauthorized, "Send `Authorization: Bearer <token>`."),
    403: (Forbidden, "This token may not do that."),
    404: (NotFound, "The gateway has no such path; /docs lists those that it has."),
    413: (BodyTooLarge, "The body is larger than this call takes: 16 MiB for a new job, 1 MiB elsewhere."),
    415: (UnsupportedMediaType, "Send JSON, with `Content-Type: application/json`."),
    503: (ServiceUnavailable, "Try again in a moment."),
}
_WORDING = {
    "extra_forbidden": "is not a known field",
    "missing": "is required",
    "string_unicode": "has to be valid Unicode",
    "model_attributes_type": "needs to be an object",
    "dict_type": "needs to be an object",
    "list_type": "needs to be an array",
    "string_type": "needs to be a string",
    "int_parsing": "needs to be an integer",
}
_NEEDS_TOKEN = re.compile(r"(?:/api)?/v1(?:/|$)")
# pydantic speaks of its own types; callers sent JSON.
_SHOULD = re.compile(r"^(?:Input|String|List|Dictionary) should ")


def add_problem_handlers(app: FastAPI) -> None:
    app.exception_handler(GatewayError)(_on_gateway_error)
    app.exception_handler(RequestValidationError)(_on_validation_error)
    app.exception_handler(HTTPException)(_on_http_exception)


async def problem_for(request: Request, error: GatewayError | HTTPException) -> Response:
    """The problem that says what was raised."""
    if isinstance(error, GatewayError):
        return await _on_gateway_error(request, error)
    return await _on_http_exception(request, error)


async def _on_gateway_error(request: Request, error: GatewayError) -> Response:
    if isinstance(error, DatabaseUnavailable) and error.reason not in PASSING:
        # The begin and the end of an outage are logged once, by `app.connections`.
        log.debug("unavailable", code=error.code, reason=error.reason, error=error.explanation)
    elif isinstance(error, ServiceUnavailable):
        log.warning("unavailable", code=error.code, detail=error.detail, cause=repr(error.__cause__))
    return problem_response(request.scope, error)


async def _on_validation_error(request: Request, error: RequestValidationError) -> Response:
    return problem_response(request.scope, _translate(error.errors()))


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    if error.status_code in {404, 405} and (refusal := await _refusal(request)):
        return await _on_gateway_error(request, refusal)
    match error.status_code:
        case 405:
            allowed = ", ".join(_allowed_methods(request))
            detail = f"{request.method} is not possible here; there are {allowed}."
            return problem_response(request.scope, MethodNotAllowed(detail), headers={"Allow": allowed})
        case 400:
            return problem_response(request.scope, _unreadable(request, error.__cause__))
    error_class, detail = _BY_STATUS.get(error.status_code, (GatewayError, str(error.detail)))
    return problem_response(request.scope, error_class(detail), headers=error.headers)


async def _refusal(request: Request) -> GatewayError | None:
    """Why the caller is not told what there is. Where no route matches, none has asked for a token."""
    require_token = getattr(request.app.state, "require_token", None)
    if require_token is None or not _NEEDS_TOKEN.match(request.scope["path"]):
        return None
    try:
        await require_token(request)
    except GatewayError as error:
        return error
    return None


def _translate(problems: Sequence[Mapping[str, Any]]) -> GatewayError:
    """pydantic's findings in our words. Inputs are never repeated: they may be tokens."""
    first = problems[0]
    if first["type"] == "json_invalid":
        return InvalidJson(f"The body is not JSON: {first['ctx']['error']}, at character {first['loc'][-1]}.")
    if any(found["loc"][0] == "path" for found in problems):
        # An id that cannot be an id belongs to nothing.
        return NotFound(_NOTHING_HERE)
    faults = [Fault(_pointer(found["loc"]), _wording(found)) for found in problems[:MAX_FAULTS]]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidRequest(f"{faults[0].pointer or 'The body'} {faults[0].detail}{more}.", faults=faults)


def _pointer(loc: Sequence[int | str]) -> str:
    """`('body', 'file_urls', 0)` is `/file_urls/0`; other places keep their first word: `/query/limit`.

    Steps are cut: an unknown field may have a name of megabytes.
    """
    place, *path = loc
    steps = path if place == "body" else [place, *path]
    return "".join("/" + str(step)[:MAX_STEP_LENGTH].replace("~", "~0").replace("/", "~1") for step in steps)


def _wording(found: Mapping[str, Any]) -> str:
    message = str(_WORDING.get(found["type"], found["msg"])).removeprefix("Value error, ").rstrip(".")
    message = message.replace(" after validation", "")  # of lists; callers do not care when it was counted
    message = _SHOULD.sub("needs to ", message)
    return message[:1].lower() + message[1:]


def _unreadable(request: Request, cause: BaseException | None) -> GatewayError:
    """JSON that is too much for the reader has a wrong value; all else that cannot be read is no JSON."""
    if "json" not in request.headers.get("content-type", ""):
        return MalformedBody("The body is not what its Content-Type says.")
    match cause:
        case RecursionError():
            detail = "is nested more deeply than any field may be"
        case ValueError() if not isinstance(cause, UnicodeError):
            detail = f"holds an integer of more than {sys.get_int_max_str_digits():,} digits; no field takes that"
        case _:
            return InvalidJson("The body is not JSON in UTF-8.")
    return InvalidRequest(f"The body {detail}.", faults=[Fault("", detail)])


def _allowed_methods(request: Request) -> list[str]:
    """All methods of the path. Starlette knows only those of the first route that matches it."""
    methods: set[str] = set()
    for context in iter_route_contexts(request.app.routes):
        pattern = getattr(context, "path_regex", None)
        if pattern is not None and pattern.match(request.scope["path"]):
            methods |= context.methods or set()
    if not methods:  # of a mount: files, which say nothing of methods
        methods = {"GET"}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)
