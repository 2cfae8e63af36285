"""Deleted and purged data is gone from all rows, files and log lines of a running gateway."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from uuid import UUID

import asyncpg
import httpx
import pytest

from app.identifiers import lowest_id_at
from app.sandbox import SandboxConfig, running_sandbox
from tests.api.snapshot import committed_document
from tests.leak_scan import leaks_in_database, leaks_in_folder
from tests.processes import Running, running
from tests.webhooks.receiver import Receiver, receiver

# The text of DashScope's sample recording, which the sandbox returns.
PHRASE = "阿里巴巴语音实验室"
RECORDING = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav"
SIGNATURE = "signature-of-the-test"
LABEL = "label-of-the-test"
TOKEN = "a-token-of-the-test"
# The usage outlives the job with its metadata, by which it is grouped.
KEPT = {LABEL: {"usage.metadata"}}
FORMS = [path for path in committed_document()["paths"] if path.startswith("/v1/transcripts/{transcript_id}")]


class RunningGateway(NamedTuple):
    process: Running
    http: httpx.AsyncClient
    hook: Receiver
    data_dir: Path

    @property
    def database_url(self) -> str:
        socket_dir = (self.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[4]
        password = (self.data_dir / "postgres.private" / "password").read_text().strip()
        return f"postgresql://postgres:{password}@/postgres?host={quote(socket_dir, safe='')}"

    @property
    def log(self) -> str:
        return self.process.stdout + self.process.stderr


class Deployment(NamedTuple):
    """A DATA_DIR without data, a sandbox and a webhook receiver."""

    data_dir: Path
    upstream: str
    hook: Receiver

    @asynccontextmanager
    async def serve(self, **settings: str) -> AsyncIterator[RunningGateway]:
        """Run `serve` with debug logs."""
        async with (
            running(
                "serve",
                PORT="0",
                DATA_DIR=str(self.data_dir),
                API_TOKEN=TOKEN,
                LOG_LEVEL="debug",
                DASHSCOPE_BEIJING_API_KEY="sk-sandbox-beijing",
                DASHSCOPE_BEIJING_BASE_URL=self.upstream,
                WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8,::1/128",
                **settings,
            ) as gateway,
            httpx.AsyncClient(
                base_url=await gateway.url(), headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
            ) as http,
        ):
            yield RunningGateway(gateway, http, self.hook, self.data_dir)


@pytest.fixture
async def deployment(used_data_dir: Path) -> AsyncIterator[Deployment]:
    async with running_sandbox(SandboxConfig(queue_s=0.05, run_s=0.05)) as sandbox, receiver() as hook:
        yield Deployment(used_data_dir, sandbox.base_url("beijing"), hook)


async def transcribe(gateway: RunningGateway) -> tuple[str, str]:
    """Transcribe a file. Returns the paths of the job and of its transcript."""
    request = {
        "file_urls": [f"{RECORDING}?Signature={SIGNATURE}"],
        "metadata": {"call": LABEL},
        "webhook_url": gateway.hook.url(),
    }
    job = (await gateway.http.post("/v1/jobs?wait=60", json=request)).json()
    assert job["status"] == "succeeded"
    await gateway.hook.got()
    return f"/v1/jobs/{job['id']}", f"/v1/transcripts/{job['files'][0]['transcript_id']}"


async def read_all_forms(gateway: RunningGateway, transcript: str) -> None:
    for form in FORMS:
        response = await gateway.http.get(form.replace("/v1/transcripts/{transcript_id}", transcript))
        assert response.status_code == 200, form
    assert PHRASE in (await gateway.http.get(transcript)).text
    assert await leaks_in_database(gateway.database_url, PHRASE), "the scan finds nothing"


@pytest.mark.parametrize("way", ["job", "transcript"])
async def test_deleted_data_leaves_no_trace(deployment: Deployment, way: str) -> None:
    async with deployment.serve() as gateway:
        job, transcript = await transcribe(gateway)
        await read_all_forms(gateway, transcript)
        assert (await gateway.http.delete(job if way == "job" else transcript)).status_code == 204
        for mark in (PHRASE, SIGNATURE, LABEL) if way == "job" else (PHRASE,):
            assert await leaks_in_database(gateway.database_url, mark) == KEPT.get(mark, set())
        assert PHRASE not in gateway.hook.received[0].body
        assert await gateway.process.stop() == 0
    assert leaks_in_folder(deployment.data_dir, PHRASE) == set()
    for mark in (PHRASE, SIGNATURE, LABEL):
        assert mark not in gateway.log


async def test_purged_data_leaves_no_trace(deployment: Deployment) -> None:
    async with deployment.serve() as before:
        job, transcript = await transcribe(before)
        await read_all_forms(before, transcript)
        await make_older(before.database_url, UUID(job.rpartition("/")[2]), timedelta(days=2))
        assert await before.process.stop() == 0
    async with deployment.serve(RETENTION_DAYS="1") as after:
        await after.process.line_with('"jobs purged"')
        assert (await after.http.get(transcript)).status_code == 404
        assert (await after.http.get("/v1/search", params={"q": PHRASE})).json()["items"] == []
        for mark in (PHRASE, SIGNATURE, LABEL):
            assert await leaks_in_database(after.database_url, mark) == KEPT.get(mark, set())
        assert await after.process.stop() == 0
    assert leaks_in_folder(deployment.data_dir, PHRASE) == set()
    for mark in (PHRASE, SIGNATURE, LABEL):
        assert mark not in before.log + after.log


async def make_older(database_url: str, job_id: UUID, by: timedelta) -> None:
    """Move the creation of a job into the past, including the time in its id."""
    connection = await asyncpg.connect(database_url)  # type: ignore[no-untyped-call]
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")  # disables foreign keys
            older = lowest_id_at(datetime.now(UTC) - by)
            for table in await connection.fetch(_BELONGING):
                await connection.execute(f"UPDATE {table[0]} SET job_id = $1 WHERE job_id = $2", older, job_id)  # noqa: S608 - from the catalogue
            await connection.execute(_MAKE_OLDER, older, by, job_id)
    finally:
        await connection.close()


_BELONGING = """
    SELECT quote_ident(table_name) FROM information_schema.columns
    WHERE table_schema = 'public' AND column_name = 'job_id'
"""

_MAKE_OLDER = """
    UPDATE jobs SET id = $1, created_at = created_at - $2::interval, started_at = started_at - $2::interval,
        finished_at = finished_at - $2::interval
    WHERE id = $3
"""
