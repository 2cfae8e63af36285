"""Request bodies: JSON in UTF-8 of bounded size where a call takes one, none where it does not."""

import json
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from typing import Any, TypeVar

import anyio.to_thread
import msgspec
from annotated_types import MaxLen
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.api.headers import first_header
from app.api.problems import InvalidJson, UnsupportedMediaType
from app.errors import Fault, InvalidRequest
from app.json_values import has_more_values

# A job has at most 10,000 URLs and two lists of 10,000 words.
MAX_VALUES = 50_000
# Members of an object, and items of a list whose field sets no limit of its own.
MAX_ITEMS = 100
# Shorter bodies cannot hold enough values to matter.
_COUNTED_FROM_BYTES = 64 * 1024
# No media type is as long. The standard library takes seconds to parse one of 60 KB.
MAX_CONTENT_TYPE = 256
# Larger bodies are parsed in a thread. 256 KiB of URLs that need percent-encoding take 25 ms.
LARGE_BODY_BYTES = 256 * 1024
# One per event loop.
_large_bodies: RunVar[CapacityLimiter] = RunVar("large_bodies")

T = TypeVar("T")


class RequestBody(BaseModel):
    """Base class of all request bodies. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def reject_oversized(cls, body: Any) -> Any:
        """Runs before the fields are validated: one error per field takes ten seconds for a million fields.

        Raises InvalidRequest. A ValueError would make pydantic go on, and FastAPI would read megabytes again.
        """
        if isinstance(body, dict):
            _limit("", body, MAX_ITEMS)
            for name, value in body.items():
                if isinstance(value, (dict, list)) and len(value) > MAX_ITEMS and name in cls.model_fields:
                    metadata = cls.model_fields[name].metadata
                    max_items = next((each.max_length for each in metadata if isinstance(each, MaxLen)), MAX_ITEMS)
                    _limit(f"/{name}", value, max_items)
        return body


def require_json(request: Request) -> None:
    """Raises UnsupportedMediaType if the headers announce something other than JSON. Does not read the body."""
    if not has_body(request):
        return  # the fault to report is then the missing body
    require_no_coding(request)
    content_type = first_header(request.scope, b"content-type") or ""
    if content_type == "application/json":
        return
    fields = Message()
    fields["content-type"] = content_type[:MAX_CONTENT_TYPE]
    kind, _, subtype = fields.get_content_type().partition("/")
    is_json = kind == "application" and (subtype == "json" or subtype.endswith("+json"))
    if not content_type or len(content_type) > MAX_CONTENT_TYPE or not is_json:
        raise UnsupportedMediaType("Send JSON, with `Content-Type: application/json`.")
    if fields.get_content_charset("utf-8") not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMediaType("Send JSON in UTF-8.")


def require_no_coding(request: Request) -> None:
    """Raises UnsupportedMediaType if the body is compressed."""
    coding = first_header(request.scope, b"content-encoding")
    if coding is not None and coding.strip().lower() not in {"identity", ""}:
        raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding.")


async def read_body(request: Request) -> bytes:
    """The whole body. Raises ClientDisconnect.

    `Request.body` collects it through an asynchronous generator, which takes 10 µs of a request's 450.
    """
    chunks: list[bytes] = []
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


async def parse_body(body: bytes, parse: Callable[[bytes], T]) -> T:
    """`parse(body)`, in a thread if the body is larger than LARGE_BODY_BYTES.

    Large bodies are parsed one at a time, in the order of their arrival: eight of 16 MiB at once would take the memory
    of eight decoded bodies, and most of the interpreter's time from other requests.
    """
    if len(body) <= LARGE_BODY_BYTES:
        return parse(body)
    limiter = _large_bodies.get(None)
    if limiter is None:
        _large_bodies.set(limiter := CapacityLimiter(1))
    return await anyio.to_thread.run_sync(parse, body, limiter=limiter)


def decode_json(body: bytes) -> dict[str, Any]:
    """The decoded body as the part `body` for `validate_request`; no part for an empty body.

    Raises as `check_json`, and for invalid JSON RequestValidationError or HTTPException, as FastAPI does.
    """
    check_json(body)
    if not body:
        return {}
    # msgspec takes a third of the time. `json` tells where a fault is, and accepts values that only the fields refuse,
    # such as NaN.
    with suppress(msgspec.DecodeError, RecursionError):
        return {"body": msgspec.json.decode(body)}
    try:
        return {"body": json.loads(body)}
    except json.JSONDecodeError as error:
        fault = {"type": "json_invalid", "loc": ("body", error.pos), "msg": error.msg, "ctx": {"error": error.msg}}
        raise RequestValidationError([fault]) from error
    except (ValueError, RecursionError) as error:
        raise HTTPException(400) from error


def check_json(body: bytes) -> None:
    """Checks a body before its JSON is decoded.

    Raises InvalidJson if it is not UTF-8, because Python's JSON reader would also accept UTF-16 and UTF-32, and
    InvalidRequest if it has more values than any call takes.
    """
    try:
        body.decode()
    except UnicodeDecodeError:
        raise InvalidJson("The body is not JSON in UTF-8.") from None
    if b"\0" in body:
        raise InvalidJson("The body is not JSON in UTF-8.")
    if len(body) >= _COUNTED_FROM_BYTES and has_more_values(body, MAX_VALUES):
        detail = f"has more than {MAX_VALUES:,} values, or numbers of that many digits; no call takes so many"
        raise InvalidRequest(f"The body {detail}.", faults=[Fault("", detail)])


async def require_no_body(request: Request) -> None:
    """Raises InvalidRequest for a body that the call would ignore. An empty object counts as no body."""
    if has_body(request) and (await request.body()).strip() not in {b"", b"{}"}:
        detail = "is not empty, and this call takes no body"
        raise InvalidRequest(f"The body {detail}.", faults=[Fault("", detail)])


def has_body(request: Request) -> bool:
    """True if the headers announce a body."""
    length = first_header(request.scope, b"content-length")
    if length is None:
        return first_header(request.scope, b"transfer-encoding") is not None
    return length != "0"


def _limit(pointer: str, value: dict[str, Any] | list[Any], max_items: int) -> None:
    if len(value) > max_items:
        members = "fields" if isinstance(value, dict) else "items"
        detail = f"has {len(value):,} {members}; at most {max_items:,} are possible"
        raise InvalidRequest(f"{pointer or 'The body'} {detail}.", faults=[Fault(pointer, detail)])
