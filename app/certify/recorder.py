"""Keeps every exchange, and writes it without secrets to the file of `--record`."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import httpx
import orjson

from app.certify.evidence import Exchange
from app.dashscope.transport import MAX_RESPONSE_BYTES
from app.logs import REDACTED, redact

# Members of responses that are secrets, or that identify the Alibaba account.
_SECRET_MEMBERS = {
    "api_key_id",
    "caller_parent_id",
    "caller_uid",
    "oss_access_key_id",
    "policy",
    "signature",
    "token",
    "upload_dir",
}
_HEADERS = ("content-type", "content-encoding", "content-length", "date", "retry-after", "server", "x-request-id")
# The first part of an upload's path is derived from the account.
_UPLOAD_FOLDER = re.compile(r"(dashscope-instant/)[^/\s\"]+")
_KEPT_QUERY = {"Expires", "certify", "page_no", "page_size", "status", "model_name", "start_time", "end_time", "action"}


class ResponseTooLarge(httpx.TransportError):
    """The response exceeds the limit of the client."""


class RecordingTransport(httpx.AsyncBaseTransport):
    """Passes requests on, and gives each exchange to `keep`. Bodies are read as a whole."""

    def __init__(self, inner: httpx.AsyncBaseTransport, keep: Callable[[Exchange], None]) -> None:
        self._inner = inner
        self._keep = keep

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        sent = await request.aread()
        response = await self._inner.handle_async_request(request)
        try:
            raw = await _read(response)
        finally:
            await response.aclose()
        copy = httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(raw))
        try:
            body = await copy.aread()
        except httpx.DecodingError:
            body = raw
        headers = {name.lower(): value for name, value in response.headers.items()}
        exchange = Exchange(time.time(), request.method, str(request.url), sent, response.status_code, headers, body)
        self._keep(exchange)
        return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(raw))

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _read(response: httpx.Response) -> bytes:
    raw = b""
    async for chunk in response.aiter_raw():
        raw += chunk
        if len(raw) > MAX_RESPONSE_BYTES:
            raise ResponseTooLarge("the response is too large")
    return raw


def open_record(path: Path) -> TextIO:
    """A new or emptied file that only its owner may read. Raises OSError."""
    file = path.open("w", encoding="utf-8")
    path.chmod(0o600)
    return file


def write_record(file: TextIO, exchange: Exchange) -> None:
    """Add one line of JSON: the exchange without secrets."""
    line = {
        "at": round(exchange.at, 3),
        "method": exchange.method,
        "url": _clean_text(exchange.url),
        "request": _clean_body(exchange.request_body),
        "status": exchange.status,
        "headers": {name: exchange.headers[name] for name in _HEADERS if name in exchange.headers},
        "response": _clean_body(exchange.body),
    }
    file.write(orjson.dumps(line).decode() + "\n")
    file.flush()


def _clean_body(body: bytes) -> Any:
    if not body:
        return None
    try:
        return _clean(orjson.loads(body))
    except orjson.JSONDecodeError:
        pass
    if b"form-data" in body[:200]:
        return "a form with the fields of the policy and a file"
    return redact(body[:4000].decode("utf-8", "replace"))


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: REDACTED if name in _SECRET_MEMBERS else _clean(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_clean(member) for member in value]
    return _clean_text(value) if isinstance(value, str) else value


def _clean_text(text: str) -> str:
    """The text without secrets. Of a URL's query, the names stay, and values that are no secret."""
    head, mark, query = text.partition("?")
    if mark and "://" in head:
        parts = (part.partition("=") for part in query.split("&"))
        shown = "&".join(f"{name}={value if name in _KEPT_QUERY else REDACTED}" for name, _, value in parts)
        text = f"{redact(head)}?{shown}"
    else:
        text = redact(text)
    return _UPLOAD_FOLDER.sub(rf"\g<1>{REDACTED}", text)
