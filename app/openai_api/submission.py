"""Turns a form into a job. A repeated request joins the job of the first one, so that it is not billed again.

The official clients repeat a request that takes too long or loses its connection, and send no idempotency key. So the
gateway makes the key: from the fields and the bytes of the file. PostgreSQL keeps it, so all replicas know it.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from app.catalogue import validate_job
from app.clients.service import CurrentClient
from app.db import Sessions, transaction
from app.errors import ServiceUnavailable
from app.jobs.bound_accounts import bind_accounts
from app.jobs.dependencies import JobServices
from app.jobs.schemas import JobRequest
from app.jobs.validation import validate_new_job
from app.openai_api.form import (
    TranscriptionRequest,
    continue_form,
    fingerprint,
    parse_fields,
    read_until_file,
)
from app.queue.commands import find_repeated
from app.queue.job_json import JobSnapshot
from app.uploads.form import Field, FormEvent
from app.uploads.models import Upload
from app.uploads.receiving import Fields
from app.uploads.uploader import Target, Uploader

JOIN_FOR = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Submission:
    """A request and its job. `joined`: an earlier request created the job."""

    request: TranscriptionRequest
    snapshot: JobSnapshot
    joined: bool


class FormSubmitter:
    """One per request."""

    def __init__(self, services: JobServices, uploader: Uploader, client: CurrentClient) -> None:
        self._services = services
        self._sessions: Sessions = services.sessions
        self._uploader = uploader
        self._client = client

    async def submit(self, form: AsyncIterator[FormEvent]) -> Submission:
        """Read the form, store its file and create the job, or join one.

        Raises the errors of `read_form`, `Uploader.store_file` and `POST /v1/jobs`.
        """
        fields, file = await read_until_file(form)
        if file is None:
            return await self._submit_url(_gathered(fields))
        whole = continue_form(fields, file, form)
        try:
            upload, received = await self._uploader.store_file(whole, self._client.id, self._target, self._on_arrival)
        except _Joined as joined:
            return joined.submission
        request = parse_fields(received.fields, has_file=True)
        digest = fingerprint(received.fields, received.sha256)
        try:
            submission = await self._create(request, upload.file_url, digest)
        except BaseException:
            await self._discard(upload)
            raise
        if submission.joined:
            await self._discard(upload)
        return submission

    async def _submit_url(self, fields: Fields) -> Submission:
        request = parse_fields(fields, has_file=False)
        digest = fingerprint(fields, b"")
        joined = await self._find(request, digest)
        return joined or await self._create(request, request.url or "", digest)

    def _target(self, fields: Fields) -> Target:
        request = parse_fields(fields, has_file=True)
        served = self._services.served
        validate_job(model=request.model, region="auto", parameters=request.parameters, served=served)
        return self._uploader.target(request.model)

    async def _on_arrival(self, fields: Fields, sha256: bytes) -> None:
        """Ends the upload of a repeated request before the store keeps the file."""
        request = parse_fields(fields, has_file=True)
        if joined := await self._find(request, fingerprint(fields, sha256)):
            raise _Joined(joined)

    async def _find(self, request: TranscriptionRequest, digest: bytes) -> Submission | None:
        async with transaction(self._sessions) as session:
            snapshot = await find_repeated(session, self._client.id, _key(digest), JOIN_FOR)
        return Submission(request, snapshot, joined=True) if snapshot else None

    async def _create(self, request: TranscriptionRequest, file_url: str, digest: bytes) -> Submission:
        """Of equal requests at the same moment one creates the job, and the others join it."""
        body: Mapping[str, Any] = {"file_urls": [file_url], "model": request.model, "parameters": request.parameters}
        new = validate_new_job(
            JobRequest.model_validate(body),
            client_id=self._client.id,
            client_name=self._client.name,
            has_budget=self._client.has_budget,
            idempotency_key=_key(digest),
            served=self._services.served,
        )
        # Not the hash of the job's request: each upload of the same file has another URL.
        new = await bind_accounts(self._sessions, replace(new, request_sha256=digest))
        created = await self._services.create(new)
        if not created.replayed:
            self._services.wakeup.notify()
        return Submission(request, created.snapshot, joined=created.replayed)

    async def _discard(self, upload: Upload) -> None:
        with suppress(ServiceUnavailable):  # the upload expires by itself
            await self._uploader.delete([upload])


class _Joined(Exception):
    def __init__(self, submission: Submission) -> None:
        super().__init__()
        self.submission = submission


def _key(digest: bytes) -> str:
    return f"openai:{digest.hex()}"


def _gathered(fields: list[Field]) -> Fields:
    gathered: dict[str, list[str]] = {}
    for field in fields:
        gathered.setdefault(field.name, []).append(field.value)
    return gathered
