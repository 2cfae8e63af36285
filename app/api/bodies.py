"""What a request may have as its body: JSON in UTF-8 where the call takes one, nothing where it does not."""

import json
from email.message import Message
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.api.problems import InvalidJson, UnsupportedMediaType
from app.errors import Fault, InvalidRequest
from app.json_values import has_more_values

# A job has 10,000 URLs and twice 10,000 words to filter at most.
MAX_VALUES = 50_000
# Less has no room for many.
_COUNTED_FROM_BYTES = 64 * 1024
# No media type is as long, and the standard library takes seconds for one of 60 KB.
_MAX_CONTENT_TYPE = 256


def require_json(request: Request) -> None:
    """Raises UnsupportedMediaType for what the headers say is no JSON, before the body is read."""
    if not has_body(request):
        return  # its absence is the better complaint
    if request.headers.get("content-encoding", "identity").strip().lower() not in {"identity", ""}:
        raise UnsupportedMediaType("Send the JSON as it is, without a Content-Encoding.")
    content_type = request.headers.get("content-type", "")
    if content_type == "application/json":
        return
    fields = Message()
    fields["content-type"] = content_type[:_MAX_CONTENT_TYPE]
    kind, _, subtype = fields.get_content_type().partition("/")
    charset = fields.get_content_charset("utf-8")
    long = len(content_type) > _MAX_CONTENT_TYPE
    if "content-type" not in request.headers or long or kind != "application" or not _is_json(subtype):
        raise UnsupportedMediaType("Send JSON, with `Content-Type: application/json`.")
    if charset not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMediaType("Send JSON in UTF-8.")


async def read_json(request: Request) -> Any:
    """The decoded body; None for an empty one. Raises what FastAPI raises for a body that is not JSON."""
    body = await request.body()
    text = decode_utf8(body)
    require_few_values(body)
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError as error:
        fault = {"type": "json_invalid", "loc": ("body", error.pos), "msg": error.msg, "ctx": {"error": error.msg}}
        raise RequestValidationError([fault]) from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(400) from error


def decode_utf8(body: bytes) -> str:
    """Raises InvalidJson. Python's JSON reader would also accept UTF-16 and UTF-32."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise InvalidJson("The body is not JSON in UTF-8.") from None
    if "\0" in text:
        raise InvalidJson("The body is not JSON in UTF-8.")
    return text


def require_few_values(body: bytes) -> None:
    """Raises InvalidRequest for more values than any call takes: call it before the body is decoded."""
    if len(body) >= _COUNTED_FROM_BYTES and has_more_values(body, MAX_VALUES):
        detail = f"holds more than {MAX_VALUES:,} values, or numbers of that many digits; no call takes as many"
        raise InvalidRequest(f"The body {detail}.", faults=[Fault("", detail)])


async def require_no_body(request: Request) -> None:
    """Raises InvalidRequest for a body that the call would ignore. An empty object is nothing, too."""
    if has_body(request) and (await request.body()).strip() not in {b"", b"{}"}:
        detail = "is not empty, and this call takes no body"
        raise InvalidRequest(f"The body {detail}.", faults=[Fault("", detail)])


def has_body(request: Request) -> bool:
    length = request.headers.get("content-length")
    return "transfer-encoding" in request.headers if length is None else length != "0"


def _is_json(subtype: str) -> bool:
    return subtype == "json" or subtype.endswith("+json")
