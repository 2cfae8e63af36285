"""Runs every curl command of `docs/api.md` in a shell, against a live gateway and sandbox."""

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.api.page import VARIABLES, Call, calls, operation_of, operations_of
from tests.api_fixtures import ADMIN_TOKEN
from tests.processes import running, running_sandbox
from tests.webhooks.receiver import Receiver, receiver

PATIENCE_S = 60
HOOK = "https://example.com/hooks/asr"
# Makes curl print the status after the body.
CURLRC = 'silent\nshow-error\nwrite-out = "%{stderr}%{http_code}"\n'

pytestmark = pytest.mark.skipif(
    shutil.which("curl") is None and not os.environ.get("CHECK_SKIPS_NOTHING"), reason="there is no curl"
)


@dataclass
class Reader:
    """Runs the commands in the folder where the gateway was started."""

    http: httpx.AsyncClient
    hook: Receiver

    async def ids_for(self, operation: str, ids: dict[str, str]) -> dict[str, str]:
        """Creates resources in the state that the call needs; `ids` are used for calls that change nothing."""
        match operation:
            case "streamJobEvents":
                return {"JOB": await self.job()}
            case "cancelJob":
                return {"JOB": await self.job("?sandbox=run:600")}
            case "retryJob":
                return {"JOB": (await self.done("?sandbox=fail:DECODE_ERROR"))["JOB"]}
            case "deleteJob" | "deleteTranscript":
                return await self.done()
            case "getUpload" | "deleteUpload":
                created = await self.http.post("/v1/uploads", files={"file": ("a.wav", b"RIFF")})
                return {"UPLOAD": str(created.json()["id"])}
            case "getVocabulary" | "updateVocabulary" | "deleteVocabulary":
                ids = {"VOCABULARY": await self.vocabulary()}
        return ids

    async def vocabulary(self) -> str:
        words = {"target_model": "fun-asr", "prefix": "a", "vocabulary": [{"text": "word", "weight": 4}]}
        created = await self.http.post("/v1/vocabularies", json=words)
        return str(created.json()["id"])

    async def job(self, directive: str = "") -> str:
        body = {"file_urls": [f"https://example.com/a.wav{directive}"], "webhook_url": self.hook.url()}
        created = await self.http.post("/v1/jobs", json=body)
        return str(created.json()["id"])

    async def done(self, directive: str = "") -> dict[str, str]:
        job = (await self.http.get(f"/v1/jobs/{await self.job(directive)}?wait=60")).json()
        assert job["finished_at"], job
        deliveries = (await self.http.get(f"/v1/jobs/{job['id']}/deliveries")).json()["items"]
        return {
            "JOB": job["id"],
            "TRANSCRIPT": job["files"][0]["transcript_id"] or "none",
            "DELIVERY": deliveries[0]["id"],
        }

    async def client(self) -> str:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        created = await self.http.post("/v1/clients", json={"name": "somebody"}, headers=headers)
        return str(created.json()["id"])

    async def run(self, call: Call, ids: dict[str, str]) -> str:
        """The status that curl prints, or its error."""
        variables = VARIABLES.replace("http://127.0.0.1:8000", str(self.http.base_url).rstrip("/"))
        process = await asyncio.create_subprocess_exec(
            *("sh", "-euc", f"{variables}\n{call.command.replace(HOOK, self.hook.url())}"),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env={"PATH": os.environ["PATH"], "CURL_HOME": str(Path.cwd()), "ADMIN_TOKEN": ADMIN_TOKEN, **ids},
        )
        async with asyncio.timeout(PATIENCE_S):
            _, output = await process.communicate()
        return output.decode() if process.returncode == 0 else f"exit {process.returncode}: {output.decode()}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Working folder of gateway and curl."""
    (tmp_path / ".curlrc").write_text(CURLRC)
    (tmp_path / "recording.wav").write_bytes(b"RIFF")
    return tmp_path


@pytest.fixture
async def reader(database_url: str, folder: Path) -> AsyncIterator[Reader]:
    settings = {
        "DATABASE_URL": database_url,
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "PORT": "0",
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32",
    }
    async with running_sandbox() as upstream, receiver() as hook, running("serve", **settings, **upstream) as server:
        url = await server.url()
        headers = {"Authorization": f"Bearer {(folder / 'data' / 'api_token').read_text().strip()}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_S) as http:
            yield Reader(http, hook)


async def test_every_curl_does_what_the_page_says(reader: Reader, folder: Path) -> None:
    operations = operations_of((await reader.http.get("/openapi.json")).json())
    ids = {**await reader.done(), "CLIENT": await reader.client()}
    before, wrong = set(os.listdir(folder)), []  # noqa: PTH208
    for call in calls():
        operation = operations[operation_of(call, operations)]["operationId"]
        status = await reader.run(call, await reader.ids_for(operation, ids))
        if status != str(call.status):
            wrong.append(f"{call.command}\n→ {status}")
    assert not wrong, "\n\n".join(wrong)
    # The reader's folder may be a checkout: the examples leave no files there.
    assert set(os.listdir(folder)) == before  # noqa: PTH208
    assert any("webhook.test" in event.body for event in reader.hook.received)
