"""Errors in DashScope's form: `{"code", "message", "request_id"}` as `application/json`. The SDKs read no other form.

Source of codes and messages: protocol, section 9.
"""

import re
from collections.abc import Mapping

import orjson
from fastapi import Response
from starlette.types import Scope

from app import errors
from app.api.problems import ErrorFormat, InvalidJson, MalformedBody, MethodNotAllowed, problem_type, request_id

BASE = re.compile(r"(?:/beijing|/singapore)?/api/v1(?:/|\Z)")


class Refused(Exception):
    """Ends a call with an error that only this protocol has."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def response(self, scope: Scope) -> Response:
        return _response(scope, self.status, self.code, self.message, {})


# A class without an entry uses that of its nearest base class. Without a message, the error's own text is sent.
_CODES: Mapping[type[errors.GatewayError], tuple[int, str, str | None]] = {
    errors.GatewayError: (500, "InternalError", None),
    errors.InvalidRequest: (400, "InvalidParameter", None),
    errors.UnknownModel: (404, "ModelNotFound", None),
    errors.ModelNotInRegion: (404, "ModelNotFound", None),
    errors.RegionNotServed: (403, "AccessDenied", None),
    errors.Unauthorized: (401, "InvalidApiKey", "Invalid API-key provided."),
    errors.Forbidden: (403, "AccessDenied", None),
    errors.NotFound: (404, "NotFound", None),
    errors.BodyTooLarge: (400, "InvalidParameter", None),
    errors.RateLimited: (429, "Throttling.RateQuota", None),
    errors.VocabularyLimit: (400, "Throttling.AllocationQuota", "Free allocated quota exceeded."),
    errors.VocabularyUpdatedRecently: (429, "Throttling", None),
    errors.BudgetExceeded: (429, "Throttling.AllocationQuota", None),
    errors.TooManyWaitingFiles: (429, "Throttling.AllocationQuota", None),
    errors.ServiceUnavailable: (503, "ServiceUnavailable", None),
    MalformedBody: (400, "InvalidParameter", None),
    InvalidJson: (400, "InvalidParameter", None),
    MethodNotAllowed: (400, "InvalidParameter", None),
}


def _write(scope: Scope, error: errors.GatewayError, headers: Mapping[str, str]) -> Response:
    status, code, message = next(_CODES[base] for base in type(error).__mro__ if base in _CODES)
    return _response(scope, status, code, message or error.detail, {**problem_type(type(error)).headers, **headers})


ERROR_FORMAT = ErrorFormat(BASE.match, _write)


def _response(scope: Scope, status: int, code: str, message: str, headers: Mapping[str, str]) -> Response:
    # A message may repeat lone surrogates of the request, which have no UTF-8.
    readable = message.encode("utf-8", "replace").decode()
    body = orjson.dumps({"code": code, "message": readable, "request_id": request_id(scope)})
    return Response(body, status, dict(headers), media_type="application/json")
