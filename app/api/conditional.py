"""Conditional requests: strong ETags and 304 Not Modified (RFC 9110, sections 8.8.3 and 13.1.2)."""

import gzip
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from fastapi import Request, Response

from app.api.headers import all_headers
from app.api.negotiation import accepts_gzip

# Shorter bodies hardly shrink, and fit into one packet either way.
GZIP_FROM_BYTES = 1024
# A page of a hundred kilobytes takes a millisecond at this level.
_GZIP_LEVEL = 1

_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
# Responses belong to one client and may change: caches may store them, but must revalidate.
_CACHE_CONTROL = "private, no-cache"
_ETAG = {"ETag": {"description": "Strong; differs between codings.", "schema": {"type": "string"}}}
ETAG_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"headers": _ETAG},
    304: {"description": "Not modified.", "headers": _ETAG},
}


def strong_etag(*parts: str | bytes | int) -> str:
    """An ETag that is the same in every process for the same parts. The parts must determine the exact bytes."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(encoded).to_bytes(8) + encoded)
    return f'"{digest.hexdigest()[:32]}"'


def validator_headers(etag: str) -> dict[str, str]:
    """The headers of a 200 and of its 304."""
    return {"ETag": etag, "Cache-Control": _CACHE_CONTROL}


def not_modified(request: Request, etag: str, more: Mapping[str, str] | None = None) -> Response | None:
    """A 304 with the headers `more` for a GET or HEAD that has the ETag in If-None-Match, else None.

    Other methods ignore the header. A POST to OpenAI's route, for example, sends a transcript of a new job.
    """
    if request.method not in {"GET", "HEAD"}:
        return None
    conditions = all_headers(request.scope, b"if-none-match")
    if conditions and any(matches(value, etag) for value in conditions):
        return Response(status_code=304, headers={**validator_headers(etag), **(more or {})})
    return None


def json_response(request: Request, body: Any) -> Response:
    """A JSON response built for this request, with a strong ETag of its bytes, 304 and gzip."""
    contents = msgspec.json.encode(body)
    compress = len(contents) >= GZIP_FROM_BYTES and accepts_gzip(request)
    etag = strong_etag(contents, "gzip" if compress else "identity")
    vary = {"Vary": "Accept-Encoding"}
    if response := not_modified(request, etag, vary):
        return response
    coding = {"Content-Encoding": "gzip"} if compress else {}
    if compress:
        contents = gzip.compress(contents, _GZIP_LEVEL, mtime=0)
    return Response(contents, headers={**validator_headers(etag), **vary, **coding}, media_type="application/json")


class ConstantJson:
    """Responds with JSON that is built at the first request and then stays the same, with ETag, 304 and gzip."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build
        self._bodies: dict[str, bytes] = {}

    async def respond(self, request: Request) -> Response:
        if not self._bodies:
            contents = msgspec.json.encode(self._build())
            self._bodies = {"identity": contents, "gzip": gzip.compress(contents, mtime=0)}
        coding = "gzip" if accepts_gzip(request) else "identity"
        etag = strong_etag(self._bodies[coding])
        headers = {"Vary": "Accept-Encoding"} | ({"Content-Encoding": coding} if coding == "gzip" else {})
        return not_modified(request, etag, {"Vary": "Accept-Encoding"}) or Response(
            self._bodies[coding], headers=validator_headers(etag) | headers, media_type="application/json"
        )


def is_wildcard(request: Request) -> bool:
    """True for `If-None-Match: *`, which does not show that the caller has a representation."""
    return any(value.strip() == "*" for value in request.headers.getlist("if-none-match"))


def matches(if_none_match: str, etag: str) -> bool:
    """Weak comparison: `W/"a"` matches `"a"`."""
    return if_none_match.strip() == "*" or etag in _ENTITY_TAG.findall(if_none_match)
