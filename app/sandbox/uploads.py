"""Temporary storage: `GET …/uploads?action=getPolicy`, and the storage host that takes the files at `/oss`."""

import base64
import hmac
import uuid
from collections.abc import Mapping

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.sandbox import errors
from app.sandbox.behaviour import NO_SPEECH
from app.sandbox.errors import Refused
from app.sandbox.middleware import Call, StarletteEndpoint
from app.sandbox.responses import JSONResponse, new_request_id
from app.sandbox.state import SandboxState, StoredFile

POLICY_TTL_S = 300
FILE_TTL_S = 48 * 3600
MAX_FILE_MB = 1024
# Keys below this folder were given out here. Other `oss://` URLs count as files that exist.
FOLDER = "dashscope-instant/sandbox"
_FIELDS = ("OSSAccessKeyId", "Signature", "policy", "key", "x-oss-object-acl", "x-oss-forbid-overwrite")
# A WAV file without speech: its samples are zero. More is not read.
_HEAD_BYTES = 44
_SILENCE_BYTES = 64 * 1024
_SIGNING_KEY = b"the storage host of the sandbox"


async def get_policy(call: Call) -> Response:
    query = call.request.query_params
    if query.get("action") != "getPolicy" or not query.get("model"):
        raise Refused(errors.INVALID_PARAMETER.with_message("action must be getPolicy, and model is required"))
    folder = f"{FOLDER}/{uuid.uuid4().hex}"
    terms = {
        "folder": folder,
        "account_id": call.caller.account_id,
        "model": query["model"],
        "until": call.state.now() + POLICY_TTL_S,
    }
    policy = base64.b64encode(msgspec.json.encode(terms)).decode()
    data = {
        "policy": policy,
        "signature": _signature(policy),
        "upload_dir": folder,
        "upload_host": str(call.request.base_url.replace(path="/oss")),
        "expire_in_seconds": POLICY_TTL_S,
        "max_file_size_mb": MAX_FILE_MB,
        "capacity_limit_mb": 999999999,
        "oss_access_key_id": "sandbox",
        "x_oss_object_acl": "private",
        "x_oss_forbid_overwrite": "true",
    }
    if call.state.quirk("policy_without_signature"):
        del data["signature"]
    return JSONResponse({"request_id": new_request_id(), "data": data})


def store_file(state: SandboxState) -> StarletteEndpoint:
    """`POST /oss` takes a form whose last part is the file. Success is a 200 without a body."""

    async def handle(request: Request) -> Response:
        if request.headers.get("authorization"):
            state.authorization_leaks += 1
        if "content-length" not in request.headers:
            return _error(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        if state.chance("error_upload", state.faults.error_upload_rate):
            return _error(500, "InternalError", "We encountered an internal error. Please try again.")
        try:
            async with request.form() as form:
                return await _store_form(state, form)
        except ClientDisconnect:
            return _error(400, "RequestTimeout", "The body of the request is incomplete.")

    return handle


def url_failure(state: SandboxState, url: str, *, account_id: str, model: str) -> str | None:
    """The code of the failure of a file with this `oss://` URL, if it cannot be read."""
    key = url.removeprefix("oss://")
    if not key.startswith(FOLDER):
        return None
    stored = state.uploads.get(key)
    usable = stored and (stored.account_id, stored.model) == (account_id, model) and state.now() < stored.expires_at
    if stored is None or not usable or state.quirk("uploads_unreadable"):
        return "FILE_DOWNLOAD_FAILED"
    return NO_SPEECH if stored.is_silent and not state.quirk("silence_succeeds") else None


async def _store_form(state: SandboxState, form: FormData) -> Response:
    items = form.multi_items()
    file = items[-1][1] if items and items[-1][0] == "file" else None
    fields = {name: value for name, value in items if isinstance(value, str)}
    if not isinstance(file, UploadFile):
        return _error(400, "InvalidArgument", "The file has to be the last part of the form.")
    if missing := next((name for name in _FIELDS if name not in fields), None):
        return _error(400, "InvalidArgument", f"The form has no field {missing}.")
    is_silent = (await file.read(_HEAD_BYTES)).startswith(b"RIFF") and not any(await file.read(_SILENCE_BYTES))
    return _store(state, fields, file.size or 0, is_silent=is_silent)


def _store(state: SandboxState, fields: Mapping[str, str], size: int, *, is_silent: bool) -> Response:
    if not hmac.compare_digest(fields["Signature"], _signature(fields["policy"])):
        return _error(403, "SignatureDoesNotMatch", "The request signature does not match.")
    terms = msgspec.json.decode(base64.b64decode(fields["policy"]))
    if state.now() >= terms["until"]:
        return _error(403, "AccessDenied", "Invalid according to Policy: Policy expired.")
    if not fields["key"].startswith(f"{terms['folder']}/"):
        return _error(403, "AccessDenied", "Invalid according to Policy: the key does not match.")
    if size > MAX_FILE_MB * 1024 * 1024:
        return _error(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")
    if fields["key"] in state.uploads:
        return _error(409, "FileAlreadyExists", "The object you specified already exists.")
    expires_at = state.now() + FILE_TTL_S
    state.uploads[fields["key"]] = StoredFile(terms["account_id"], terms["model"], size, expires_at, is_silent)
    return Response(status_code=200)


def _signature(policy: str) -> str:
    return base64.b64encode(hmac.digest(_SIGNING_KEY, policy.encode(), "sha1")).decode()


def _error(status: int, code: str, message: str) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(body, status, media_type="application/xml")
