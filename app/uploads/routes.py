"""`/v1/uploads`: files that clients send to the gateway."""

import asyncio
import re
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import FileResponse

from app.api.dependencies import SessionsDep
from app.api.pagination import DEFAULT_LIMIT, Cursor, Limit, Page, decode_cursor, paginate
from app.api.problems import MalformedBody, UnsupportedMediaType, responses
from app.catalogue import RegionName
from app.clients.authentication import AuthenticatedRequestRoute, AuthenticatedRoute, ClientDep, current_client
from app.db import transaction
from app.errors import (
    InvalidRequest,
    ModelNotInRegion,
    NotFound,
    RegionNotServed,
    TooManyUploads,
    UnknownModel,
    UnsupportedFormat,
    UploadTooLarge,
    UploadUnavailable,
)
from app.uploads import service
from app.uploads.form import read_form
from app.uploads.models import Upload as UploadRow
from app.uploads.stores import FolderStore
from app.uploads.uploader import Uploader

# A part of a Range header: 0-9, 10- or -10.
_RANGE = re.compile(rb"(?P<first>[0-9]{1,18})-(?P<last>[0-9]{0,18})|-[0-9]{1,18}")
_EXAMPLE: dict[str, JsonValue] = {
    "id": "019ab0a4-6a2e-7d10-9c1f-3f5b7a9d1e20",
    "file_url": "oss://dashscope-instant/4c1f…/019ab0a4-6a2e-7d10-9c1f-3f5b7a9d1e20.wav",
    "file_name": "call-4711.wav",
    "size_bytes": 151242,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "model": "fun-asr",
    "region": "beijing",
    "created_at": "2026-11-28T08:00:00.120000Z",
    "expires_at": "2026-11-30T08:00:00.120000Z",
}


class Upload(BaseModel):
    """A file that the gateway has stored for a client."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: UUID
    file_url: str = Field(description="Goes into a job's `file_urls` as it is.")
    file_name: str
    size_bytes: int
    sha256: str = Field(description="Of the contents, in hexadecimal.")
    model: str = Field(description="With an `oss://` URL, jobs with the upload need this model.")
    region: RegionName
    created_at: datetime
    expires_at: datetime


_FORM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The audio or video file."},
        "model": {
            "type": "string",
            "default": "fun-asr",
            "description": "The model of the jobs that will use the upload. It has to take files of this extension.",
        },
        "region": {"type": "string", "enum": ["auto", "beijing", "singapore"], "default": "auto"},
    },
    "additionalProperties": False,
}
_FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": _FORM_SCHEMA,
            "example": {"model": "fun-asr", "region": "auto", "file": "the bytes of the file"},
        }
    },
}
_CREATED: dict[str, Any] = {
    "description": "The file is stored.",
    "headers": {"Location": {"description": "Path of the upload.", "schema": {"type": "string"}}},
}


class UploadRoute(AuthenticatedRequestRoute):
    """A route that reads its body as a stream."""

    streams_body = True


router = APIRouter(prefix="/v1/uploads", route_class=AuthenticatedRoute, tags=["uploads"])
upload_router = APIRouter(prefix="/v1/uploads", route_class=UploadRoute, tags=["uploads"])
content_router = APIRouter(prefix="/v1/uploads")


def uploader_of(request: Request) -> Uploader:
    uploader: Uploader = request.app.state.uploader
    return uploader


@upload_router.post(
    "",
    operation_id="createUpload",
    summary="Upload a file",
    status_code=201,
    response_model=Upload,
    openapi_extra={"requestBody": _FORM},
    responses={
        201: _CREATED,
        **responses(
            MalformedBody,
            UnsupportedMediaType,
            InvalidRequest,
            UnknownModel,
            ModelNotInRegion,
            RegionNotServed,
            UnsupportedFormat,
            TooManyUploads,
            UploadTooLarge,
            UploadUnavailable,
        ),
    },
)
async def create_upload(request: Request) -> Response:
    """Streams the file to DashScope's temporary storage, or to the gateway's own store.

    A file in temporary storage expires after 48 hours, and serves jobs of one model. Send `model` and `region` before
    `file`, so that the file need not be sent twice.
    """
    client = await current_client(request)
    upload = _shown(await uploader_of(request).upload(read_form(request), client.id))
    headers = {"Location": f"/v1/uploads/{upload.id}"}
    return Response(upload.model_dump_json(), 201, headers, "application/json")


@router.get("", operation_id="listUploads", summary="List uploads, newest first")
async def list_uploads(
    sessions: SessionsDep, client: ClientDep, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[Upload]:
    """Without uploads that have expired."""
    key = client.cursor_key
    before = decode_cursor(cursor, tuple[Literal["uploads"], UUID], key)[1] if cursor is not None else None
    async with transaction(sessions) as session:
        rows = await service.list_uploads(session, client.id, limit=limit + 1, before=before)
    uploads, next_cursor = paginate(rows, limit, lambda row: ("uploads", row.id), key)
    return Page(items=[_shown(upload) for upload in uploads], next_cursor=next_cursor)


@router.get("/{upload_id}", operation_id="getUpload", summary="Get an upload", responses=responses(NotFound))
async def get_upload(upload_id: UUID, sessions: SessionsDep, client: ClientDep) -> Upload:
    async with transaction(sessions) as session:
        return _shown(await service.get_upload(session, client.id, upload_id))


@router.delete(
    "/{upload_id}",
    operation_id="deleteUpload",
    summary="Delete an upload",
    status_code=204,
    responses={204: {"description": "The upload is deleted."}, **responses(NotFound, UploadUnavailable)},
)
async def delete_upload(upload_id: UUID, request: Request, sessions: SessionsDep, client: ClientDep) -> Response:
    """Files of queued jobs that name the upload fail with `upload_expired`.

    DashScope's temporary storage cannot delete files: the bytes of an `oss://` upload stay there until they expire.
    """
    async with transaction(sessions) as session:
        upload = await service.get_upload(session, client.id, upload_id)
    await uploader_of(request).delete([upload])
    return Response(status_code=204)


@content_router.get("/content/{key}", include_in_schema=False)
async def get_content(
    key: str,
    request: Request,
    sessions: SessionsDep,
    expires: Annotated[int, Query(ge=0)] = 0,
    signature: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The bytes of an upload in a folder, for DashScope. The signature in the URL takes the place of a token."""
    store = uploader_of(request).store
    if not isinstance(store, FolderStore) or not store.is_signed(key, expires, signature):
        raise NotFound("The link is not valid, or has expired.")
    async with transaction(sessions) as session:
        if not await service.has_object(session, key):
            raise NotFound("The upload was deleted.")
    path = store.folder / key
    if not await asyncio.to_thread(path.is_file):
        raise NotFound("The folder of UPLOAD_STORE does not have the file of the upload.")
    # Other ranges are ignored (RFC 9110, section 14.2). Starlette refuses them with a 400, and the file would fail.
    fields = request.scope["headers"]
    request.scope["headers"] = [field for field in fields if field[0] != b"range" or _is_range(field[1])]
    return FileResponse(path, media_type="application/octet-stream")


def _is_range(value: bytes) -> bool:
    unit, _, ranges = value.partition(b"=")
    found = [_RANGE.fullmatch(each.strip()) for each in ranges.split(b",")]
    return unit.strip().lower() == b"bytes" and all(
        each is not None and (not each["last"] or int(each["first"] or 0) <= int(each["last"])) for each in found
    )


def _shown(row: UploadRow) -> Upload:
    return Upload(
        id=row.id,
        file_url=row.file_url,
        file_name=row.file_name,
        size_bytes=row.size_bytes,
        sha256=row.sha256.hex(),
        model=row.model,
        region=row.region,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
