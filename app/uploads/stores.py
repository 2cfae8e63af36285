"""The gateway's own store of uploads: an S3-compatible store, or a folder. It takes the place of temporary storage.

Other processes of the gateway use the same store: the API writes files and serves those of a folder, and the poller
makes the URLs that DashScope fetches.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from app.dashscope.temporary_storage import StorageFailed

# DashScope fetches a file after its task has waited upstream, which takes hours on a busy day.
URL_LIFETIME = timedelta(hours=24)
PART_BYTES = 8 * 1024 * 1024
# Parts in flight: bounds the memory of an upload.
PARTS_AT_ONCE = 2
_KEY_FILE = ".url-signing-key"


class ObjectStore(Protocol):
    """Keeps files by key. All methods raise StorageFailed."""

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None: ...

    async def delete(self, key: str) -> None:
        """Deleting a file that does not exist has no effect."""

    async def discard(self, key: str) -> None:
        """Delete the file, and what a process that was killed has sent of it."""

    async def url(self, key: str) -> str:
        """A URL without further credentials, valid for URL_LIFETIME."""


class S3ObjectStore:
    """An S3-compatible store, such as Alibaba OSS. `AWS_*` variables have its credentials, region and endpoint."""

    def __init__(self, store_url: str) -> None:
        self._store = S3Store.from_url(store_url)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        await _put(self._store, key, chunks)

    async def delete(self, key: str) -> None:
        await _delete(self._store, key)

    async def discard(self, key: str) -> None:
        """Parts of a multipart upload stay: a lifecycle rule of the bucket deletes them."""
        await _delete(self._store, key)

    async def url(self, key: str) -> str:
        try:
            return await obstore.sign_async(self._store, "GET", key, URL_LIFETIME)
        except BaseError as error:
            raise _failed(error) from error


class FolderStore:
    """A folder that all processes of the gateway share. The API serves its files at signed URLs below PUBLIC_URL."""

    def __init__(self, folder: Path, public_url: str) -> None:
        self.folder = folder
        self._public_url = public_url.rstrip("/")
        self._store = LocalStore(folder, mkdir=True)
        self._signing_key = _signing_key(folder)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        await _put(self._store, key, chunks)

    async def delete(self, key: str) -> None:
        await _delete(self._store, key)

    async def discard(self, key: str) -> None:
        await _delete(self._store, key)
        try:
            await asyncio.to_thread(self._discard_parts, key)
        except OSError as error:
            raise StorageFailed(f"the upload store failed ({type(error).__name__})") from error

    def _discard_parts(self, key: str) -> None:
        """A file has the name `key#1` until it is whole, or the next number that is free."""
        number = 1
        while (part := self.folder / f"{key}#{number}").exists():
            part.unlink(missing_ok=True)
            number += 1

    async def url(self, key: str) -> str:
        expires = int(time.time() + URL_LIFETIME.total_seconds())
        query = f"expires={expires}&signature={self._signature(key, expires)}"
        return f"{self._public_url}/v1/uploads/content/{key}?{query}"

    def is_signed(self, key: str, expires: int, signature: str) -> bool:
        """Whether a request for the content has a valid signature that has not expired."""
        expected = self._signature(key, expires)
        return hmac.compare_digest(expected.encode(), signature.encode()) and time.time() < expires

    def _signature(self, key: str, expires: int) -> str:
        digest = hmac.digest(self._signing_key, f"{key}\n{expires}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def open_store(upload_store: str | None, public_url: str | None) -> ObjectStore | None:
    """The store of UPLOAD_STORE, or None without one. Raises OSError or StorageFailed if it cannot be opened."""
    if upload_store is None:
        return None
    parts = urlsplit(upload_store)
    if parts.scheme == "file":
        return FolderStore(Path(unquote(parts.path)), public_url or "")
    try:
        return S3ObjectStore(upload_store)
    except BaseError as error:
        raise _failed(error) from error


async def _put(store: S3Store | LocalStore, key: str, chunks: AsyncIterator[bytes]) -> None:
    try:
        await obstore.put_async(store, key, chunks, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
    except BaseError as error:
        raise _failed(error) from error


async def _delete(store: S3Store | LocalStore, key: str) -> None:
    try:
        with suppress(FileNotFoundError, NotFoundError):
            await obstore.delete_async(store, key)
    except BaseError as error:
        raise _failed(error) from error


def _failed(error: BaseError) -> StorageFailed:
    """Only the class of the error: its message may have URLs with signatures."""
    return StorageFailed(f"the upload store failed ({type(error).__name__})")


def _signing_key(folder: Path) -> bytes:
    """The key that signs URLs of the folder, made at the first use. The folder is what all processes share."""
    path = folder / _KEY_FILE
    if not path.exists():
        draft = folder / f"{_KEY_FILE}.{secrets.token_hex(8)}"
        draft.touch(mode=0o600)
        draft.write_bytes(secrets.token_bytes(32))
        with suppress(FileExistsError):
            path.hardlink_to(draft)  # of several processes one wins, and no process reads an incomplete key
        draft.unlink()
    return path.read_bytes()
