"""Fetches results as the poller does: short ones alone, and while long ones arrive. A separate process, prints JSON.

`python -m bench.collection DATABASE_URL RESULTS_URL`.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from uuid import uuid4

import psutil
from sqlalchemy import insert

from app.clients.models import Client
from app.dashscope.budgets import Budgets
from app.dashscope.client import DashScope
from app.dashscope.result_files import results_client
from app.dashscope.transport import http_client
from app.db import create_engine, create_sessions, transaction
from app.identifiers import new_id
from app.logs import configure_logging
from app.poller.batched_calls import batched_calls
from app.poller.context import PollerContext
from app.poller.outcomes import Fetch, Wait
from app.poller.result_fetcher import ResultFetcher
from app.poller.supervisor import Supervisor
from app.queue.leases import Leases
from app.queue.models import Job
from app.queue.polling import PolledTask, TaskFile
from app.queue.results import Result
from app.settings import load_settings
from app.transcripts.storage import insert_transcripts
from app.uploads.links import UploadLinks
from app.webhooks.sender import Sender
from bench.http_readers import growth_of
from bench.statistics import percentile

_URL = "https://example.com/a.wav"
SMALL = 50
EVERY_S = 0.05
LARGE = 4
_LAG_STEP_S = 0.001


class Collection:
    """Fetches and stores results for a job of its own."""

    def __init__(self, fetcher: ResultFetcher, context: PollerContext, results_url: str) -> None:
        self._fetcher = fetcher
        self._context = context
        self._url = results_url
        self.client_id, self.job_id = new_id(), new_id()
        self._index = 0

    async def one(self, name: str) -> float:
        """Fetch and store one result. Returns the seconds it took."""
        self._index += 1
        file = TaskFile(self.job_id, self._index, self.client_id, _URL, _URL, 1, 0)
        task = PolledTask(uuid4(), uuid4(), "task", "fun-asr", "beijing", 2, 0.0, 0.0, [file], [])
        began = time.perf_counter()
        outcomes = [(file, Fetch(f"{self._url}/{name}"))]
        async with aclosing(self._fetcher.fetch(task, outcomes, None, before_large=lambda: None)) as batches:
            async for batch in batches:
                await self._store(batch[0][1])
        return time.perf_counter() - began

    async def some(self) -> list[float]:
        """Fetch SMALL short results, one every EVERY_S. Returns the sorted times."""
        arriving = []
        for _ in range(SMALL):
            arriving.append(asyncio.create_task(self.one("small.json")))
            await asyncio.sleep(EVERY_S)
        return sorted([await each for each in arriving])

    async def _store(self, received: Result | Wait) -> None:
        assert isinstance(received, Result), received
        assert received.transcript is not None, received
        async with transaction(self._context.sessions) as session:
            await insert_transcripts(session, [received.transcript])


async def _bench(database_url: str, results_url: str) -> None:
    async with _collection(database_url, results_url) as collection:
        await asyncio.gather(*(collection.one("small.json") for _ in range(20)))
        alone = await _timed(collection, large=0)
        beside = await _timed(collection, large=LARGE)
    print(json.dumps({"alone": alone, "beside": beside}))


async def _timed(collection: Collection, *, large: int) -> dict[str, float]:
    lags: list[float] = []
    probe = asyncio.create_task(_probe(lags))
    with growth_of(psutil.Process().pid) as grown:
        long = [asyncio.create_task(collection.one("large.json")) for _ in range(large)]
        took = await collection.some()
        took_long = [await each for each in long]
    probe.cancel()
    return {
        "p50_ms": (percentile(took, 0.5) or 0) * 1000,
        "p95_ms": (percentile(took, 0.95) or 0) * 1000,
        "max_ms": took[-1] * 1000,
        "lag_ms": max(lags) * 1000,
        "grown_mb": grown[0],
        "long_s": max(took_long, default=0),
    }


async def _probe(lags: list[float]) -> None:
    """Measure the delay of the event loop: the lateness of a timer."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(_LAG_STEP_S)
        lags.append(time.perf_counter() - began - _LAG_STEP_S)


@asynccontextmanager
async def _collection(database_url: str, results_url: str) -> AsyncIterator[Collection]:
    settings = load_settings({"dashscope_beijing_api_key": "sk-bench", "dashscope_beijing_base_url": results_url})
    engine = create_engine(database_url)
    sessions = create_sessions(engine)
    region = settings.served_regions["beijing"]
    async with http_client() as http, results_client() as results_http:
        client = DashScope(region.accounts[0], region.base_url, http)
        context = PollerContext(
            regions=settings.served_regions,
            upstreams={client.account.id: client},
            sessions=sessions,
            batched=batched_calls(sessions),
            budgets=Budgets(sessions),
            leases=Leases(sessions),
            supervisor=Supervisor(),
            results_http=results_http,
            sender=Sender(settings.webhook_allowed_networks),
            stopping=asyncio.Event(),
            upload_links=UploadLinks(sessions, None),
        )
        collection = Collection(ResultFetcher(context, client), context, results_url)
        async with transaction(sessions) as session:
            await session.execute(insert(Client).values(id=collection.client_id, name="bench", token_sha256=b"bench"))
            await session.execute(insert(Job).values(id=collection.job_id, client_id=collection.client_id, **_JOB))
        yield collection
    await engine.dispose()


_JOB = {
    "model": "fun-asr", "region": "beijing", "requested_region": "auto", "parameters": {}, "metadata_": {},
    "files_total": 1, "files_queued": 1,
}  # fmt: skip

if __name__ == "__main__":
    configure_logging("error")
    asyncio.run(_bench(*sys.argv[1:]))
