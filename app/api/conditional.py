"""Conditional requests: strong ETags and 304 Not Modified (RFC 9110, sections 8.8.3 and 13.1.2)."""

import hashlib
import re
from collections.abc import Mapping

from fastapi import Request, Response

_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
# Answers belong to one client, and may change: caches may keep them, but have to ask.
_CACHE_CONTROL = "private, no-cache"


def strong_etag(*parts: str | bytes | int) -> str:
    """The same tag for the same parts only, in this and every other process. The parts must name the exact bytes."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(encoded).to_bytes(8) + encoded)
    return f'"{digest.hexdigest()[:32]}"'


def validator_headers(etag: str) -> dict[str, str]:
    """The headers that go with a 200 and with its 304."""
    return {"ETag": etag, "Cache-Control": _CACHE_CONTROL}


def not_modified(request: Request, etag: str, more: Mapping[str, str] | None = None) -> Response | None:
    """A 304 when the caller already has what `etag` names; None: send it. `more`: headers that it has besides."""
    if any(matches(value, etag) for value in request.headers.getlist("if-none-match")):
        return Response(status_code=304, headers={**validator_headers(etag), **(more or {})})
    return None


def is_wildcard(request: Request) -> bool:
    """`If-None-Match: *`, which is no proof that the request was ever answered."""
    return any(value.strip() == "*" for value in request.headers.getlist("if-none-match"))


def matches(if_none_match: str, etag: str) -> bool:
    """Weak comparison: `W/"a"` matches `"a"`."""
    return if_none_match.strip() == "*" or etag in _ENTITY_TAG.findall(if_none_match)
