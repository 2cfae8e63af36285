"""Signed result URLs. Their escapes make a client fail that normalises URLs before it fetches them."""

import base64
import hashlib
import hmac
import uuid
from dataclasses import dataclass
from urllib.parse import quote

from app.sandbox.tasks import File, Task
from app.sandbox.times import beijing

ACCESS_KEY_ID = "LTAISandbox"
_SECRET = b"the sandbox signs, it does not protect"


@dataclass(frozen=True, slots=True)
class StoredResult:
    """An object of the result origin, and the only query that gives access to it."""

    task: Task
    file: File
    query: str
    expires_at: int


def sign_results(task: Task, ttl_s: float) -> dict[int, tuple[str, StoredResult]]:
    """For each file with a result, its index → path and object."""
    expires_at = int(task.ends_at + ttl_s)
    signed = {}
    for index, file in enumerate(task.files):
        if file.failure is None and task.rejection is None:
            path, query = _sign(task, expires_at)
            signed[index] = path, StoredResult(task, file, query, expires_at)
    return signed


def signed_query(path: str, expires_at: int) -> str:
    signature = base64.b64encode(hmac.digest(_SECRET, f"{expires_at}\n{path}".encode(), hashlib.sha1))
    return f"Expires={expires_at}&OSSAccessKeyId={ACCESS_KEY_ID}&Signature={quote(signature, safe='')}"


def _sign(task: Task, expires_at: int) -> tuple[str, str]:
    folder = f"/prod/{task.model.id}/{beijing(task.ends_at):%Y%m%d/%H%%3A%M}"
    while True:
        path = f"{folder}/{uuid.uuid4()}-1.json"
        query = signed_query(path, expires_at)
        if task.model.input_style == "file_url":
            query += f"&response-content-disposition=attachment%3Bfilename%3D{task.id}.json"
        # Every signature has a plus sign, so a client that decodes it to a space always fails, not only sometimes.
        if "%2B" in query:
            return path, query
