"""`POST …/tokens` creates short-lived keys with the rights of the key that creates them."""

import uuid

from starlette.responses import Response

from app.sandbox import errors
from app.sandbox.errors import Refused
from app.sandbox.middleware import Call
from app.sandbox.responses import JSONResponse

_MAX_LIFETIME_S = 1800


async def create_token(call: Call) -> Response:
    text = call.request.query_params.get("expire_in_seconds", "60")
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_LIFETIME_S:
        raise Refused(errors.INVALID_PARAMETER.with_message(f"expire_in_seconds must be from 1 to {_MAX_LIFETIME_S}"))
    token = f"st-{uuid.uuid4().hex}"
    expires_at = int(call.state.now()) + int(text)
    call.state.tokens[token] = call.caller, expires_at
    return JSONResponse({"token": token, "expires_at": expires_at})
