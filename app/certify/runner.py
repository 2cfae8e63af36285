"""Runs the probes of the regions side by side, within a deadline, then judges the evidence."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from app.catalogue import REGIONS, RegionName
from app.certify.checks import CHECKS
from app.certify.evidence import Evidence, Exchange
from app.certify.probes.account import delete_vocabulary, probe_errors, probe_key, probe_vocabulary
from app.certify.probes.results import probe_results
from app.certify.probes.session import ProbeSession
from app.certify.probes.storage import probe_storage
from app.certify.probes.submits import poll_to_the_end, probe_main_task, probe_other_submits
from app.certify.probes.task_list import probe_list
from app.certify.recorder import RecordingTransport
from app.certify.registry import CheckResult, judge
from app.certify.spending import RunBudget
from app.certify.upstream import RunTimes, Upstream
from app.dashscope.transport import no_cookies
from app.settings import Settings
from app.tls import ssl_context

Record = Callable[[Exchange], None]


@dataclass(frozen=True, slots=True)
class Run:
    """The results of one region, by its first account."""

    region: str
    account: str
    base_url: str
    results: Sequence[CheckResult]


async def certify(
    settings: Settings,
    regions: Sequence[RegionName],
    *,
    times: RunTimes | None = None,
    budget: RunBudget | None = None,
    record: Record | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> list[Run]:
    """Check the regions, which must have keys. Raises KeyRefused before anything is submitted.

    However it ends, tasks that still wait are canceled, and the lists of hot words that it made are deleted.
    """
    times, budget = times or RunTimes(), budget or RunBudget()
    async with AsyncExitStack() as stack:
        sessions = []
        for name in regions:
            region = settings.served_regions[name]
            evidence = Evidence(name, region.accounts[0].id, region.base_url, times.max_list_lag_s)
            http = await stack.enter_async_context(_http_client(_keeper(evidence, record), transport))
            upstream = Upstream(region.accounts[0], region.base_url, http, times, evidence)
            sessions.append(ProbeSession(name, upstream, evidence, budget))
        for session in sessions:
            with session.probing("*"):
                await probe_key(session)
        return await asyncio.gather(*(_run(session, _other_base_url(settings, session.region)) for session in sessions))


def _keeper(evidence: Evidence, record: Record | None) -> Record:
    def keep(exchange: Exchange) -> None:
        evidence.exchanges.append(exchange)
        if record is not None:
            record(exchange)

    return keep


def _other_base_url(settings: Settings, region: str) -> str:
    return settings.base_url(next(name for name in REGIONS if name != region))


async def _run(session: ProbeSession, other_base_url: str) -> Run:
    evidence, times = session.evidence, session.upstream.times
    try:
        async with asyncio.timeout(times.run_s):
            if "*" not in evidence.missing:  # the region responds
                await _probe(session, other_base_url)
    except TimeoutError:
        evidence.missing["*"] = f"the run ended after {times.run_s:g} s"
    finally:
        await _clean_up(session)
    return Run(evidence.region, evidence.account, evidence.base_url, [judge(check, evidence) for check in CHECKS])


async def _probe(session: ProbeSession, other_base_url: str) -> None:
    await probe_errors(session, other_base_url)
    await probe_main_task(session)
    await probe_other_submits(session)
    await probe_storage(session)
    await probe_vocabulary(session)
    await poll_to_the_end(session)
    await probe_list(session)
    await probe_results(session)


async def _clean_up(session: ProbeSession) -> None:
    """Cancel what still waits, and delete the lists of hot words. Running tasks cannot be stopped."""
    try:
        async with asyncio.timeout(session.upstream.times.cleanup_s):
            for task in session.evidence.tasks.values():
                if task.task_id is not None and not task.has_ended:
                    with session.probing():
                        await session.upstream.cancel(task.task_id)
            for vocabulary_id in list(session.vocabularies):
                with session.probing():
                    await delete_vocabulary(session, vocabulary_id)
    except TimeoutError:
        return


@asynccontextmanager
async def _http_client(keep: Record, transport: httpx.AsyncBaseTransport | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client that records. Like the gateway's: no proxies of the environment, no redirects, no cookies."""
    inner = transport or httpx.AsyncHTTPTransport(verify=ssl_context(), trust_env=False)
    async with httpx.AsyncClient(
        transport=RecordingTransport(inner, keep),
        timeout=httpx.Timeout(30, connect=10),
        follow_redirects=False,
        cookies=no_cookies(),
        headers={"Accept-Encoding": "gzip"},
    ) as client:
        yield client
