"""Transcribes sample recordings over HTTP, on a temporary database and port. Also useful as a smoke test.

Two recordings with Fun-ASR, as text and SRT. Then a local file, one recording with Paraformer, and one with SenseVoice,
which adds emotions.
"""

import asyncio
import io
import math
import wave
from array import array
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx

from app.clients.tokens import new_token
from app.errors import GatewayError
from app.sandbox import running_sandbox
from app.server import run, startup
from app.settings import load_settings

SAMPLES = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio"
FILE_URLS = [f"{SAMPLES}/paraformer/hello_world_female2.wav", f"{SAMPLES}/paraformer/hello_world_male2.wav"]
RICH_FILE_URL = f"{SAMPLES}/sensevoice/rich_text_example_1.wav"
WAIT_S = 60
READY_ATTEMPTS = 200


class DemoFailed(GatewayError):
    """A request failed, or a job did not succeed; the detail says why."""

    code = "demo_failed"


def run_demo() -> None:
    """Print the transcripts of two sample recordings. Raises GatewayError, SettingsError or StartError."""
    overrides = {"data_dir": startup.temporary_data_dir("demo"), "database_url": None, "host": "127.0.0.1", "port": 0}
    _print("Starting a temporary PostgreSQL and gateway …")
    url = startup.open_database(load_settings(overrides))
    startup.migrate_database(url)
    run.run(_demo(overrides, url))


async def _demo(overrides: dict[str, Any], database_url: str) -> None:
    async with AsyncExitStack() as stack:
        settings = load_settings(overrides)
        if settings.served_regions:
            _print("Upstream is DashScope with your key. The recordings cost about 0.015 CNY.")
        else:
            sandbox = await stack.enter_async_context(running_sandbox())
            settings = load_settings(overrides | sandbox.overrides)
            _print("Upstream is the bundled sandbox. Set DASHSCOPE_BEIJING_API_KEY to use DashScope.")
        listener = stack.enter_context(startup.bind(settings.host, settings.port))
        token = new_token()
        main = partial(_transcribe, run.address(listener), token)
        await run.run_gateway(settings, database_url, listener, token, main=main)


async def _transcribe(gateway_url: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=gateway_url, headers=headers, timeout=WAIT_S + 10) as client:
        await _wait_until_ready(client)
        _print(f"POST {gateway_url}/v1/jobs?wait={WAIT_S} with {len(FILE_URLS)} recordings, model fun-asr …")
        job = await _run_job(client, {"model": "fun-asr", "file_urls": FILE_URLS})
        _print(f"Job {job['id']}: {job['status']}, {job['audio_duration_ms'] / 1000:.1f} s of speech.")
        for file in job["files"]:
            await _print_transcript(client, file)
        # Not every region has temporary storage, the other models are offered in Beijing only, and SenseVoice is to be
        # retired: the demo does without them.
        for show in (_show_local_file, _show_paraformer, _show_sensevoice):
            try:
                await show(client)
            except DemoFailed as error:
                _print(error.detail)


async def _run_job(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    job: dict[str, Any] = _raise_for_error(await client.post("/v1/jobs", params={"wait": WAIT_S}, json=body)).json()
    if job["status"] != "succeeded":
        raise DemoFailed(_failure(job))
    return job


async def _show_local_file(client: httpx.AsyncClient) -> None:
    _print("\n── tone.wav, a local file of one second: POST /v1/uploads, then a job with its file_url")
    sent = await client.post("/v1/uploads", files={"file": ("tone.wav", _tone())}, data={"model": "fun-asr"})
    upload = _raise_for_error(sent).json()
    job = await _run_job(client, {"file_urls": [upload["file_url"]]})
    transcript = f"/v1/transcripts/{job['files'][0]['transcript_id']}"
    _print(_raise_for_error(await client.get(f"{transcript}/text")).text.strip() or "(no speech)")


def _tone() -> bytes:
    """A second of 440 Hz as WAV."""
    rate = 16_000
    samples = array("h", (int(8_000 * math.sin(2 * math.pi * 440 * number / rate)) for number in range(rate)))
    file = io.BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(samples.itemsize)
        audio.setframerate(rate)
        audio.writeframes(samples.tobytes())
    return file.getvalue()


async def _show_paraformer(client: httpx.AsyncClient) -> None:
    _print("\n── the first recording with paraformer-v2")
    job = await _run_job(
        client,
        {"model": "paraformer-v2", "file_urls": FILE_URLS[:1], "parameters": {"language_hints": ["zh", "en"]}},
    )
    transcript = f"/v1/transcripts/{job['files'][0]['transcript_id']}"
    _print(_raise_for_error(await client.get(f"{transcript}/text")).text.strip())


async def _show_sensevoice(client: httpx.AsyncClient) -> None:
    _print("\n── rich_text_example_1.wav with sensevoice-v1: emotion, events, text")
    job = await _run_job(
        client, {"model": "sensevoice-v1", "file_urls": [RICH_FILE_URL], "parameters": {"language_hints": ["en"]}}
    )
    transcript = f"/v1/transcripts/{job['files'][0]['transcript_id']}"
    for sentence in _raise_for_error(await client.get(f"{transcript}/sentences")).json()["items"]:
        tags = [*sentence.get("emotion", ["-"]), *sentence.get("event", [])]
        _print(f"{', '.join(tags)}: {sentence['text']}")


async def _wait_until_ready(client: httpx.AsyncClient) -> None:
    for _ in range(READY_ATTEMPTS):
        try:
            if (await client.get("/readyz")).is_success:
                return
        except httpx.ConnectError:
            pass
        await asyncio.sleep(0.05)
    raise DemoFailed("The gateway did not become ready.")


async def _print_transcript(client: httpx.AsyncClient, file: dict[str, Any]) -> None:
    name = urlsplit(file["url"]).path.rpartition("/")[2]
    transcript = f"/v1/transcripts/{file['transcript_id']}"
    text = _raise_for_error(await client.get(f"{transcript}/text")).text
    srt = _raise_for_error(await client.get(f"{transcript}/srt")).text
    _print(f"\n── {name} as text\n{text.strip()}\n\n── {name} as SRT\n{srt.strip()}")


def _raise_for_error(response: httpx.Response) -> httpx.Response:
    if response.is_error:
        raise DemoFailed(
            f"{response.request.method} {response.request.url.path} failed with {response.status_code}: {response.text}"
        )
    return response


def _failure(job: dict[str, Any]) -> str:
    reasons = {file["error"]["message"] for file in job["files"] if file["error"]}
    return f"The job is {job['status']} after {WAIT_S} s: {'; '.join(sorted(reasons)) or 'no file has an error'}"


def _print(text: str) -> None:
    print(text, flush=True)
