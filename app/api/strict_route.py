"""Requests say only what the route knows: other query parameters and other media types are refused, not ignored."""

import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any

from fastapi import Request, Response, params
from fastapi.dependencies.utils import get_flat_params, get_validation_alias
from fastapi.routing import APIRoute

from app.api.bodies import require_few_values, require_json, require_no_body, require_utf8
from app.api.negotiation import accepts
from app.api.plain_call import NotPlain, is_list, plain_call
from app.api.problems import MAX_FAULTS, MAX_STEP_LENGTH, NotAcceptable
from app.errors import Fault, InvalidRequest

QUERY_PREFIXES = "x-query-prefixes"  # for `strict_request` alone; no part of the document
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class StrictRoute(APIRoute):
    """Checks the request before its body is looked into, and calls the endpoint without FastAPI's help where it can."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.plain = plain_call(self)

    async def authorize(self, request: Request) -> None:
        """Raises what keeps the request from being looked at further."""
        _check(request, self, self._query_parameters)
        if self.body_field is None and request.method in {"POST", "DELETE"}:
            await require_no_body(request)

    async def answer(self, request: Request) -> Response:
        """Without FastAPI. Raises NotPlain when it has to be asked, or what says that the request is refused."""
        if self.plain is None:
            raise NotPlain
        await self.authorize(request)
        answer: Response = await self.endpoint(**await self.plain.arguments(request))
        return answer

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def check_first(request: Request) -> Response:
            await self.authorize(request)
            if _takes_json(self):
                await require_utf8(request)
                require_few_values(await request.body())
            return await handle(request)

        return check_first

    @cached_property
    def _query_parameters(self) -> dict[str, bool]:
        return _query_parameters(self)


async def strict_request(request: Request) -> None:
    """A dependency that does the same for other routes."""
    route = request.scope["route"]
    if isinstance(route, APIRoute):
        _check(request, route, _query_parameters(route))


def _check(request: Request, route: APIRoute, known: Mapping[str, bool]) -> None:
    """Raises InvalidRequest with all faults of the query, UnsupportedMediaType, or NotAcceptable before anything is
    done for a caller who could not read the answer.
    """
    if request.scope["query_string"] and (faults := list(islice(_query_faults(request, route, known), MAX_FAULTS))):
        raise InvalidRequest(f"{faults[0].pointer} {faults[0].detail}.", faults=faults)
    if _takes_json(route):
        require_json(request)
    if _answers_json(route) and not accepts(request.headers.getlist("accept"), "application/json"):
        raise NotAcceptable("This call answers with JSON; accept `application/json`, or send no Accept at all.")


def query_prefix(prefix: str, description: str) -> dict[str, Any]:
    """`openapi_extra` of a route that takes query parameters with free names, such as `metadata.KEY=VALUE`."""
    name = prefix.rstrip(".")
    parameter = {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        # /docs would make up a pair, and send it along with whatever else is tried.
        "example": {},
        "style": "form",
        "explode": True,
        "schema": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "propertyNames": {"pattern": f"^{re.escape(prefix)}"},
        },
    }
    return {QUERY_PREFIXES: [prefix], "parameters": [parameter]}


def prefixed_query(request: Request, prefix: str) -> dict[str, str]:
    """The parameters with that prefix, without it."""
    return {name[len(prefix) :]: value for name, value in request.query_params.items() if name.startswith(prefix)}


def _query_faults(request: Request, route: APIRoute, known: Mapping[str, bool]) -> Iterator[Fault]:
    prefixes = tuple((route.openapi_extra or {}).get(QUERY_PREFIXES, ()))
    there_are = sorted([*known, *(f"{prefix}KEY" for prefix in prefixes)])
    listed = f"; there are {', '.join(there_are)}" if there_are else ""
    pairs = request.query_params.multi_items()
    for name, count in Counter(name for name, _ in pairs).items():
        if name not in known and not _has_prefix(name, prefixes):
            yield Fault(_pointer(name), f"is not a parameter of this call{listed}")
        elif count > 1 and not known.get(name):
            yield Fault(_pointer(name), "may be given once only")
    for name, value in pairs:
        if _CONTROL.search(name + value):
            yield Fault(_pointer(name), "must not contain control characters")


def _query_parameters(route: APIRoute) -> dict[str, bool]:
    """Name of each declared query parameter, and whether it may be repeated."""
    fields = [
        field
        for field in get_flat_params(route.dependant)
        if not isinstance(field.field_info, params.Path | params.Header | params.Cookie)
    ]
    return {get_validation_alias(field): is_list(field.field_info.annotation) for field in fields}


def _has_prefix(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name.startswith(prefix) and name != prefix for prefix in prefixes)


def _pointer(name: str) -> str:
    return "/query/" + _CONTROL.sub("?", name[:MAX_STEP_LENGTH]).replace("~", "~0").replace("/", "~1")


def _takes_json(route: APIRoute) -> bool:
    return route.body_field is not None and not isinstance(route.body_field.field_info, params.Form)


def _answers_json(route: APIRoute) -> bool:
    return route.response_model is not None or "application/json" in route.responses.get(200, {}).get("content", {})
