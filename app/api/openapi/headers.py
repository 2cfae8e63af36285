"""Headers of answers in the OpenAPI document: described once, in its components, and referred to where they occur."""

from collections.abc import Iterator
from typing import Any

from app.api.problems import PROBLEM_TYPES

_STRING = {"type": "string"}
_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "The request's own X-Request-ID if it was sane, else a new one; the gateway's log has it too.",
        "schema": _STRING,
    },
    "Retry-After": {
        "description": "After so many seconds it is worth trying again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "RateLimit": {
        "description": "What is left of `requests`, and that it is whole again after `t` seconds. Only when the gateway"
        " limits its clients' requests.",
        "schema": _STRING,
        "example": '"requests";r=19;t=1',
    },
    "RateLimit-Policy": {
        "description": "The limits of a client: requests in a second, files that wait. Only when there are limits.",
        "schema": _STRING,
        "example": '"requests";q=20;w=1, "waiting-files";q=10000;qu="files"',
    },
    "WWW-Authenticate": {"description": "How to send the token.", "schema": _STRING},
}


def add_headers(document: dict[str, Any]) -> None:
    """Those that any answer of its kind can have. What a route says of its own answers stays as it is."""
    document["components"]["headers"] = _HEADERS
    for operations in document["paths"].values():
        for operation in operations.values():
            limited = {"clientToken": []} in operation.get("security", ())
            for status, response in operation["responses"].items():
                common = {name: _reference(name) for name in _names(status, limited=limited)}
                response["headers"] = common | response.get("headers", {})


def _names(status: str, *, limited: bool) -> Iterator[str]:
    yield "X-Request-ID"
    if limited and status != "401":  # whose limits they were is not known then
        yield from ("RateLimit", "RateLimit-Policy")
    yield from sorted({name for kind in PROBLEM_TYPES.values() if str(kind.status) == status for name in kind.headers})


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}
