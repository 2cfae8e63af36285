"""Calls endpoints with plain arguments straight away, without FastAPI's solver of dependencies.

FastAPI works out for each request what each argument is and where it comes from: 0.1 ms, a third of what it takes to
answer one. Here that is worked out once for a route. What is valid is still decided by FastAPI's own fields, and
whatever is not plainly right goes FastAPI's way as if nothing had happened: it knows how to say what is wrong.
"""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import msgspec
from fastapi import Request, Response, params
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_validation_alias
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.api.bodies import require_few_values

# Defaults that can be handed to every request as they are.
_CONSTANTS = (type(None), bool, int, float, str)


class NotPlain(Exception):
    """Only FastAPI can call this, or say what is wrong with the request."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    alias: str
    field: Any  # FastAPI's ModelField, which has no public place
    repeatable: bool
    required: bool
    default: Any

    def value(self, given: Any) -> Any:
        if given is None or given == []:
            if self.required:
                raise NotPlain
            return self.default
        value, errors = self.field.validate(given)
        if errors:
            raise NotPlain
        return value


class PlainCall:
    """One endpoint, or one of its dependencies. Raises NotPlain when it needs what only FastAPI has."""

    def __init__(self, dependant: Dependant) -> None:
        if not inspect.iscoroutinefunction(dependant.call) or any(_beyond(dependant)):
            raise NotPlain
        self._call = dependant.call
        self._request_name = dependant.request_param_name
        self._path = [_parameter(field) for field in dependant.path_params]
        self._query = [_parameter(field) for field in dependant.query_params]
        self._headers = [_parameter(field) for field in dependant.header_params]
        self._body = [_parameter(field) for field in dependant.body_params]
        self._dependencies = [(each.name, PlainCall(each)) for each in dependant.dependencies]

    async def __call__(self, request: Request) -> Any:
        return await self._call(**await self.arguments(request))

    async def arguments(self, request: Request) -> dict[str, Any]:
        """What the endpoint is called with. Raises NotPlain, or what a dependency raises."""
        values: dict[str, Any] = {self._request_name: request} if self._request_name else {}
        for parameter in self._path:
            values[parameter.name] = parameter.value(request.path_params[parameter.alias])
        for parameter in self._headers:
            values[parameter.name] = parameter.value(request.headers.get(parameter.alias))
        values.update(_from_query(request, self._query))
        for parameter in self._body:
            values[parameter.name] = parameter.value(await _json(request))
        for name, dependency in self._dependencies:
            value = await dependency(request)
            if name is not None:
                values[name] = value
        return values


def plain_call(route: APIRoute) -> PlainCall | None:
    """None: FastAPI has to call this one."""
    returned = inspect.signature(route.endpoint).return_annotation
    if not (isinstance(returned, type) and issubclass(returned, Response)):
        return None
    try:
        return PlainCall(route.dependant)
    except NotPlain:
        return None


def is_list(annotation: Any) -> bool:
    """Whether a parameter of that type may be repeated."""
    if get_origin(annotation) in {list, set, frozenset, tuple}:
        return True
    return any(is_list(argument) for argument in get_args(annotation))


def _beyond(dependant: Dependant) -> Iterable[object]:
    """What is more than parameters with constants as defaults, a body of JSON, and the request itself."""
    yield from dependant.cookie_params
    yield dependant.websocket_param_name
    yield dependant.http_connection_param_name
    yield dependant.response_param_name
    yield dependant.background_tasks_param_name
    yield dependant.security_scopes_param_name
    yield len(dependant.body_params) > 1
    for field in dependant.body_params:
        yield isinstance(field.field_info, params.Form) or getattr(field.field_info, "embed", None)
    for field in (*dependant.path_params, *dependant.query_params, *dependant.header_params):
        annotation = field.field_info.annotation
        yield isinstance(annotation, type) and issubclass(annotation, BaseModel)
        yield isinstance(field.field_info, params.Header) and is_list(annotation)
    for field in (*dependant.query_params, *dependant.header_params, *dependant.body_params):
        yield field.field_info.validate_default
        yield not field.field_info.is_required() and not isinstance(field.get_default(), _CONSTANTS)


def _parameter(field: Any) -> _Parameter:
    required = field.field_info.is_required()
    return _Parameter(
        name=field.name,
        alias=get_validation_alias(field),
        field=field,
        repeatable=is_list(field.field_info.annotation),
        required=required,
        default=None if required else field.get_default(),
    )


def _from_query(request: Request, parameters: Sequence[_Parameter]) -> Iterable[tuple[str, Any]]:
    given = request.query_params if parameters and request.scope["query_string"] else None
    for parameter in parameters:
        if given is None:
            yield parameter.name, parameter.value(None)
        elif parameter.repeatable:
            yield parameter.name, parameter.value(given.getlist(parameter.alias))
        else:
            yield parameter.name, parameter.value(given.get(parameter.alias))


async def _json(request: Request) -> Any:
    """The request keeps the bytes, so that FastAPI can read them again. What is not UTF-8 is no JSON here."""
    body = await request.body()
    require_few_values(body)
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotPlain from None
