"""Takes recordings through the gateway, many at once: upload, job, transcripts. Cancels the jobs on a signal."""

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.transcribe.gateway_client import Gateway
from app.transcribe.inputs import FORMATS, Recording, TranscribeError, check_file
from app.transcribe.outputs import write_new
from app.transcribe.progress import Display

UPLOADS_AT_ONCE = 4
JOBS_AT_ONCE = 100
# How long the cancels of a Ctrl-C may take. A second one ends the process at once.
CANCEL_S = 15


@dataclass(frozen=True, slots=True)
class Options:
    """The options of all recordings. `paths`: the files to write, by argument and format; None: standard output."""

    model: str
    region: str
    parameters: Mapping[str, Any]
    formats: Sequence[str]
    speakers: bool
    reuse: bool
    paths: Mapping[str, Mapping[str, Path]] | None


@dataclass
class Transcription:
    """One run of the command."""

    gateway: Gateway
    options: Options
    display: Display
    failed: int = 0
    _jobs: dict[str, str] = field(default_factory=dict)  # ids of the jobs that are not final, by label
    _creating: set[asyncio.Task[dict[str, Any]]] = field(default_factory=set)
    _uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS_AT_ONCE))
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(JOBS_AT_ONCE))

    async def run(self, recordings: Sequence[Recording]) -> int:
        """The exit code: 0, 1 if a recording failed, 128 plus the number of the signal that ended the run."""
        received: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        _on_signals(received)
        work = asyncio.gather(*(self._transcribe(each) for each in recordings))
        either: list[asyncio.Future[Any]] = [work, received]
        with self.display.shown():
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if received.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._cancel_jobs()
            return 128 + received.result()
        work.result()
        return 1 if self.failed else 0

    async def _transcribe(self, recording: Recording) -> None:
        try:
            async with self._places:
                job = await self._finished_job(recording)
                await self._write(recording, job)
        except TranscribeError as error:
            self.failed += 1
            self.display.end(recording.label, f"failed: {error.detail}")

    async def _finished_job(self, recording: Recording) -> dict[str, Any]:
        options = self.options
        url = recording.argument if recording.path is None else await self._upload(recording, recording.path)
        body = {
            "file_urls": [url],
            "model": options.model,
            "region": options.region,
            "parameters": options.parameters,
            "reuse": options.reuse,
        }
        creating = asyncio.create_task(self._create(recording.label, body))
        self._creating.add(creating)
        job = await asyncio.shield(creating)
        while job["finished_at"] is None:
            self.display.stage(recording.label, _stage(job))
            job = await self.gateway.job(job["id"])
        self._jobs.pop(recording.label, None)
        return job

    async def _upload(self, recording: Recording, path: Path) -> str:
        check_file(path)
        async with self._uploads:
            self.display.stage(recording.label, "uploading")
            fields = {"model": self.options.model, "region": self.options.region}
            return await self.gateway.upload(
                path, fields, lambda size, total: self.display.sent(recording.label, size, total)
            )

    async def _create(self, label: str, body: Mapping[str, Any]) -> dict[str, Any]:
        job = await self.gateway.create_job(body)
        if job["finished_at"] is None:
            self._jobs[label] = job["id"]
        return job

    async def _write(self, recording: Recording, job: Mapping[str, Any]) -> None:
        (file,) = job["files"]
        if file["status"] != "succeeded":
            error = file["error"] or {"message": f"the job {job['id']} was canceled", "code": "canceled"}
            raise TranscribeError(f"{error['message']} ({error['code']})")
        for name in self.options.formats:
            content = await self._content(file["transcript_id"], name)
            if self.options.paths is None:
                sys.stdout.buffer.write(content if content.endswith(b"\n") or not content else content + b"\n")
                sys.stdout.buffer.flush()
            else:
                await asyncio.to_thread(write_new, self.options.paths[recording.argument][name], content)
        self.display.end(recording.label, self._success(recording, file))

    async def _content(self, transcript_id: str, name: str) -> bytes:
        path, _ = FORMATS[name]
        labelled = self.options.speakers and name in {"text", "srt", "vtt"}
        return await self.gateway.transcript(transcript_id, path, {"speakers": "true"} if labelled else {})

    def _success(self, recording: Recording, file: Mapping[str, Any]) -> str:
        seconds = f"{(file['audio_duration_ms'] or 0) / 1000:.1f} s"
        how = "reused" if file["reused"] else "transcribed"
        if self.options.paths is None:
            return f"{how} {seconds}"
        written = ", ".join(str(path) for path in self.options.paths[recording.argument].values())
        return f"{how} {seconds} to {written}"

    async def _cancel_jobs(self) -> None:
        """Cancel every job that is not final, also those whose creation was under way."""
        self.display.line("interrupted", "canceling the jobs; recognition that has begun is billed")
        try:
            async with asyncio.timeout(CANCEL_S):
                await asyncio.gather(*self._creating, return_exceptions=True)
                await asyncio.gather(*(self._cancel(label, job_id) for label, job_id in self._jobs.items()))
        except TimeoutError:
            self.display.line("interrupted", f"some jobs are not canceled: {', '.join(self._jobs.values())}")

    async def _cancel(self, label: str, job_id: str) -> None:
        try:
            await self.gateway.cancel(job_id)
        except TranscribeError as error:
            self.display.line(label, f"the job {job_id} is not canceled: {error.detail}")
        else:
            self.display.line(label, "canceled")


def _stage(job: Mapping[str, Any]) -> str:
    if reason := job["waiting_reason"]:
        return f"waiting: {reason['code']}"
    return "queued" if job["status"] == "queued" else "recognizing"


def _on_signals(received: "asyncio.Future[int]") -> None:
    """The first signal ends the run. A second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        if not received.done():
            received.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
