"""Conditional requests: strong ETags and 304 Not Modified (RFC 9110, sections 8.8.3 and 13.1.2), with gzip."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
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
REVALIDATE = "private, no-cache"
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
    return {"ETag": etag, "Cache-Control": REVALIDATE}


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


@dataclass(frozen=True, slots=True)
class Variant:
    """A response in the coding that the request selects. Each coding has its own ETag, because the bytes differ."""

    request: Request
    etag: str
    gzip: bool
    cache_control: str

    @property
    def headers(self) -> dict[str, str]:
        coding = {"Content-Encoding": "gzip"} if self.gzip else {}
        return {"ETag": self.etag, "Cache-Control": self.cache_control, "Vary": "Accept-Encoding", **coding}

    def not_modified(self) -> Response | None:
        return not_modified(self.request, self.etag, {"Cache-Control": self.cache_control, "Vary": "Accept-Encoding"})


def select_variant(
    request: Request, *parts: str | bytes, compressible: bool = True, cache_control: str = REVALIDATE
) -> Variant:
    """`parts` as for `strong_etag`, without the coding. `compressible`: the response exists as gzip too."""
    gzipped = compressible and accepts_gzip(request)
    return Variant(request, strong_etag(*parts, "gzip" if gzipped else "identity"), gzipped, cache_control)


def json_response(request: Request, body: Any) -> Response:
    """A JSON response built for this request, with a strong ETag of its bytes, 304 and gzip."""
    contents = msgspec.json.encode(body)
    variant = select_variant(request, contents, compressible=len(contents) >= GZIP_FROM_BYTES)
    if unchanged := variant.not_modified():
        return unchanged
    if variant.gzip:
        contents = gzip.compress(contents, _GZIP_LEVEL, mtime=0)
    return Response(contents, headers=variant.headers, media_type="application/json")


class ConstantBody:
    """A body that stays the same while the process runs, plain and as gzip, with ETag and 304."""

    def __init__(self, contents: bytes, *, media_type: str, cache_control: str = REVALIDATE) -> None:
        self._plain, self._gzip = contents, gzip.compress(contents, mtime=0)
        self._sha256 = hashlib.sha256(contents).digest()
        self._media_type = media_type
        self._cache_control = cache_control

    def response(self, request: Request) -> Response:
        compressible = len(self._gzip) < len(self._plain)
        variant = select_variant(request, self._sha256, compressible=compressible, cache_control=self._cache_control)
        body = self._gzip if variant.gzip else self._plain
        return variant.not_modified() or Response(body, headers=variant.headers, media_type=self._media_type)


def is_wildcard(request: Request) -> bool:
    """True for `If-None-Match: *`, which does not show that the caller has a representation."""
    return any(value.strip() == "*" for value in request.headers.getlist("if-none-match"))


def matches(if_none_match: str, etag: str) -> bool:
    """Weak comparison: `W/"a"` matches `"a"`."""
    return if_none_match.strip() == "*" or etag in _ENTITY_TAG.findall(if_none_match)
