"""Where an upload goes: DashScope's temporary storage, with a policy of one account, or the gateway's own store."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol
from uuid import UUID

import httpx
import structlog

from app.catalogue import Model, RegionName
from app.dashscope.client import DashScope
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.temporary_storage import UploadPolicy, send_file
from app.errors import UploadUnavailable
from app.uploads.service import OWN_SCHEME
from app.uploads.stores import ObjectStore

log = structlog.get_logger()

# The models for which an account is blocked now, by account; an empty string is all models.
BlockedModels = Mapping[str, set[str]]


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a file is. `account` is empty, and `object_key` set, in the gateway's own store."""

    file_url: str
    region: RegionName
    account: str = ""
    object_key: str | None = None


class Destination(Protocol):
    """`needs_size`: the file cannot be sent before its size is known."""

    max_bytes: int
    needs_size: bool

    async def put(self, chunks: AsyncIterator[bytes], size: int | None) -> Stored:
        """Store the file. Raises StorageFailed. Nothing is stored if `chunks` raises or the call is cancelled."""


class TemporaryStorage:
    """One file in DashScope's temporary storage."""

    needs_size = True

    def __init__(self, http: httpx.AsyncClient, upstream: DashScope, policy: UploadPolicy, name: str) -> None:
        self._http = http
        self._account = upstream.account
        self._policy = policy
        self._name = name
        self.max_bytes = policy.max_bytes

    async def put(self, chunks: AsyncIterator[bytes], size: int | None) -> Stored:
        if size is None:
            raise ValueError("temporary storage needs the size of the file")
        file_url = await send_file(self._http, self._policy, self._name, chunks, size)
        return Stored(file_url, self._account.region, account=self._account.id)


class OwnStore:
    """One file in the gateway's own store."""

    needs_size = False

    def __init__(self, store: ObjectStore, upload_id: UUID, name: str, model: Model, region: RegionName) -> None:
        self._store = store
        self._upload_id = upload_id
        self.object_key = name
        self._region = region
        self.max_bytes = model.max_file_bytes

    async def put(self, chunks: AsyncIterator[bytes], size: int | None) -> Stored:  # noqa: ARG002 - not needed here
        await self._store.put(self.object_key, chunks)
        return Stored(f"{OWN_SCHEME}{self._upload_id}", self._region, object_key=self.object_key)


class Destinations:
    """Opens the destination of an upload. `upstreams` are the accounts, those of the default region first."""

    def __init__(self, http: httpx.AsyncClient, upstreams: Sequence[DashScope], store: ObjectStore | None) -> None:
        self._http = http
        self._upstreams = upstreams
        self.store = store

    async def open(
        self, upload_id: UUID, file_name: str, model: Model, regions: Sequence[RegionName], blocked: BlockedModels
    ) -> Destination:
        """`regions` in order of preference. Raises UploadUnavailable if no account of them gives a policy."""
        name = f"{upload_id}{_extension(file_name)}"
        if self.store is not None:
            return OwnStore(self.store, upload_id, name, model, regions[0])
        upstream, policy = await self.policy(model, regions, blocked)
        return TemporaryStorage(self._http, upstream, policy, name)

    async def policy(
        self, model: Model, regions: Sequence[RegionName], blocked: BlockedModels
    ) -> tuple[DashScope, UploadPolicy]:
        """A policy of temporary storage, and its account. Raises UploadUnavailable if no account gives one."""
        failures = []
        for upstream in self._candidates(model, regions, blocked):
            policy = await upstream.upload_policy(model.id)
            if isinstance(policy, UploadPolicy):
                return upstream, policy
            failures.append((upstream, policy))
            log.warning(
                "upload policy refused",
                account=upstream.account.id,
                model=model.id,
                kind=policy.kind.value,
                upstream_code=policy.upstream_code,
                message=policy.message,
            )
        raise UploadUnavailable(_explanation([failure for _, failure in failures]))

    def _candidates(self, model: Model, regions: Sequence[RegionName], blocked: BlockedModels) -> list[DashScope]:
        """The accounts of the regions in order; those that are blocked for the model last."""

        def rank(upstream: DashScope) -> tuple[bool, int]:
            models = blocked.get(upstream.account.id, set())
            return bool(models & {"", model.id}), regions.index(upstream.account.region)

        return sorted((each for each in self._upstreams if each.account.region in regions), key=rank)


def _extension(file_name: str) -> str:
    """The extension in the form in which it is safe in any key and URL, since the name may have any characters."""
    suffix = PurePosixPath(file_name).suffix.lower()
    return suffix if suffix[1:].isascii() and suffix[1:].isalnum() else ""


def _explanation(failures: Sequence[Failure]) -> str:
    kinds = {failure.kind for failure in failures}
    if kinds == {FailureKind.PERMANENT}:
        return (
            "The base URL of the region has no temporary storage. Set UPLOAD_STORE to keep uploads in a store of your"
            " own, or use URLs that DashScope can fetch."
        )
    if kinds == {FailureKind.ACCOUNT_BLOCKED}:
        return "DashScope refuses the key or the bill of every account; an operator has to act (see `doctor`)."
    return "DashScope's temporary storage does not respond; try again in a moment."
