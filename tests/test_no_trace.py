"""What was said is gone once it is deleted: from every row, every file and every log line of a gateway at work."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest

from app.db import Sessions, transaction
from app.poller.purge import purge_some
from app.sandbox import SandboxConfig, running_sandbox
from tests.api.snapshot import any_app
from tests.poller.conftest import Desk, desk  # noqa: F401 - a fixture
from tests.poller.test_purge import DAYS, add_old
from tests.processes import Running, data_folder, running
from tests.traces import traces_in_database, traces_in_folder
from tests.transcripts.documents import sample
from tests.transcripts.test_routes import store
from tests.webhooks.receiver import Receiver, receiver

# What the vendor's recording says, and so the sandbox.
PHRASE = "阿里巴巴语音实验室"
RECORDING = "https://dashscope.oss-cn-beijing.aliyuncs.com/samples/audio/paraformer/hello_world_female2.wav"
SIGNATURE = "signature-of-the-test"
LABEL = "label-of-the-test"
TOKEN = "a-token-of-the-test"
FORMS = [path for path in any_app().openapi()["paths"] if path.startswith("/v1/transcripts/{transcript_id}")]


class AtWork(NamedTuple):
    gateway: Running
    http: httpx.AsyncClient
    hook: Receiver
    data_dir: Path

    @property
    def database_url(self) -> str:
        socket_dir = (self.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[4]
        return f"postgresql://postgres@/postgres?host={quote(socket_dir, safe='')}"


@pytest.fixture
async def at_work() -> AsyncIterator[AtWork]:
    """`serve` with an empty folder and the sandbox for upstream, as talkative as it can be."""
    with data_folder() as data_dir:
        async with (
            running_sandbox(SandboxConfig(queue_s=0.05, run_s=0.05)) as sandbox,
            receiver() as hook,
            running(
                "serve",
                PORT="0",
                DATA_DIR=str(data_dir),
                API_TOKEN=TOKEN,
                LOG_LEVEL="debug",
                DASHSCOPE_BEIJING_API_KEY="sk-sandbox-beijing",
                DASHSCOPE_BEIJING_BASE_URL=sandbox.base_url("beijing"),
                WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8,::1/128",
            ) as gateway,
            httpx.AsyncClient(
                base_url=await gateway.url(), headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
            ) as http,
        ):
            yield AtWork(gateway, http, hook, data_dir)


async def transcribe(at_work: AtWork) -> tuple[str, str]:
    """The path of a job that is done, and of its transcript."""
    asked = {
        "file_urls": [f"{RECORDING}?Signature={SIGNATURE}"],
        "metadata": {"call": LABEL},
        "webhook_url": at_work.hook.url(),
    }
    job = (await at_work.http.post("/v1/jobs?wait=60", json=asked)).json()
    assert job["status"] == "succeeded"
    await at_work.hook.got()
    return f"/v1/jobs/{job['id']}", f"/v1/transcripts/{job['files'][0]['transcript_id']}"


@pytest.mark.parametrize("way", ["job", "transcript"])
async def test_nothing_is_left_of_what_was_said(at_work: AtWork, way: str) -> None:
    job, transcript = await transcribe(at_work)
    for form in FORMS:
        answer = await at_work.http.get(form.replace("/v1/transcripts/{transcript_id}", transcript))
        assert answer.status_code == 200, form
    assert PHRASE in (await at_work.http.get(transcript)).text
    assert await traces_in_database(at_work.database_url, PHRASE), "else this test would see nothing"
    assert (await at_work.http.delete(job if way == "job" else transcript)).status_code == 204
    for mark in (PHRASE, SIGNATURE, LABEL) if way == "job" else (PHRASE,):
        assert await traces_in_database(at_work.database_url, mark) == set()
    assert PHRASE not in at_work.hook.received[0].body
    assert await at_work.gateway.stop() == 0
    assert traces_in_folder(at_work.data_dir, PHRASE) == set()
    for mark in (PHRASE, SIGNATURE, LABEL):
        assert mark not in at_work.gateway.stdout + at_work.gateway.stderr


async def test_nothing_is_left_of_what_was_purged(desk: Desk, database_url: str) -> None:  # noqa: F811 - the fixture
    job: UUID = await add_old(desk)
    await store(desk.sessions, desk.client_id, sample("funasr_female2_seed"), job_id=job)
    assert await traces_in_database(database_url, PHRASE)
    assert await _purged(desk.sessions) == 1
    assert await traces_in_database(database_url, PHRASE) == set()


async def _purged(sessions: Sessions) -> int:
    async with transaction(sessions) as session:
        return (await purge_some(session, DAYS)).jobs
