"""Reads a form that is application/x-www-form-urlencoded, as HTTP libraries send forms without a file."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

from starlette.requests import Request

from app.api.problems import MalformedBody
from app.api.request_body import require_no_coding
from app.errors import BodyTooLarge
from app.uploads.form import MAX_FIELD_BYTES, MAX_FIELDS, Field

# A URL of 4,096 characters takes three times as many bytes if all of them are escaped.
_MAX_BYTES = 4 * MAX_FIELD_BYTES


def is_urlencoded(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0]
    return media_type.strip().lower() == "application/x-www-form-urlencoded"


async def read_urlencoded(request: Request) -> AsyncIterator[Field]:
    """The fields in the order of the body. Raises UnsupportedMediaType, BodyTooLarge or MalformedBody."""
    require_no_coding(request)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise BodyTooLarge(f"A form without a file may have {_MAX_BYTES // 1024} KiB.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise MalformedBody(f"The body is not a valid urlencoded form: {error}.") from None
    for name, value in pairs:
        yield Field(name, value)
