"""The rows of uploads: what a client has stored, and the uploads that jobs name.

All functions take a session and run in the caller's transaction, with one statement each.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients.models import Client
from app.errors import NotFound
from app.uploads.models import Upload

# The schemes of files in the gateway's own store, and in DashScope's temporary storage.
OWN_SCHEME = "upload://"
TEMPORARY_SCHEME = "oss://"

_EXISTS = (Upload.deleted_at.is_(None), Upload.expires_at > func.now())


class KnownUpload(NamedTuple):
    """`usable`: the upload is neither deleted nor expired."""

    upload: Upload
    usable: bool


async def list_uploads(session: AsyncSession, client_id: UUID, *, limit: int, before: UUID | None) -> Sequence[Upload]:
    """Newest first, without those that are deleted or expired."""
    query = select(Upload).where(Upload.client_id == client_id, *_EXISTS)
    if before is not None:
        query = query.where(Upload.id < before)
    return (await session.scalars(query.order_by(Upload.id.desc()).limit(limit))).all()


async def get_upload(session: AsyncSession, client_id: UUID, upload_id: UUID) -> Upload:
    """Raises NotFound, also for an upload of another client, or one that is deleted or expired."""
    found = await session.scalars(
        select(Upload).where(Upload.id == upload_id, Upload.client_id == client_id, *_EXISTS)
    )  # fmt: skip
    upload = found.one_or_none()
    if upload is None:
        raise NotFound(f"There is no upload {upload_id}.")
    return upload


async def has_object(session: AsyncSession, key: str) -> bool:
    """Whether an upload of any client that is not deleted has this key in the gateway's own store."""
    found = await session.scalars(select(Upload.id).where(Upload.object_key == key, Upload.deleted_at.is_(None)))
    return found.first() is not None


async def find_by_url(session: AsyncSession, urls: Collection[str]) -> Mapping[str, KnownUpload]:
    """The uploads of any client with these `file_url`s, by URL."""
    usable = (Upload.deleted_at.is_(None) & (Upload.expires_at > func.now())).label("usable")
    rows = await session.execute(select(Upload, usable).where(Upload.file_url.in_(urls)))
    return {upload.file_url: KnownUpload(upload, is_usable) for upload, is_usable in rows}


async def obsolete_uploads(session: AsyncSession, *, limit: int) -> Sequence[Upload]:
    """Uploads in the gateway's own store that have expired, or whose client is revoked."""
    found = await session.scalars(
        select(Upload)
        .join(Client, Client.id == Upload.client_id)
        .where(
            Upload.object_key.is_not(None),
            Upload.deleted_at.is_(None),
            or_(Upload.expires_at <= func.now(), Client.revoked_at.is_not(None)),
        )
        .limit(limit)
    )
    return found.all()


async def mark_deleted(session: AsyncSession, upload_ids: Collection[UUID]) -> None:
    await session.execute(
        update(Upload).where(Upload.id.in_(upload_ids), Upload.deleted_at.is_(None)).values(deleted_at=func.now())
    )
