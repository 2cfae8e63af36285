"""The steps of every API call: injected faults, authentication, counters and rate limit."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response

from app.sandbox import errors
from app.sandbox.errors import Refusal, Refused
from app.sandbox.responses import html_page
from app.sandbox.state import CallKind, SandboxState
from app.sandbox.tasks import Caller


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated call."""

    state: SandboxState
    request: Request
    kind: CallKind
    caller: Caller

    def take_rate(self, rps: float, model_id: str = "") -> None:
        """Raises Refused with 429 if the account's window for this kind of call, and model, is full."""
        if not self.state.limits.take((self.kind, model_id), rps, self.state.now()):
            self.state.throttled[self.kind] += 1
            raise Refused(errors.THROTTLED)

    def refuse_key(self, model_id: str = "") -> None:
        """Raises Refused if the faults refuse this kind of call, key and model."""
        for refused in self.state.faults.refused:
            if refused.fits(self.kind.kind, self.caller.key, model_id):
                self.state.injected["refused"] += 1
                raise Refused(errors.KEY_REFUSALS[refused.code])


Endpoint = Callable[[Call], Awaitable[Response]]
StarletteEndpoint = Callable[[Request], Awaitable[Response]]


def api_call(state: SandboxState, region: str, kind: str, endpoint: Endpoint) -> StarletteEndpoint:
    async def handle(request: Request) -> Response:
        state.received[kind] += 1
        try:
            if (response := await _inject_faults(state)) is not None:
                return response
            caller = _authenticate(state, region, request.headers.get("authorization", ""))
            call = Call(state, request, CallKind(kind, region, caller.account), caller)
            call.refuse_key()
            state.counts[call.kind] += 1
            return await endpoint(call)
        except Refused as refused:
            return _refusal_response(state, refused.refusal)

    return handle


def _refusal_response(state: SandboxState, refusal: Refusal) -> Response:
    if refusal == errors.THROTTLED and state.quirk("throttling_renamed"):
        refusal = replace(refusal, code="Busy")
    if refusal == errors.INVALID_API_KEY and state.quirk("invalid_key_400"):
        refusal = replace(refusal, status=400, code="InvalidParameter")
    response = refusal.response(nested=state.quirk("nested_errors"))
    if refusal.status == 429 and state.quirk("retry_after"):
        response.headers["Retry-After"] = "1"
    return response


def limited(endpoint: Endpoint, rps: float = math.inf) -> Endpoint:
    """Limit the rate of calls. For kinds of calls whose rate does not depend on the body."""

    async def handle(call: Call) -> Response:
        call.take_rate(rps)
        return await endpoint(call)

    return handle


async def _inject_faults(state: SandboxState) -> Response | None:
    faults = state.faults
    if faults.slow_s:
        await asyncio.sleep(faults.slow_s)
    if faults.down:
        state.injected["down"] += 1
        raise Refused(errors.SERVICE_UNAVAILABLE)
    if state.chance("throttle", faults.throttle_rate):
        raise Refused(errors.THROTTLED)
    if state.chance("html", faults.html_rate):
        return html_page(state.random.choice((200, 502)))
    return None


def _authenticate(state: SandboxState, region: str, authorization: str) -> Caller:
    scheme, _, key = authorization.partition(" ")
    keys = state.config.keys.get(region, {})
    if scheme.lower() == "bearer" and key in state.tokens:
        caller, expires_at = state.tokens[key]
        if caller.region == region and state.now() < expires_at:
            return caller
    if scheme.lower() != "bearer" or key not in keys:
        raise Refused(errors.INVALID_API_KEY)
    return Caller(region, keys[key], key, key_id=1 + list(keys).index(key))
