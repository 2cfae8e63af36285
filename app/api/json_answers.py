"""Answers that are made anew for each request: known by their bytes, 304 for who has them, gzip for who takes it."""

import gzip
from typing import Any

import msgspec
from fastapi import Request, Response

from app.api.conditional import not_modified, strong_etag, validator_headers
from app.api.negotiation import accepts_gzip

# Less would hardly be shorter, and goes into one packet in any case.
GZIP_FROM_BYTES = 1024

_LEVEL = 1
_ETAG = {"ETag": {"description": "Strong, and another one for each coding.", "schema": {"type": "string"}}}
ETAG_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"headers": _ETAG},
    304: {"description": "The caller has it.", "headers": _ETAG},
}


def json_response(request: Request, body: Any) -> Response:
    """A page, say: a hundred kilobytes are compressed in a millisecond."""
    contents = msgspec.json.encode(body)
    compressed = len(contents) >= GZIP_FROM_BYTES and accepts_gzip(request)
    etag = strong_etag(contents, "gzip" if compressed else "identity")
    vary = {"Vary": "Accept-Encoding"}
    if answer := not_modified(request, etag, vary):
        return answer
    coding = {"Content-Encoding": "gzip"} if compressed else {}
    sent = gzip.compress(contents, _LEVEL, mtime=0) if compressed else contents
    return Response(sent, headers={**validator_headers(etag), **vary, **coding}, media_type="application/json")
