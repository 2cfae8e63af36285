"""Builds the OpenAPI document for generated clients: stable operationIds, and every error as a Problem."""

import json
import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from app.api.openapi.examples import add_page_examples, restore_examples
from app.api.openapi.headers import add_headers
from app.api.openapi.schemas import prepare_schemas
from app.api.problems import InvalidJson, NotAcceptable, Problem, UnsupportedMediaType, responses
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
        add_headers(document)
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
