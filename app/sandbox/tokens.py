"""`POST …/tokens`: short-lived keys that work like the key that asked for them."""

import uuid

from starlette.responses import Response

from app.sandbox import errors
from app.sandbox.errors import Refused
from app.sandbox.middleware import Call
from app.sandbox.responses import JSONAnswer

_MAX_SPAN_S = 1800


async def create_token(call: Call) -> Response:
    text = call.request.query_params.get("expire_in_seconds", "60")
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_SPAN_S:
        raise Refused(errors.INVALID_PARAMETER.saying(f"expire_in_seconds must be from 1 to {_MAX_SPAN_S}"))
    token = f"st-{uuid.uuid4().hex}"
    expires_at = int(call.state.now()) + int(text)
    call.state.tokens[token] = call.caller, expires_at
    return JSONAnswer({"token": token, "expires_at": expires_at})
