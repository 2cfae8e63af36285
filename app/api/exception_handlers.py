"""Turns exceptions of our modules, FastAPI, Starlette and pydantic into problem responses."""

import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import structlog
from asyncpg.exceptions import PostgresError
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Mount

from app.api.dependencies import sessions_of
from app.api.problems import (
    MAX_FAULTS,
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
    RateLimited,
    ServiceUnavailable,
    Unauthorized,
    json_pointer,
)
from app.outages import PASSING
from app.readiness import missing_migration

log = structlog.get_logger(__name__)

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_NOT_FOUND = "There is nothing here: it never existed, it was deleted, or it belongs to another client."
_BY_STATUS: dict[int, tuple[type[GatewayError], str]] = {
    401: (Unauthorized, "Send `Authorization: Bearer <token>`."),
    403: (Forbidden, "This token may not do that."),
    404: (NotFound, "The gateway has no such path; /docs lists the paths that it has."),
    413: (BodyTooLarge, "The body is larger than this call accepts: 16 MiB for a new job, 1 MiB elsewhere."),
    415: (UnsupportedMediaType, "Send JSON, with `Content-Type: application/json`."),
    503: (ServiceUnavailable, "Try again in a moment."),
}
# pydantic's messages name Python types, but callers send JSON.
_WORDING = {
    "extra_forbidden": "is not a known field",
    "missing": "is required",
    "string_unicode": "needs to be valid Unicode",
    "model_attributes_type": "needs to be an object",
    "model_type": "needs to be an object",
    "dict_type": "needs to be an object",
    "list_type": "needs to be an array",
    "string_type": "needs to be a string",
    "int_parsing": "needs to be an integer",
    "int_type": "needs to be an integer",
    "bool_parsing": "needs to be true or false",
    "bool_type": "needs to be true or false",
    "uuid_parsing": "needs to be a UUID, such as 0198f3c2-7d5e-7c1a-b0e4-5a0c9d1e2f3a",
}
_SHOULD = re.compile(r"^(?:Input|String|List|Dictionary) should ")
# `/v1`, `/api/v1`, repeated or not.
_BASE_PATH = re.compile(r"^(?:/api|/v1)+(?=/|$)")
_NEEDS_TOKEN = re.compile(r"(?:(?:/beijing|/singapore)?/api)?/v1(?:/|$)")


def add_problem_handlers(
    app: FastAPI, *, require_token: Callable[[Request], Awaitable[None]] | None = None
) -> None:  # fmt: skip
    """`require_token` raises for a request without a valid token.

    Paths under /v1 that do not exist are then a 401 and not a 404 or 405: without a token the API tells nothing.
    """

    async def on_http_exception(request: Request, error: HTTPException) -> Response:
        if require_token is not None and error.status_code in {404, 405} and _NEEDS_TOKEN.match(request.scope["path"]):
            try:
                await require_token(request)
            except GatewayError as refusal:
                return await _on_gateway_error(request, refusal)
            except (DBAPIError, PostgresError) as failure:
                return await _on_database_error(request, failure)
        return _http_problem(request, error)

    app.exception_handler(GatewayError)(_on_gateway_error)
    app.exception_handler(RequestValidationError)(_on_validation_error)
    app.exception_handler(HTTPException)(on_http_exception)
    app.exception_handler(DBAPIError)(_on_database_error)
    app.exception_handler(PostgresError)(_on_database_error)


async def _on_gateway_error(request: Request, error: GatewayError) -> Response:
    if isinstance(error, DatabaseUnavailable) and error.reason not in PASSING:
        # `app.connections` logs the begin and the end of an outage once.
        log.debug("unavailable", code=error.code, reason=error.reason, error=error.explanation)
    elif isinstance(error, ServiceUnavailable):
        cause = {"cause": repr(error.__cause__)} if error.__cause__ else {}
        log.warning("unavailable", code=error.code, detail=error.detail, **cause)
    headers = {}
    if isinstance(error, RateLimited) and error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return problem_response(request.scope, error, headers=headers)


async def _on_database_error(request: Request, error: Exception) -> Response:
    """A 503 while the database is not migrated. Any other error of a statement is a defect of the gateway."""
    try:
        gap = await missing_migration(sessions_of(request), error)
    except DatabaseUnavailable as outage:
        return await _on_gateway_error(request, outage)
    if gap is None:
        raise error
    return await _on_gateway_error(request, ServiceUnavailable(f"{gap}."))


async def _on_validation_error(request: Request, error: RequestValidationError) -> Response:
    return problem_response(request.scope, validation_problem(error.errors()))


def _http_problem(request: Request, error: HTTPException) -> Response:
    match error.status_code:
        case 405:
            allowed = ", ".join(_allowed_methods(request))
            detail = f"{request.method} is not possible here; possible are {allowed}."
            return problem_response(request.scope, MethodNotAllowed(detail), headers={"Allow": allowed})
        case 400:
            return problem_response(request.scope, _unreadable_body(request, error.__cause__))
        case 404 if path := _meant_path(request):
            return problem_response(request.scope, NotFound(f"The gateway has no such path; you may mean {path}."))
    error_class, detail = _BY_STATUS.get(error.status_code, (GatewayError, str(error.detail)))
    return problem_response(request.scope, error_class(detail), headers=error.headers)


def validation_problem(problems: Sequence[Mapping[str, Any]]) -> GatewayError:
    """The problem of pydantic's errors, in the gateway's wording. Never has input values: they may be secrets."""
    first = problems[0]
    if first["type"] == "json_invalid":
        return InvalidJson(f"The body is not JSON: {first['ctx']['error']}, at character {first['loc'][-1]}.")
    if any(found["loc"][0] == "path" for found in problems):
        # A malformed id cannot belong to anything.
        return NotFound(_NOT_FOUND)
    faults = [Fault(_pointer(found["loc"]), _wording(found)) for found in problems[:MAX_FAULTS]]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidRequest(f"{faults[0].pointer or 'The body'} {faults[0].detail}{more}.", faults=faults)


def _pointer(loc: Sequence[int | str]) -> str:
    """`('body', 'file_urls', 0)` is `/file_urls/0`; other places keep their first word, as in `/query/limit`."""
    return reduce(json_pointer, loc[1:] if loc[0] == "body" else loc, "")


def _wording(found: Mapping[str, Any]) -> str:
    message = str(_WORDING.get(found["type"], found["msg"])).removeprefix("Value error, ").rstrip(".")
    message = _SHOULD.sub("needs to ", message.replace(" after validation", ""))
    return message[:1].lower() + message[1:]


def _unreadable_body(request: Request, cause: BaseException | None) -> GatewayError:
    """The problem of a body that cannot be decoded. JSON that exceeds the decoder's limits is valid JSON: a 422."""
    if "json" not in request.headers.get("content-type", ""):
        return MalformedBody("The body does not match its Content-Type.")
    match cause:
        case RecursionError():
            detail = "is nested more deeply than any field may be"
        case ValueError() if not isinstance(cause, UnicodeError):
            detail = f"has an integer of more than {sys.get_int_max_str_digits():,} digits; no field accepts that"
        case _:
            return InvalidJson("The body is not JSON in UTF-8.")
    return InvalidRequest(f"The body {detail}.", faults=[Fault("", detail)])


def _meant_path(request: Request) -> str | None:
    """An existing path that differs by slashes, or by a missing or repeated prefix. None if there is none."""
    path = "/" + "/".join(part for part in request.scope["path"].split("/") if part)
    rest = _BASE_PATH.sub("", path)
    for candidate in (path, rest, f"/v1{rest}", f"/api/v1{rest}"):
        scope = {**request.scope, "path": candidate, "raw_path": None}
        if any(route.matches(scope)[0] is not Match.NONE for route in _routes(request)):
            return candidate
    return None


def _routes(request: Request) -> list[BaseRoute]:
    """All routes but the static files, whose mount matches every path below it."""
    return [route for route in request.app.routes if not isinstance(route, Mount)]


def _allowed_methods(request: Request) -> list[str]:
    """All methods of the path, of all routes that match it. Starlette's own header has those of the first route."""
    routes = _routes(request)
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    found = {method for method in METHODS if any(route.matches(scopes[method])[0] is Match.FULL for route in routes)}
    # Only static files are mounted: a path of no other route is one of theirs.
    found = found or {"GET"}
    return sorted(found | {"HEAD"} if "GET" in found else found)
