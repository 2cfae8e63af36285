"""The calls of the HTTP API that a recording needs, with errors of one line."""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import httpx

from app.transcribe.inputs import TranscribeError, readable

# A shorter wait shows the change from the queue to recognition sooner.
WAIT_S = 2
TIMEOUT_S = 60.0
# How long a gateway may be away while it works on a job, as during a restart.
PATIENCE_S = 60
RETRY_INTERVAL_S = 1.0

NO_GATEWAY = "there may be no gateway at this address"

OnProgress = Callable[[int, int], None]


class Gateway:
    """A gateway over HTTP. Calls raise TranscribeError."""

    def __init__(self, url: str, token: str, *, is_local: bool) -> None:
        self.url = url
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(TIMEOUT_S, pool=None),
            # A proxy of the environment cannot reach a gateway on this machine.
            trust_env=not is_local,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def until_ready(self, patience_s: float) -> None:
        """Wait until the gateway accepts connections. Another program at its address is found by its response."""
        if (await self._json("GET", "/livez", patience_s=patience_s)).get("status") != "ok":
            raise TranscribeError(NO_GATEWAY)

    async def upload(self, path: Path, fields: Mapping[str, str], on_progress: OnProgress) -> str:
        """The `file_url` of the uploaded file."""
        try:
            with path.open("rb") as file:
                counted = _CountedFile(file, on_progress)
                form = {"file": (readable(path.name), counted, "application/octet-stream")}
                response = await self._call(
                    "POST", "/v1/uploads", data=fields, files=form, timeout=httpx.Timeout(TIMEOUT_S, read=None)
                )
        except OSError as error:
            raise TranscribeError(f"cannot be read: {error.strerror}") from error
        return str(_object(response)["file_url"])

    async def create_job(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The key makes a repeated request safe: a lost response costs no second transcription."""
        return await self._json(
            "POST", "/v1/jobs", json=body, headers={"Idempotency-Key": str(uuid4())}, patience_s=PATIENCE_S
        )

    async def job(self, job_id: str) -> dict[str, Any]:
        """The job when it is final, or after WAIT_S."""
        return await self._json("GET", f"/v1/jobs/{job_id}", params={"wait": WAIT_S}, patience_s=PATIENCE_S)

    async def cancel(self, job_id: str) -> None:
        """Cancel the job. Does nothing if it is final."""
        response = await self._send("POST", f"/v1/jobs/{job_id}/cancel")
        if response.status_code != httpx.codes.CONFLICT:
            _raise_for_problem(response)

    async def transcript(self, transcript_id: str, path: str, params: Mapping[str, str]) -> bytes:
        response = await self._call(
            "GET", f"/v1/transcripts/{transcript_id}{path}", params=params, patience_s=PATIENCE_S
        )
        return response.content

    async def _json(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        return _object(await self._call(method, path, **sent))

    async def _call(self, method: str, path: str, *, patience_s: float = 0, **sent: Any) -> httpx.Response:
        """A successful response. With patience, a gateway that is away or says 429 or 503 is tried again."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_s
        while True:
            try:
                response = await self._send(method, path, **sent)
            except TranscribeError:
                if loop.time() >= until:
                    raise
                await asyncio.sleep(RETRY_INTERVAL_S)
                continue
            if response.status_code in {429, 503} and loop.time() < until:
                await asyncio.sleep(RETRY_INTERVAL_S)
                continue
            return _raise_for_problem(response)

    async def _send(self, method: str, path: str, **sent: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **sent)
        except httpx.TimeoutException as error:
            raise TranscribeError(f"the gateway at {self.url} does not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TranscribeError(f"the gateway at {self.url} cannot be reached: {error}") from error


def _raise_for_problem(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise TranscribeError("the gateway refuses the token; set API_TOKEN to a token of this gateway")
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = NO_GATEWAY
    raise TranscribeError(f"{' '.join(detail.split())} ({response.status_code})")


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise TranscribeError(f"{NO_GATEWAY} ({response.status_code})")
    return body


class _CountedFile:
    """A file that tells how much of it was read."""

    def __init__(self, file: IO[bytes], on_progress: OnProgress) -> None:
        self._file = file
        self._on_progress = on_progress
        self._size = os.fstat(file.fileno()).st_size

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self._on_progress(self._file.tell(), self._size)
        return chunk

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()
