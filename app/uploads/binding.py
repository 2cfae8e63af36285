"""Binds the files of a new job to the accounts of their uploads."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.catalogue import RegionName, ValidatedJob
from app.dashscope.file_urls import TEMPORARY_SCHEME, upload_path
from app.db import Sessions, transaction
from app.errors import InvalidRequest, UploadExpired, UploadNotForModel, UploadNotFound
from app.uploads.models import Upload
from app.uploads.service import OWN_SCHEME, KnownUpload, find_by_url


@dataclass(frozen=True, slots=True)
class Binding:
    """`accounts`: for each URL the account that its upload belongs to, or an empty string. `region`: theirs."""

    accounts: Sequence[str]
    region: RegionName


async def bind_uploads(
    sessions: Sessions, client_id: UUID, urls: Sequence[str], validated: ValidatedJob, requested_region: str
) -> Binding | None:
    """None if no file is an upload of the gateway. Up to two statements if a URL may be one, else none.

    Raises UploadNotFound, UploadExpired, UploadNotForModel, or InvalidRequest if the uploads belong to another region
    than the job, or to two. An `oss://` URL that the gateway does not know comes from elsewhere, and is passed on.
    """
    stored = {url for url in urls if url.startswith((OWN_SCHEME, TEMPORARY_SCHEME))}
    if not stored:
        return None
    async with transaction(sessions) as session:
        known = await find_by_url(session, stored | {_plain_spelling(url) for url in stored})
    accounts = ["" for _ in urls]
    for index, url in enumerate(urls):
        if url in stored:
            misspelled = url not in known and _plain_spelling(url) in known
            accounts[index] = _account(index, url, known.get(url), client_id, validated, misspelled=misspelled)
    return _in_one_region(accounts, known, urls, requested_region)


def _account(
    index: int, url: str, known: KnownUpload | None, client_id: UUID, validated: ValidatedJob, *, misspelled: bool
) -> str:
    pointer = f"/file_urls/{index}"
    if known is None and url.startswith(TEMPORARY_SCHEME) and not misspelled:
        return ""
    if misspelled:
        raise UploadNotFound.at(pointer, "spells the `file_url` of an upload in another way; use it as it is")
    if known is None or known.upload.client_id != client_id:
        raise UploadNotFound.at(pointer, "is no upload of this client; use the `file_url` of an upload")
    if not known.usable and _was_deleted(known.upload):
        raise UploadNotFound.at(pointer, "was deleted; upload the file again")
    if not known.usable:
        raise UploadExpired.at(pointer, "has expired; upload the file again")
    if known.upload.account and known.upload.model != validated.model.id:
        raise UploadNotForModel.at(
            pointer,
            f"was uploaded for {known.upload.model}, but the job's model is {validated.model.id}; upload it once more",
        )
    return known.upload.account


def _was_deleted(upload: Upload) -> bool:
    """By its client. The gateway itself deletes uploads that have expired."""
    return upload.deleted_at is not None and upload.deleted_at < upload.expires_at


def _plain_spelling(url: str) -> str:
    """The `oss://` URL without escapes, query and fragment. Upstream may find the same object with any of them."""
    if not url.startswith(TEMPORARY_SCHEME):
        return url
    return f"{TEMPORARY_SCHEME}{upload_path(re.split('[?#]', url, maxsplit=1)[0])}"


def _in_one_region(
    accounts: Sequence[str],
    known: Mapping[str, KnownUpload],
    urls: Sequence[str],
    requested_region: str,
) -> Binding | None:
    bound = {index: known[url].upload.region for index, url in enumerate(urls) if accounts[index]}
    if not bound:
        return None
    first, region = next(iter(bound.items()))
    for index, other in bound.items():
        if other != region:
            detail = f"is in {other}, but /file_urls/{first} is in {region}; send them in two jobs"
            raise InvalidRequest.at(f"/file_urls/{index}", detail)
    if requested_region not in {"auto", region}:
        detail = f"is {requested_region}, but the uploads of the job are in {region}; use {region} or auto"
        raise InvalidRequest.at("/region", detail)
    return Binding(accounts, region)  # type: ignore[arg-type]  # written from a RegionName
