"""Builds the OpenAPI document for generated clients: stable operationIds, and every error as a Problem."""

import json
import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from app.api.openapi.examples import add_page_examples, restore_examples
from app.api.openapi.schemas import prepare_schemas
from app.api.problems import PROBLEM_TYPES, InvalidJson, NotAcceptable, Problem, UnsupportedMediaType, responses
from app.errors import (
    BodyTooLarge,
    DatabaseUnavailable,
    GatewayError,
    InvalidRequest,
    NotFound,
    RateLimited,
    Unauthorized,
)

_GENERIC_PAGE = re.compile(r"\bPage_(\w+)_\b")  # `JobPage` reads better in generated clients than `Page_Job_`
_TEMPLATE = "#/components/schemas/{model}"
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


def operation_id(route: APIRoute) -> str:
    """`create_job` becomes `createJob`, the method name in generated clients."""
    head, *rest = route.name.split("_")
    return head + "".join(word.title() for word in rest)


def build_openapi(app: FastAPI) -> dict[str, Any]:
    """Replaces `app.openapi`. The document is built once per application."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            webhooks=app.webhooks.routes,
            tags=app.openapi_tags,
            servers=[{"url": "/", "description": "The gateway that serves this document."}],
        )
        _describe_ids(document)
        _add_problems(document)
        _add_headers(document)
        add_page_examples(document["components"]["schemas"])
        restore_examples(document["components"]["schemas"])
        app.openapi_schema = json.loads(_GENERIC_PAGE.sub(r"\1Page", json.dumps(prepare_schemas(document))))
    return app.openapi_schema


def _describe_ids(document: dict[str, Any]) -> None:
    """Describes the ids in paths, which have no description of their own."""
    for operations in document["paths"].values():
        for parameter in (each for operation in operations.values() for each in operation.get("parameters", ())):
            resource, is_id, _ = parameter["name"].partition("_id")
            if parameter["in"] == "path" and is_id:
                parameter.setdefault("description", f"The {resource}'s `id`.")


def _add_problems(document: dict[str, Any]) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = Problem.model_json_schema(mode="serialization", ref_template=_TEMPLATE)
    schemas.update(problem.pop("$defs"), Problem=problem)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if "401" in operation["responses"]:
                continue  # documents all its errors itself, in the form of another protocol
            _document_errors(operation, responses(*_common_errors(method, path, operation)))


def _common_errors(method: str, path: str, operation: dict[str, Any]) -> Iterator[type[GatewayError]]:
    """Errors that any operation of this form can return."""
    yield GatewayError
    if "security" in operation:
        yield Unauthorized
        yield DatabaseUnavailable
    if {"clientToken": []} in operation.get("security", ()):
        yield RateLimited
    if re.search(r"\{\w+\}", path):
        yield NotFound
    if "security" in operation or "parameters" in operation or "requestBody" in operation:
        yield InvalidRequest
    if "security" in operation and _responds_with_json(operation):
        yield NotAcceptable
    if method != "get":
        yield BodyTooLarge  # also without a request body: the limit is checked first
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        yield InvalidJson
        yield UnsupportedMediaType


def _responds_with_json(operation: dict[str, Any]) -> bool:
    successes = (response for status, response in operation["responses"].items() if status.startswith("2"))
    return any("application/json" in response.get("content", {}) for response in successes)


def _document_errors(operation: dict[str, Any], common: dict[int | str, dict[str, Any]]) -> None:
    documented = operation["responses"]
    if "HTTPValidationError" in str(documented.get("422")):
        del documented["422"]
    for status, response in common.items():
        own = documented.setdefault(str(status), {"description": "", "content": response["content"]})
        own["description"] = "; ".join(filter(None, [response["description"], own["description"]]))
        own_examples = next(iter(own["content"].values())).setdefault("examples", {})
        own_examples.update({**next(iter(response["content"].values()))["examples"], **own_examples})
    operation["responses"] = dict(sorted(documented.items()))


def _add_headers(document: dict[str, Any]) -> None:
    """Adds the headers common to all responses of a kind. Headers that a route documents stay unchanged."""
    document["components"]["headers"] = _HEADERS
    for operations in document["paths"].values():
        for operation in operations.values():
            limited = {"clientToken": []} in operation.get("security", ())
            for status, response in operation["responses"].items():
                common = {
                    name: {"$ref": f"#/components/headers/{name}"} for name in _header_names(status, limited=limited)
                }
                response["headers"] = common | response.get("headers", {})


def _header_names(status: str, *, limited: bool) -> Iterator[str]:
    yield "X-Request-ID"
    if limited and status != "401":  # the client is unknown
        yield from ("RateLimit", "RateLimit-Policy")
    yield from sorted({name for each in PROBLEM_TYPES.values() if str(each.status) == status for name in each.headers})
