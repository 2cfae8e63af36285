"""Route classes that check a request before FastAPI reads its body: query parameters, media types and empty bodies.

Unknown query parameters, repeated ones and control characters are refused, where FastAPI alone would ignore them.
"""

import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

from fastapi import Request, Response, params
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.types import Receive, Scope, Send

from app.api.headers import all_headers
from app.api.negotiation import accepts
from app.api.problems import MAX_FAULTS, NotAcceptable
from app.api.request_body import check_json, require_json, require_no_body
from app.errors import Fault, InvalidRequest, json_pointer
from app.urls import find_control_character

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueryParameters:
    """Query parameters of a route. `repeatable` has one entry per name; `prefixes` are those of free names."""

    repeatable: Mapping[str, bool]
    prefixes: tuple[str, ...]

    def __contains__(self, name: str) -> bool:
        return name in self.repeatable or any(name.startswith(prefix) and name != prefix for prefix in self.prefixes)

    def __str__(self) -> str:
        return ", ".join(sorted([*self.repeatable, *(f"{prefix}KEY" for prefix in self.prefixes)]))


class StrictRoute(APIRoute):
    """Checks the query and the headers, then lets FastAPI read the body and call the endpoint."""

    # The endpoint reads the body itself, as a stream.
    streams_body = False

    async def authorize(self, request: Request) -> None:
        """Runs before the body is read.

        Raises InvalidRequest with all faults of the query, UnsupportedMediaType, or NotAcceptable. Subclasses
        authenticate the caller first.
        """
        if request.scope["query_string"]:
            self._check_query(request)
        if self.takes_json:
            require_json(request)
        if self._responds_with_json and not accepts(all_headers(request.scope, b"accept"), "application/json"):
            raise NotAcceptable("This call answers with JSON; accept `application/json`, or send no Accept at all.")
        if self.body_field is None and not self.streams_body and request.method in {"POST", "DELETE"}:
            await require_no_body(request)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def authorize_first(request: Request) -> Response:
            await self.authorize(request)
            if self.takes_json:
                check_json(await request.body())
            return await handle(request)

        return authorize_first

    @cached_property
    def takes_json(self) -> bool:
        return self.body_field is not None and not isinstance(self.body_field.field_info, params.Form)

    @cached_property
    def query_parameters(self) -> QueryParameters:
        """Read from the route's OpenAPI description, so that the document and the check cannot differ."""
        operations = get_openapi(title="-", version="-", routes=[self])["paths"].get(self.path_format, {}).values()
        parameters = [each for operation in operations for each in operation.get("parameters", ())]
        schemas = {each["name"]: each["schema"] for each in parameters if each["in"] == "query"}
        return QueryParameters(
            {name: _is_array(schema) for name, schema in schemas.items() if "propertyNames" not in schema},
            tuple(f"{name}." for name, schema in schemas.items() if "propertyNames" in schema),
        )

    @cached_property
    def _responds_with_json(self) -> bool:
        documented = self.responses.get(200, {}).get("content", {})
        return self.response_model is not None or "application/json" in documented

    def _check_query(self, request: Request) -> None:
        faults = list(islice(_query_faults(request, self.query_parameters), MAX_FAULTS))
        if faults:
            raise InvalidRequest(f"{faults[0].pointer} {faults[0].detail}.", faults=faults)


class RequestRoute(StrictRoute):
    """A route whose endpoint takes the Request alone and calls `validate_request`.

    FastAPI's dependency solver takes about a third of the time of a small request, so the few endpoints that get most
    requests do without it. The `dependencies` of such a route describe its parameters and its body in the OpenAPI
    document and are never called.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Without FastAPI's own application of the route.

        That one opens two exit stacks for dependencies that these routes do not have, and handles errors that the
        application's ExceptionMiddleware handles too.
        """
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)  # 405
            return
        request = Request(scope, receive, send)
        await self.authorize(request)
        response: Response = await self.endpoint(request)
        await response(scope, receive, send)


def validate_request(model: TypeAdapter[T], **parts: Any) -> T:
    """The request as `model`: a dataclass with a field for each part and for each path parameter.

    Parts are `query`, `header` and `body`. Raises RequestValidationError with the faults of all parts, in the same
    form as FastAPI.
    """
    try:
        return model.validate_python(parts)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise RequestValidationError([{**fault, "loc": _location(fault["loc"])} for fault in faults]) from None


def query_values(request: Request, *, repeatable: str | None = None) -> dict[str, Any]:
    """The query as the `query` part for `validate_request`; the value of `repeatable` is a list."""
    if not request.scope["query_string"]:
        return {}
    query = request.query_params
    values: dict[str, Any] = dict(query)
    if repeatable in values:
        values[repeatable] = query.getlist(repeatable)
    return values


def query_prefix(prefix: str, description: str) -> dict[str, Any]:
    """`openapi_extra` of a route that takes query parameters with free names, such as `metadata.KEY=VALUE`."""
    parameter = {
        "name": prefix.rstrip("."),
        "in": "query",
        "required": False,
        "description": description,
        # Without an example /docs invents a pair and sends it along.
        "example": {},
        "style": "form",
        "explode": True,
        "schema": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "propertyNames": {"pattern": f"^{re.escape(prefix)}"},
        },
    }
    return {"parameters": [parameter]}


def prefixed_query(request: Request, prefix: str) -> dict[str, str]:
    """The query parameters with that prefix, without the prefix."""
    return {name[len(prefix) :]: value for name, value in request.query_params.items() if name.startswith(prefix)}


def _query_faults(request: Request, known: QueryParameters) -> Iterator[Fault]:
    pairs = request.query_params.multi_items()
    counts = dict.fromkeys((name for name, _ in pairs), 1)
    if len(counts) < len(pairs):  # a Counter takes as long as all checks of a query without repetitions
        counts = Counter(name for name, _ in pairs)
    for name, count in counts.items():
        if name not in known:
            listed = f"; there are {known}" if str(known) else ""
            yield Fault(json_pointer("/query", name), f"is not a parameter of this call{listed}")
        elif count > 1 and not known.repeatable.get(name):
            yield Fault(json_pointer("/query", name), "may be given once only")
    for name, value in pairs:
        if find_control_character(name + value):
            yield Fault(json_pointer("/query", name), "must not contain control characters")


def _is_array(schema: Mapping[str, Any]) -> bool:
    return any(each.get("type") == "array" for each in (schema, *schema.get("anyOf", ())))


def _location(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """FastAPI names the part of each location; the fields beside the parts are path parameters."""
    return loc if loc[0] in {"query", "header", "body"} else ("path", *loc)
