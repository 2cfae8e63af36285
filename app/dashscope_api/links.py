"""`transcription_url`: a signed link to upstream's document, which needs no header, as links of an object store.

The key of a signature is derived from the hash of the client's token. Every process computes the same key, and the
links of a revoked token are not valid any more.
"""

import base64
import hmac
import time
from datetime import UTC, datetime, timedelta
from html import escape
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app.api.dependencies import sessions_of, settings_of
from app.api.problems import request_id
from app.dashscope_api.times import object_store_time
from app.db import transaction
from app.errors import NotFound
from app.transcripts.queries import find_owner
from app.transcripts.responses import serve_stored, stored_bodies_of

# DashScope's links work for as long after the end of the task.
LIFETIME = timedelta(hours=24)
_ACCESS_KEY_ID = "asr-gateway"

router = APIRouter(prefix="/api/v1/results")


def transcription_url(
    request: Request, transcript_id: UUID, *, token_sha256: bytes, finished_at: datetime, now: datetime
) -> str:
    """Works until 24 hours after the job's end. For a job that ended earlier, it works for 24 hours from now."""
    expires_at = finished_at + LIFETIME
    if expires_at <= now:
        expires_at = now + LIFETIME
    expires = int(expires_at.timestamp())
    query = {
        "Expires": expires,
        "OSSAccessKeyId": _ACCESS_KEY_ID,
        "Signature": _signature(token_sha256, transcript_id, expires),
    }
    return f"{_base_url(request)}/api/v1/results/{transcript_id}.json?{urlencode(query)}"


@router.get("/{name}.json", include_in_schema=False)
async def get_result(request: Request, name: str) -> Response:
    """Upstream's document byte for byte. Errors have the form of OSS.
    \f
    Two statements.
    """
    expires = request.query_params.get("Expires", "")
    try:
        transcript_id = UUID(name)
    except ValueError:
        return _no_such_key(request)
    async with transaction(sessions_of(request)) as session:
        owner = await find_owner(session, transcript_id)
    if owner is None or not _is_signed(request, owner[1], transcript_id, expires):
        message = "The request signature we calculated does not match the signature you provided."
        return _error(request, 403, "SignatureDoesNotMatch", message)
    if time.time() >= int(expires):
        expired_at = datetime.fromtimestamp(int(expires), UTC)
        more = {"Expires": object_store_time(expired_at), "ServerTime": object_store_time(datetime.now(UTC))}
        return _error(request, 403, "AccessDenied", "Request has expired.", more)
    try:
        return await serve_stored(request, stored_bodies_of(request), owner[0], transcript_id, "raw")
    except NotFound:
        return _no_such_key(request)


def _base_url(request: Request) -> str:
    """PUBLIC_URL, else the address under which the client reached the gateway."""
    return settings_of(request).public_url or str(request.base_url).rstrip("/")


def _is_signed(request: Request, token_sha256: bytes, transcript_id: UUID, expires: str) -> bool:
    if not (expires.isascii() and expires.isdecimal() and len(expires) <= 11):
        return False
    signature = request.query_params.get("Signature", "").encode("utf-8", "replace")
    return hmac.compare_digest(_signature(token_sha256, transcript_id, int(expires)).encode(), signature)


def _signature(token_sha256: bytes, transcript_id: UUID, expires: int) -> str:
    key = hmac.digest(token_sha256, b"transcription_url", "sha256")
    digest = hmac.digest(key, f"{transcript_id}\n{expires}".encode(), "sha256")
    # Only characters that need no escape: some HTTP clients escape a URL a second time, or not at all.
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _no_such_key(request: Request) -> Response:
    return _error(request, 404, "NoSuchKey", "The specified key does not exist.")


def _error(request: Request, status: int, code: str, message: str, more: dict[str, str] | None = None) -> Response:
    fields = {
        "Code": code,
        "Message": message,
        "RequestId": request_id(request.scope),
        "HostId": request.url.hostname or "",
        **(more or {}),
    }
    lines = "".join(f"  <{name}>{escape(value)}</{name}>\n" for name, value in fields.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n{lines}</Error>\n'
    return Response(body, status, media_type="application/xml")
