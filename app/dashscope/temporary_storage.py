"""DashScope's temporary storage: a file is sent to a storage host, with a policy that the API issued for it.

Source: protocol, section 7. The file belongs to the account and to the model of the policy, for 48 hours. It cannot be
read, changed or deleted. The API key is never sent to the storage host.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx

from app.dashscope.file_urls import TEMPORARY_SCHEME
from app.dashscope.result_files import is_dashscope_host
from app.dashscope.wire import MalformedResponse, parse_object

LIFETIME = timedelta(hours=48)
POLICY_LIFETIME = timedelta(minutes=5)
# Bounds a call that makes no progress. A policy is valid for five minutes, and only until the request begins.
STALL_TIMEOUT_S = 60
RESPONSE_BYTES = 64 * 1024
DEFAULT_MAX_BYTES = 1024**3

# Field of the form: field of the policy.
_FIELDS = {
    "OSSAccessKeyId": "oss_access_key_id",
    "Signature": "signature",
    "policy": "policy",
    "x-oss-object-acl": "x_oss_object_acl",
    "x-oss-forbid-overwrite": "x_oss_forbid_overwrite",
}
_OPTIONAL = {"x_oss_object_acl", "x_oss_forbid_overwrite"}


class StorageFailed(Exception):
    """The storage host did not accept the file. The message has no secret, and one line."""


@dataclass(frozen=True, slots=True)
class UploadPolicy:
    """A permission to send files to `upload_host`, as keys below `upload_dir`."""

    upload_host: str
    upload_dir: str
    max_bytes: int
    fields: Mapping[str, str]  # of the form, with the signature
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)  # as DashScope sent it

    def key(self, name: str) -> str:
        return f"{self.upload_dir}/{name}"


def parse_policy(body: bytes, *, base_url: str) -> UploadPolicy:
    """Sizes come as numbers or as strings; the default limit is DashScope's of 1 GiB.

    `base_url` is the region's. Raises MalformedResponse, also if the storage is on a host that is not DashScope's.
    """
    data = parse_object(body).get("data")
    if not isinstance(data, dict):
        raise MalformedResponse("the response has no data")
    texts = {name: data.get(name) for name in ("upload_host", "upload_dir", *_FIELDS.values())}
    values = {name: value for name, value in texts.items() if isinstance(value, str) and value.isprintable() and value}
    missing = sorted(set(texts) - set(values) - _OPTIONAL)
    if missing:
        raise MalformedResponse(f"the upload policy has no {missing[0]}")
    host = values["upload_host"]
    if not is_dashscope_host(host, base_url):
        raise MalformedResponse("the upload_host of the policy is not DashScope's")
    return UploadPolicy(
        upload_host=host,
        upload_dir=values["upload_dir"].strip("/"),
        max_bytes=_megabytes(data.get("max_file_size_mb")) or DEFAULT_MAX_BYTES,
        fields={form: values[name] for form, name in _FIELDS.items() if name in values},
        data=data,
    )


def _megabytes(value: object) -> int | None:
    try:
        return int(float(str(value)) * 1024 * 1024)
    except (ValueError, OverflowError):
        return None


async def send_file(
    http: httpx.AsyncClient, policy: UploadPolicy, name: str, chunks: AsyncIterator[bytes], size: int
) -> str:
    """Send the file, and return its `oss://` URL. `name` is the last part of its key. Raises StorageFailed.

    The storage host needs the length of the body in advance: `chunks` must have exactly `size` bytes.
    """
    form = _Form({**policy.fields, "key": policy.key(name), "success_action_status": "200"})
    request = http.build_request(
        "POST",
        policy.upload_host,
        content=form.body(chunks),
        headers={"Content-Type": form.content_type, "Content-Length": str(form.length(size))},
        timeout=httpx.Timeout(STALL_TIMEOUT_S),
    )
    try:
        response = await http.send(request, stream=True)
        try:
            body = await _beginning(response)
        finally:
            await response.aclose()
    except (httpx.HTTPError, OSError, TimeoutError) as error:
        raise StorageFailed(f"{_host(policy)} did not respond ({type(error).__name__})") from error
    if response.status_code != 200:
        raise StorageFailed(f"{_host(policy)} responded HTTP {response.status_code}{_error_code(body)}")
    return f"{TEMPORARY_SCHEME}{policy.key(name)}"


class _Form:
    """A multipart/form-data body whose file is the last part, as the storage host requires."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._boundary = secrets.token_hex(16)
        parts = [
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        file_head = 'Content-Disposition: form-data; name="file"; filename="file"'
        type_head = "Content-Type: application/octet-stream"
        self._head = f"{''.join(parts)}--{self._boundary}\r\n{file_head}\r\n{type_head}\r\n\r\n".encode()
        self._tail = f"\r\n--{self._boundary}--\r\n".encode()

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self._boundary}"

    def length(self, size: int) -> int:
        return len(self._head) + size + len(self._tail)

    async def body(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield self._head
        async for chunk in chunks:
            yield chunk
        yield self._tail


async def _beginning(response: httpx.Response) -> bytes:
    body = b""
    async with asyncio.timeout(STALL_TIMEOUT_S):
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) >= RESPONSE_BYTES:
                break
    return body


def _host(policy: UploadPolicy) -> str:
    return urlsplit(policy.upload_host).hostname or "the storage host"


def _error_code(body: bytes) -> str:
    """The code of an error in the XML of OSS, such as `AccessDenied`."""
    _, found, rest = body.partition(b"<Code>")
    code = rest.partition(b"</Code>")[0][:64].decode("ascii", "replace")
    return f" {code}" if found and code.isalnum() else ""
