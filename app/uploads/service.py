"""The rows of uploads: what a client has stored, and the uploads that jobs name.

All functions take a session and run in the caller's transaction, with one statement each unless stated otherwise.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.clients.models import Client
from app.dashscope.file_urls import TEMPORARY_SCHEME
from app.errors import NotFound
from app.uploads.models import IssuedPolicy, UnfinishedUpload, Upload

# Of files in the gateway's own store.
OWN_SCHEME = "upload://"

# DashScope's own folders are three deep.
_MAX_FOLDERS = 8
_POLICIES_KEPT = timedelta(days=30)
# What the store has of an upload that takes longer is deleted too. At its end, its file is sent again from the disk.
UNFINISHED_FOR = timedelta(days=1)
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
    """The uploads of any client with these `file_url`s, by URL.

    A second statement finds the `oss://` URLs that clients uploaded by themselves, with a policy that was passed on.
    """
    usable = (Upload.deleted_at.is_(None) & (Upload.expires_at > func.now())).label("usable")
    rows = await session.execute(select(Upload, usable).where(Upload.file_url.in_(urls)))
    known = {upload.file_url: KnownUpload(upload, is_usable) for upload, is_usable in rows}
    others = [url for url in urls if url.startswith(TEMPORARY_SCHEME) and url not in known]
    return {**known, **await _sent_by_clients(session, others)} if others else known


async def record_policy(session: AsyncSession, **policy: Any) -> None:
    """`policy`: the columns of IssuedPolicy. Two statements: one forgets policies whose files expired long ago."""
    await session.execute(delete(IssuedPolicy).where(IssuedPolicy.expires_at < func.now() - _POLICIES_KEPT))
    upsert = insert(IssuedPolicy).values(**policy)
    await session.execute(upsert.on_conflict_do_update(index_elements=["upload_dir"], set_=policy))


async def _sent_by_clients(session: AsyncSession, urls: Sequence[str]) -> Mapping[str, KnownUpload]:
    """Uploads whose URL lies below the folder of a policy. They have no row of their own: no name and no size."""
    folders = {url: _folders(url) for url in urls}
    wanted = {folder for each in folders.values() for folder in each}
    rows = await session.execute(
        select(IssuedPolicy, IssuedPolicy.expires_at > func.now()).where(IssuedPolicy.upload_dir.in_(wanted))
    )
    policies = {policy.upload_dir: (policy, is_usable) for policy, is_usable in rows}
    found = {}
    for url, candidates in folders.items():
        for policy, is_usable in (policies[folder] for folder in candidates if folder in policies):
            upload = Upload(
                client_id=policy.client_id,
                file_url=url,
                model=policy.model,
                region=policy.region,
                account=policy.account,
                expires_at=policy.expires_at,
            )
            found[url] = KnownUpload(upload, is_usable)
    return found


def _folders(url: str) -> list[str]:
    """The folders in which the object of an `oss://` URL lies. File names may have slashes."""
    names = url.removeprefix(TEMPORARY_SCHEME).split("/")[:-1][:_MAX_FOLDERS]
    return ["/".join(names[:count]) for count in range(1, len(names) + 1)]


async def urls_of_equal_uploads(
    session: AsyncSession, client_id: UUID, urls: Collection[str]
) -> Mapping[str, Sequence[str]]:
    """For each `file_url` of the client's uploads, those of its uploads with the same bytes, also deleted ones."""
    equal = aliased(Upload)
    rows = await session.execute(
        select(Upload.file_url, func.array_agg(equal.file_url).label("urls"))
        .join(equal, (equal.client_id == Upload.client_id) & (equal.sha256 == Upload.sha256))
        .where(Upload.file_url.in_(urls), Upload.client_id == client_id)
        .group_by(Upload.file_url)
    )
    return {row.file_url: row.urls for row in rows}


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


async def note_unfinished(session: AsyncSession, object_key: str) -> None:
    """Call it before the first byte goes to the gateway's own store."""
    await session.execute(insert(UnfinishedUpload).values(object_key=object_key).on_conflict_do_nothing())


async def abandoned_uploads(session: AsyncSession, *, limit: int) -> Sequence[str]:
    """Keys of files that were begun UNFINISHED_FOR ago and are no uploads."""
    began_before = func.now() - UNFINISHED_FOR
    found = select(UnfinishedUpload.object_key).where(UnfinishedUpload.created_at <= began_before)
    return (await session.scalars(found.limit(limit))).all()


async def forget_unfinished(session: AsyncSession, object_keys: Collection[str]) -> None:
    """The files are uploads now, or the store has nothing of them any more."""
    await session.execute(delete(UnfinishedUpload).where(UnfinishedUpload.object_key.in_(object_keys)))
