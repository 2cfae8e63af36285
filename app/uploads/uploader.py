"""Stores the file of a form as an upload of its client, and deletes uploads."""

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath
from typing import cast
from uuid import UUID

import httpx
from sqlalchemy import func

from app.catalogue import REGIONS, Model, RegionName, find_model, order_regions
from app.dashscope.circuits import read_circuits
from app.dashscope.client import upstream_clients
from app.dashscope.temporary_storage import LIFETIME, POLICY_LIFETIME, StorageFailed, UploadPolicy
from app.db import Sessions, transaction
from app.errors import InvalidRequest, TooManyUploads, UnsupportedFormat, UploadUnavailable, json_pointer
from app.identifiers import new_id
from app.settings import Settings
from app.uploads.destinations import BlockedModels, Destination, Destinations, OwnStore
from app.uploads.form import FormEvent
from app.uploads.models import Upload
from app.uploads.receiving import Fields, OnArrival, ReceivedFile, accept, receive
from app.uploads.service import forget_unfinished, mark_deleted, note_unfinished, record_policy
from app.uploads.stores import ObjectStore

DEFAULT_MODEL = "fun-asr"
# Uploads of a client that are in progress. Each holds a copy on disk and a connection to the storage, of which a
# process has 200. Slow uploads hold them long.
MAX_UPLOADS = 50
# The fields of the form beside its file, with their defaults.
_DEFAULTS = {"model": DEFAULT_MODEL, "region": "auto"}
_REGIONS = ("auto", *REGIONS)


@dataclass(frozen=True, slots=True)
class Target:
    """The model of an upload, and the regions that it may go to in order of preference."""

    model: Model
    regions: Sequence[RegionName]


ChooseTarget = Callable[[Fields], Target]
"""Checks the fields of the form that have arrived. Raises InvalidRequest."""


class UploadLimit:
    """Counts the uploads in progress of each client. One per process."""

    def __init__(self, max_uploads: int = MAX_UPLOADS) -> None:
        self._max_uploads = max_uploads
        self._open: Counter[UUID] = Counter()

    @contextmanager
    def hold(self, client_id: UUID) -> Iterator[None]:
        """Count one upload until the end of the block. Raises TooManyUploads if the client has too many."""
        if self._open[client_id] >= self._max_uploads:
            raise TooManyUploads(
                f"A client may have {self._max_uploads} uploads in progress at once; end some of them."
            )
        self._open[client_id] += 1
        try:
            yield
        finally:
            self._open[client_id] -= 1
            if not self._open[client_id]:
                del self._open[client_id]


class Uploader:
    """One per process. `store` is the gateway's own store, if it has one."""

    def __init__(
        self, settings: Settings, sessions: Sessions, http: httpx.AsyncClient, store: ObjectStore | None
    ) -> None:
        self.store = store
        self._sessions = sessions
        self._served = tuple(settings.served_regions)
        self._retention = timedelta(days=settings.upload_retention_days)
        self._spool_folder = settings.data_dir if os.access(settings.data_dir, os.W_OK) else None
        self._in_progress = UploadLimit()
        self._destinations = Destinations(http, list(upstream_clients(settings, http).values()), store)

    async def upload(self, form: AsyncIterator[FormEvent], client_id: UUID) -> Upload:
        """Store the file of a form with the fields `file`, `model` and `region`.

        Raises as `store_file`, and InvalidRequest for other fields.
        """
        return (await self.store_file(form, client_id, self._target))[0]

    async def store_file(
        self,
        form: AsyncIterator[FormEvent],
        client_id: UUID,
        choose_target: ChooseTarget,
        on_arrival: OnArrival = accept,
    ) -> tuple[Upload, ReceivedFile]:
        """Raises the errors of `receive` and of `choose_target`, TooManyUploads, and UnsupportedFormat for the name."""
        with self._in_progress.hold(client_id):
            return await self._store(form, client_id, choose_target, on_arrival)

    async def _store(
        self, form: AsyncIterator[FormEvent], client_id: UUID, choose_target: ChooseTarget, on_arrival: OnArrival
    ) -> tuple[Upload, ReceivedFile]:
        upload_id = new_id()

        async def open_destination(fields: Fields, file_name: str) -> Destination:
            target = choose_target(fields)
            _check_format(file_name, target.model)
            destination = await self._destinations.open(
                upload_id, file_name, target.model, target.regions, await self._blocked()
            )
            if isinstance(destination, OwnStore):
                async with transaction(self._sessions) as session:
                    await note_unfinished(session, destination.object_key)
            return destination

        received = await receive(form, open_destination, spool_folder=self._spool_folder, on_arrival=on_arrival)
        stored = received.stored
        upload = Upload(
            id=upload_id,
            client_id=client_id,
            file_url=stored.file_url,
            file_name=received.name,
            size_bytes=received.size,
            sha256=received.sha256,
            model=choose_target(received.fields).model.id,
            region=stored.region,
            account=stored.account,
            object_key=stored.object_key,
            expires_at=func.now() + (LIFETIME if stored.account else self._retention),
        )
        try:
            async with transaction(self._sessions) as session:
                session.add(upload)
                await session.flush()
                await session.refresh(upload)
                if stored.object_key is not None:
                    await forget_unfinished(session, [stored.object_key])
        except BaseException:
            await self._remove(stored.object_key)
            raise
        return upload, received

    async def issue_policy(self, client_id: UUID, target: Target) -> UploadPolicy:
        """A policy with which the client may send files to temporary storage by itself, also if there is an own store.

        Jobs with these files go to the account of the policy. Raises UploadUnavailable.
        """
        upstream, policy = await self._destinations.policy(target.model, target.regions, await self._blocked())
        async with transaction(self._sessions) as session:
            await record_policy(
                session,
                upload_dir=policy.upload_dir,
                client_id=client_id,
                model=target.model.id,
                region=upstream.account.region,
                account=upstream.account.id,
                expires_at=func.now() + LIFETIME + POLICY_LIFETIME,
            )
        return policy

    async def delete(self, uploads: Sequence[Upload]) -> None:
        """Delete the bytes, then mark the rows. Raises UploadUnavailable if the store does not respond."""
        for upload in uploads:
            try:
                await self._remove(upload.object_key)
            except StorageFailed as error:
                raise UploadUnavailable(f"The upload is not deleted: {error}. Try again in a moment.") from error
        async with transaction(self._sessions) as session:
            await mark_deleted(session, [upload.id for upload in uploads])

    def _target(self, fields: Fields) -> Target:
        for name, values in fields.items():
            if name not in _DEFAULTS:
                raise InvalidRequest.at(
                    json_pointer("", name), "is not a field of this form, which has file, model and region"
                )
            if len(values) > 1:
                raise InvalidRequest.at(f"/{name}", "is there more than once")
        model, region = (fields.get(name, [default])[0] for name, default in _DEFAULTS.items())
        return self.target(model, region)

    def target(self, model: str, region: str = "auto") -> Target:
        """Raises UnknownModel, ModelNotInRegion, RegionNotServed or InvalidRequest."""
        if region not in _REGIONS:
            raise InvalidRequest.at("/region", f"needs one of {', '.join(_REGIONS)}")
        found = find_model(model)
        return Target(found, order_regions(found, cast("RegionName", region), self._served))

    async def _remove(self, object_key: str | None) -> None:
        if object_key is not None and self.store is not None:
            await self.store.delete(object_key)

    async def _blocked(self) -> BlockedModels:
        async with transaction(self._sessions) as session:
            circuits = await read_circuits(session)
        blocked: dict[str, set[str]] = {}
        for circuit in circuits:
            blocked.setdefault(circuit.account, set()).add(circuit.model)
        return blocked


def _check_format(file_name: str, model: Model) -> None:
    """Files without an extension are left to DashScope, which looks at their contents."""
    extension = PurePosixPath(file_name).suffix[1:].lower()
    if extension and extension not in model.formats:
        detail = f"has the extension .{extension[:20]}; {model.id} takes {', '.join(model.formats)}"
        raise UnsupportedFormat.at("/file", detail)
