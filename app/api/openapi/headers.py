"""Response headers of the OpenAPI document: described once in the components, and referenced from responses."""

from collections.abc import Iterator
from typing import Any

from app.api.problems import PROBLEM_TYPES

_STRING = {"type": "string"}
_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "The X-Request-ID of the request if it was valid, else a new one. The gateway's log has it too.",
        "schema": _STRING,
    },
    "Retry-After": {
        "description": "Seconds to wait before the next attempt.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "RateLimit": {
        "description": "The remaining `requests`; the quota is full again after `t` seconds. Only if the gateway limits"
        " requests.",
        "schema": _STRING,
        "example": '"requests";r=19;t=1',
    },
    "RateLimit-Policy": {
        "description": "The limits of a client: requests per second, waiting files. Only if there are limits.",
        "schema": _STRING,
        "example": '"requests";q=20;w=1, "waiting-files";q=10000;qu="files"',
    },
    "WWW-Authenticate": {"description": "The authentication scheme.", "schema": _STRING},
}


def add_headers(document: dict[str, Any]) -> None:
    """Adds the headers common to all responses of a kind. Headers that a route documents stay unchanged."""
    document["components"]["headers"] = _HEADERS
    for operations in document["paths"].values():
        for operation in operations.values():
            limited = {"clientToken": []} in operation.get("security", ())
            for status, response in operation["responses"].items():
                common = {name: {"$ref": f"#/components/headers/{name}"} for name in _names(status, limited=limited)}
                response["headers"] = common | response.get("headers", {})


def _names(status: str, *, limited: bool) -> Iterator[str]:
    yield "X-Request-ID"
    if limited and status != "401":  # the client is unknown
        yield from ("RateLimit", "RateLimit-Policy")
    yield from sorted({name for each in PROBLEM_TYPES.values() if str(each.status) == status for name in each.headers})
