"""Answers routes with plain arguments before FastAPI's own layers see the request: those take as long as the answer.

Whatever is not plainly right goes on to FastAPI as if nothing had happened: it knows how to say what is wrong.
"""

from collections.abc import Iterator, Sequence

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.exception_handlers import problem_for
from app.api.plain_call import NotPlain
from app.api.plain_request import IndexedRequest
from app.api.strict_route import StrictRoute
from app.errors import GatewayError


class PlainLane:
    """Middleware, made with the application's routes when these are complete."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self.app = app
        self._by_path: dict[tuple[str, str], StrictRoute] = {}
        self._by_pattern: dict[str, list[StrictRoute]] = {}
        for route in _leading(routes):
            for method in route.methods or ():
                self._add(method, route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._match(scope) if scope["type"] == "http" and not scope.get("root_path") else None
        if route is None:
            await self.app(scope, receive, send)
            return
        request = IndexedRequest(scope, receive, send)
        try:
            answer = await route.answer(request)
        except NotPlain:
            await self.app(scope, await _replayed(request), send)
            return
        except (GatewayError, HTTPException) as error:
            answer = await problem_for(request, error)
        await answer(scope, receive, send)

    def _add(self, method: str, route: StrictRoute) -> None:
        """The first route that matches wins, as in Starlette."""
        earlier = self._by_pattern.setdefault(method, [])
        if (
            route.plain
            and not route.param_convertors
            and not any(each.path_regex.match(route.path) for each in earlier)
        ):
            self._by_path.setdefault((method, route.path), route)
        else:
            earlier.append(route)

    def _match(self, scope: Scope) -> StrictRoute | None:
        """Notes in the scope what Starlette's router would. None: this one is FastAPI's."""
        method, path = scope["method"], scope["path"]
        route = self._by_path.get((method, path))
        if route is not None:
            scope["route"], scope["path_params"] = route, {}
            return route
        for route in self._by_pattern.get(method, ()):
            if found := route.path_regex.match(path):
                scope["route"], scope["path_params"] = route, found.groupdict()
                return route if route.plain else None
        return None


def _leading(routes: Sequence[BaseRoute]) -> Iterator[StrictRoute]:
    """Those before the first that is matched in another way."""
    for route in routes:
        if not isinstance(route, StrictRoute):
            return
        yield route


async def _replayed(request: IndexedRequest) -> Receive:
    """The body again from its beginning, for FastAPI, if it was read: whoever did not want it shall not wait for it."""
    if not request.has_body:
        return request.receive
    left = [await request.body()]

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop()} if left else await request.receive()

    return receive
