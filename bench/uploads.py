"""`make bench-uploads`: uploads beside a plain curl to the same storage, and what OpenAI's protocol adds to a wait.

Targets: at least 0.8 of curl's throughput, with and without a link of 200 Mbit/s between; less than 64 MB more memory
during 1 GB; at most 0.2 s more than `POST /v1/jobs?wait` at p95. A gateway that begins to send only when it has the
whole file cannot reach the target over a link. Without one the CPU is the limit: the gateway parses, hashes, stores and
sends each byte on the same cores as curl and the storage. The storage is the sandbox's. Each figure of throughput is
the best of ROUNDS runs, since other processes on the machine only make a run slower.
"""

import asyncio
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from app.logs import configure_logging
from bench.gateway import TOKEN, Gateway, gateway, stage
from bench.statistics import percentile
from bench.upstream import KEY, Upstream, file_url, upstream

FILE_BYTES = 1000 * 1000 * 1000
LINK_FILE_BYTES = 250 * 1000 * 1000
LINK_RATE = "25M"  # bytes a second, as curl counts them: 26.2 MB/s
ROUNDS = 3
MIN_SHARE = 0.8
MAX_GROWTH_BYTES = 64 * 1024 * 1024
WAITS = 40
MAX_ADDED_S = 0.2
CURL_TIMEOUT_S = 120


def main() -> None:
    configure_logging("error")
    asyncio.run(_bench())


async def _bench() -> None:
    async with stage() as on, upstream(on.new_folder("sandbox")) as storage:
        recording = on.new_folder("recording") / "call.wav"
        await asyncio.to_thread(_write, recording, FILE_BYTES)
        await asyncio.to_thread(_write, recording.with_name("small.wav"), 10**6)
        await asyncio.to_thread(_write, recording.with_name("link.wav"), LINK_FILE_BYTES)
        async with gateway(on, on.new_folder("gateway"), storage) as served:
            met = [
                await _link(storage, served, recording.with_name("link.wav")),
                await _throughput(storage, served, recording),
                await _waits(served),
            ]
    if not all(met):
        raise SystemExit("A target is missed.")


async def _link(storage: Upstream, served: Gateway, recording: Path) -> bool:
    limit = ("--limit-rate", LINK_RATE)
    plain = await _timed(_upload_plainly(storage, recording, *limit))
    share = plain / await _timed(_upload(served, recording, *limit))
    print(f"over a link of {LINK_RATE}B/s: plain curl {plain:.1f} s, gateway {share:.2f} of its throughput")
    return share >= MIN_SHARE


async def _throughput(storage: Upstream, served: Gateway, recording: Path) -> bool:
    plain, through = [], []
    process = psutil.Process(served.poller.process.pid)
    await _upload(served, recording.with_name("small.wav"))  # imports and buffers of a first upload
    before = process.memory_info().rss
    peak = before
    for _ in range(ROUNDS):
        plain.append(await _timed(_upload_plainly(storage, recording)))
        uploading = asyncio.create_task(_timed(_upload(served, recording)))
        while not uploading.done():
            peak = max(peak, process.memory_info().rss)
            await asyncio.wait([uploading], timeout=0.02)
        through.append(uploading.result())
    share, growth = min(plain) / min(through), peak - before
    megabytes = FILE_BYTES / 1e6
    print(f"plain curl {megabytes / min(plain):6.0f} MB/s")
    print(f"gateway    {megabytes / min(through):6.0f} MB/s, {share:.2f} of curl's")
    print(f"memory     {before / 2**20:6.0f} MB before, {growth / 2**20:+.0f} MB during {FILE_BYTES:,} bytes")
    return growth < MAX_GROWTH_BYTES and share >= MIN_SHARE


async def _waits(served: Gateway) -> bool:
    """The time of a request without that of its job, which depends on the poller and on upstream."""
    ways: dict[str, Callable[[int], Awaitable[None]]] = {
        "jobs?wait": lambda number: _wait_for_job(served, number),
        "transcriptions": lambda number: _transcribe(served, number),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(WAITS):
        for offset, (way, call) in enumerate(ways.items()):
            taken[way].append(await _added_s(served, call, 2 * number + offset))
    for way, times in taken.items():
        columns = "  ".join(f"p{share * 100:.0f} {_ms(times, share):5.0f} ms" for share in (0.5, 0.95))
        print(f"{way:15} {columns}")
    added = (_ms(taken["transcriptions"], 0.95) - _ms(taken["jobs?wait"], 0.95)) / 1000
    print(f"added at p95    {added * 1000:5.0f} ms")
    return added <= MAX_ADDED_S


async def _added_s(served: Gateway, call: Callable[[int], Awaitable[None]], number: int) -> float:
    began = time.perf_counter()
    await call(number)
    whole = time.perf_counter() - began
    row = await served.database.fetchrow(
        "SELECT extract(epoch FROM finished_at - created_at)::float8 AS took FROM jobs ORDER BY id DESC LIMIT 1"
    )
    return whole - float(row["took"])


async def _wait_for_job(served: Gateway, number: int) -> None:
    body = {"file_urls": [file_url(number, 0.1)]}
    async with served.http.post("/v1/jobs", params={"wait": 60}, json=body) as response:
        job = await response.json()
        if job.get("status") != "succeeded":
            raise RuntimeError(f"the job did not succeed: {job}")


async def _transcribe(served: Gateway, number: int) -> None:
    form = aiohttp.MultipartWriter("form-data")
    for name, value in {"model": "whisper-1", "url": file_url(number, 0.1)}.items():
        form.append(value).set_content_disposition("form-data", name=name)
    async with served.http.post("/v1/audio/transcriptions", data=form) as response:
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {await response.text()}")
        await response.read()


async def _upload(served: Gateway, recording: Path, *options: str) -> None:
    headers = ["-H", f"Authorization: Bearer {TOKEN}"]
    await _curl(f"{served.url}/v1/uploads", *options, *headers, "-F", "model=fun-asr", "-F", f"file=@{recording}")


async def _upload_plainly(storage: Upstream, recording: Path, *options: str) -> None:
    """As DashScope's own SDK uploads: a policy, then a form with the file as its last part."""
    headers = {"Authorization": f"Bearer {KEY}"}
    url = f"{storage.base_url}/uploads?action=getPolicy&model=fun-asr"
    async with aiohttp.ClientSession(headers=headers) as http, http.get(url) as response:
        policy: dict[str, Any] = (await response.json())["data"]
    fields = {
        "OSSAccessKeyId": policy["oss_access_key_id"],
        "Signature": policy["signature"],
        "policy": policy["policy"],
        "key": f"{policy['upload_dir']}/call.wav",
        "x-oss-object-acl": policy["x_oss_object_acl"],
        "x-oss-forbid-overwrite": policy["x_oss_forbid_overwrite"],
        "success_action_status": "200",
    }
    parts = [part for name, value in fields.items() for part in ("-F", f"{name}={value}")]
    await _curl(policy["upload_host"], *options, *parts, "-F", f"file=@{recording}")


async def _curl(url: str, *options: str) -> None:
    command = ("curl", "--silent", "--show-error", "--fail-with-body", "--max-time", str(CURL_TIMEOUT_S), *options, url)
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    out, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"curl ended with {process.returncode}: {errors.decode()} {out.decode()}")


async def _timed(call: Awaitable[None]) -> float:
    began = time.perf_counter()
    await call
    return time.perf_counter() - began


def _ms(times: Sequence[float], share: float) -> float:
    return (percentile(sorted(times), share) or 0) * 1000


def _write(recording: Path, size: int) -> None:
    with recording.open("wb") as file:
        for _ in range(size // 10**6):
            file.write(bytes(10**6))


if __name__ == "__main__":
    main()
