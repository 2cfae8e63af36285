"""The URLs under which DashScope fetches the uploads of a task, made anew for each submit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.dashscope.failures import Failure, FailureKind
from app.dashscope.file_urls import TEMPORARY_SCHEME, upload_path
from app.dashscope.temporary_storage import StorageFailed
from app.db import Sessions, transaction
from app.uploads.models import Upload
from app.uploads.service import OWN_SCHEME, find_by_url
from app.uploads.stores import ObjectStore

EXPIRED = Failure(
    FailureKind.PERMANENT, "upload_expired", "The upload has expired or was deleted. Upload the file again."
)


@dataclass(frozen=True, slots=True)
class FileLinks:
    """The URLs that are sent for the files of a task.

    `sent_as` has the names in responses of the files that are sent with another URL.
    """

    urls: Sequence[str]
    sent_as: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ExpiredUploads:
    """Files that cannot be sent, by their URLs."""

    urls: Sequence[str]


@dataclass(frozen=True, slots=True)
class LinksUnavailable:
    """The store does not respond."""

    reason: str


class UploadLinks:
    def __init__(self, sessions: Sessions, store: ObjectStore | None) -> None:
        self.store = store
        self._sessions = sessions

    async def links(self, file_urls: Sequence[str]) -> FileLinks | ExpiredUploads | LinksUnavailable:
        """At most two statements; none if no file is an upload. Raises DatabaseUnavailable."""
        stored = [url for url in file_urls if url.startswith((OWN_SCHEME, TEMPORARY_SCHEME))]
        if not stored:
            return FileLinks(file_urls, {})
        async with transaction(self._sessions) as session:
            known = await find_by_url(session, stored)
        expired = [url for url, upload in known.items() if not upload.usable]
        expired += [url for url in stored if url.startswith(OWN_SCHEME) and url not in known]
        if expired:
            return ExpiredUploads(expired)
        try:
            own = {url: await self._url(upload) for url, (upload, _) in known.items() if upload.object_key}
        except StorageFailed as error:
            return LinksUnavailable(str(error))
        return FileLinks(
            [own.get(url, url) for url in file_urls],
            {url: f"{TEMPORARY_SCHEME}{upload_path(link)}" for url, link in own.items()},
        )

    async def _url(self, upload: Upload) -> str:
        if self.store is None or upload.object_key is None:
            raise StorageFailed("UPLOAD_STORE is not set, but files in it are queued")
        return await self.store.url(upload.object_key)
