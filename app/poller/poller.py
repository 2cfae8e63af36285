"""The main loop of the poller: reads what is due and keeps a worker running for each kind of work."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import structlog

from app.catalogue import MODELS
from app.dashscope.budgets import Budgets
from app.dashscope.circuits import Circuit, make_probes_due
from app.dashscope.client import DashScope, upstream_clients
from app.dashscope.result_files import results_client
from app.dashscope.transport import http_client
from app.db import Engine, create_sessions, transaction
from app.errors import DatabaseUnavailable
from app.poller import maintenance
from app.poller.availability import Availability
from app.poller.batched_calls import batched_calls
from app.poller.canceller import Canceller
from app.poller.collector import Collector
from app.poller.context import PollerContext
from app.poller.deliverer import Deliverer
from app.poller.list_watcher import Watcher
from app.poller.metrics import LAST_ROUND, LEASES
from app.poller.pace import Pace
from app.poller.probe import Prober
from app.poller.reconciler import Reconciler
from app.poller.rerouting import reroute
from app.poller.submitter import Submitter
from app.poller.supervisor import Supervisor
from app.queue.blockages import Blocked, publish_blockages
from app.queue.due_work import DueWork, read_due_work
from app.queue.leases import Leases
from app.queue.submit_queues import SubmitQueue, WaitingQueues
from app.queue.wakeup import WakeUp
from app.settings import Settings
from app.uploads.links import UploadLinks
from app.uploads.stores import open_store
from app.webhooks.sender import Sender

DATABASE_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0
# Shorter than the 10 s that container runtimes give between SIGTERM and SIGKILL.
GRACE_S = 8.0
# A database that does not respond must not delay the end of the process: leases expire by themselves.
EXPIRE_LEASES_S = 1.0
LAST_ROUND_S = 1.0

log = structlog.get_logger()


async def run_poller(
    settings: Settings,
    engine: Engine,
    *,
    stop: asyncio.Event,
    wakeup: WakeUp | None = None,
    stored: WakeUp | None = None,
    grace_s: float = GRACE_S,
    pace: Pace | None = None,
) -> None:
    """Advance jobs until `stop` is set. Then finish the work in progress within `grace_s`, end all leases and return.

    `wakeup` tells the poller that files are queued; the poller tells `stored` that results are stored.
    Failures of upstream, the database, its schema or a single task do not raise: the poller waits and tries again.
    """
    async with poller_context(settings, engine, stop, stored, pace=pace) as context:
        poller = Poller(context, wakeup or WakeUp())
        renewal = asyncio.create_task(context.leases.renew_for_ever())
        rounds = asyncio.create_task(poller.run_until_stopped())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({rounds, stopped}, return_when=asyncio.FIRST_COMPLETED)
            # A round takes milliseconds, unless the database does not respond.
            await asyncio.wait({rounds}, timeout=LAST_ROUND_S)
        finally:
            rounds.cancel()
            stopped.cancel()
            await context.supervisor.drain(grace_s)
            renewal.cancel()
            # Before the cancel: canceled work drops its leases from `Leases` without ending them in the database.
            with suppress(TimeoutError):
                async with asyncio.timeout(EXPIRE_LEASES_S):
                    await context.leases.expire()
            await context.supervisor.cancel()
            await asyncio.gather(rounds, return_exceptions=True)


@asynccontextmanager
async def poller_context(
    settings: Settings,
    engine: Engine,
    stop: asyncio.Event,
    stored: WakeUp | None = None,
    *,
    pace: Pace | None = None,
) -> AsyncIterator[PollerContext]:
    """The shared state of one poller. Its HTTP clients are closed at the end of the block."""
    sessions = create_sessions(engine)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(http_client())
        results_http = await stack.enter_async_context(results_client())
        yield PollerContext(
            regions=settings.served_regions,
            upstreams=upstream_clients(settings, http),
            sessions=sessions,
            batched=batched_calls(sessions),
            budgets=Budgets(sessions),
            leases=Leases(sessions),
            supervisor=Supervisor(),
            results_http=results_http,
            sender=Sender(settings.webhook_allowed_networks),
            stopping=stop,
            stored=stored or WakeUp(),
            upload_links=UploadLinks(sessions, open_store(settings.upload_store, settings.public_url)),
            pace=pace or Pace(),
            retention_days=settings.retention_days,
            budget_assumed_s=settings.budget_assumed_seconds,
        )


class Poller:
    """The rounds of one poller. All state that must survive is in PostgreSQL."""

    def __init__(self, context: PollerContext, wakeup: WakeUp) -> None:
        self._context = context
        self._wakeup = wakeup
        upstreams = context.upstreams
        self._watchers = {
            account: Watcher(context, upstream, on_ended=partial(self._poll, account))
            for account, upstream in upstreams.items()
        }
        self._collectors = {
            account: Collector(context, upstream, self._watchers[account]) for account, upstream in upstreams.items()
        }
        self._reconcilers = {account: Reconciler(context, upstream) for account, upstream in upstreams.items()}
        self._cancellers = {account: Canceller(context, upstream) for account, upstream in upstreams.items()}
        self._probers = {account: Prober(context, upstream) for account, upstream in upstreams.items()}
        self._deliverer = Deliverer(context)
        self._submitters: dict[tuple[str, str, bool], Submitter] = {}
        self._accounts: dict[str, set[str]] = {region: context.accounts_of(region) for region in context.regions}
        self._queues = WaitingQueues()
        self._has_begun = False
        # The blockages that were published last. None: not known.
        self._blocked: list[Blocked] | None = None
        self._last_round_at = 0.0
        self._periodic_work = maintenance.periodic_work(context)
        self._due_at: defaultdict[str, float] = defaultdict(float)

    async def run_until_stopped(self) -> None:
        """Repeat rounds until told to stop. After a failed round there is a pause.

        The database may be unavailable or lack the schema that this version needs. An operator has to act on that;
        ending the process would only restart it. A failure is logged with its traceback once.
        """
        logged = ""
        failures = 0
        while not self._context.stopping.is_set():
            try:
                await self.round()
                logged, failures = "", 0
            except DatabaseUnavailable as error:
                log.debug("round failed", reason=error.reason)
                await self._context.pause(DATABASE_PAUSE_S)
            except Exception as error:
                if repr(error) != logged:
                    log.exception("round failed; the poller tries again")
                    logged = repr(error)
                failures += 1
                await self._context.pause(min(DATABASE_PAUSE_S * 2 ** min(failures - 1, 10), MAX_PAUSE_S))
            await self._rest()

    async def round(self) -> None:
        """Read what is due, and start the workers for it."""
        self._last_round_at = time.monotonic()
        async with transaction(self._context.sessions, autocommit=True) as session:
            if not self._has_begun:
                await make_probes_due(session, list(self._context.upstreams))
            due_work = await read_due_work(
                session, {account: watcher.late_s for account, watcher in self._watchers.items()}, self._queues
            )
        self._has_begun = True
        availability = Availability(self._accounts, due_work.circuits)
        await self._reroute(due_work, availability)
        LAST_ROUND.set(time.time())
        LEASES.set(self._context.leases.held)
        self._start_submitters(due_work, availability)
        self._start_probers(due_work, availability)
        self._start_account_workers(due_work)
        if due_work.deliveries:
            self._context.supervisor.ensure_running("deliver", self._deliverer.run)
        self._start_periodic_work()

    async def _reroute(self, due_work: DueWork, availability: Availability) -> None:
        """Move or fail files that cannot be submitted where they wait, and publish why they wait."""
        blocked = availability.blocked(due_work.waiting, due_work.waiting_for_account)
        if not due_work.circuits and not blocked and blocked == self._blocked:
            return
        async with transaction(self._context.sessions) as session:
            await reroute(session, due_work.waiting, availability)
            if blocked != self._blocked:
                await publish_blockages(session, blocked)
        self._blocked = blocked

    def _start_periodic_work(self) -> None:
        for work in self._periodic_work:
            if time.monotonic() >= self._due_at[work.name]:
                self._due_at[work.name] = time.monotonic() + work.every_s
                self._context.supervisor.ensure_running(work.name, work.run)

    async def _rest(self) -> None:
        """Wait for the next round: `Pace.round_s`, or less if the poller is woken or told to stop."""
        woken = asyncio.create_task(self._wakeup.wait(self._context.pace.round_s))
        stopped = asyncio.create_task(self._context.stopping.wait())
        await asyncio.wait({woken, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for waiter in (woken, stopped):
            waiter.cancel()
        await asyncio.gather(woken, stopped, return_exceptions=True)
        await self._context.pause(self._last_round_at + self._context.pace.min_round_s - time.monotonic())

    def _start_submitters(self, due_work: DueWork, availability: Availability) -> None:
        for region_name, model in due_work.waiting:
            for account, upstream in self._context.upstreams.items():
                if upstream.account.region == region_name:
                    self._start_submitter(account, model, availability)
        for _, model, account in due_work.waiting_for_account:
            if account in self._context.upstreams:
                self._start_submitter(account, model, availability, own=True)

    def _start_submitter(self, account: str, model: str, availability: Availability, *, own: bool = False) -> None:
        if model in MODELS and availability.circuit(account, model) is None:
            submitter = self._submitter(self._context.upstreams[account], model, own=own)
            self._context.supervisor.ensure_running(("submit", account, model, own), submitter.run)

    def _start_probers(self, due_work: DueWork, availability: Availability) -> None:
        for circuit in availability.open_circuits:
            if not circuit.probe_due or (circuit.model and availability.has_own_circuit(circuit.account, "")):
                continue
            submitters = self._probe_submitters(circuit, due_work, availability)
            if submitters or not circuit.model:  # only a submit shows whether a model is granted
                run = partial(self._probers[circuit.account].run, circuit, submitters)
                self._context.supervisor.ensure_running(("probe", circuit.account, circuit.model), run)

    def _probe_submitters(self, circuit: Circuit, due_work: DueWork, availability: Availability) -> list[Submitter]:
        """The submitters of queued files that can show whether the circuit may close."""
        upstream = self._context.upstreams[circuit.account]
        waiting = [model for region, model in due_work.waiting if region == upstream.account.region and model in MODELS]
        if circuit.model:
            waiting = [model for model in waiting if model == circuit.model]
        else:
            waiting = [model for model in waiting if not availability.has_own_circuit(circuit.account, model)]
        own = [model for _, model, account in due_work.waiting_for_account if account == circuit.account]
        return [
            self._submitter(upstream, model, own=only)
            for model in waiting
            for only in ((False, True) if model in own else (False,))
        ]

    def _submitter(self, upstream: DashScope, model: str, *, own: bool = False) -> Submitter:
        """`own`: of the files that only this account may submit."""
        account = upstream.account.id
        key = (account, model, own)
        if key not in self._submitters:
            region, known = self._context.region_of(upstream), MODELS[model]
            max_files = known.max_files_per_task
            submit_queue = SubmitQueue(
                account=account,
                region=region.name,
                model=model,
                max_files=max_files if max_files == 1 else region.max_files_per_task or max_files,
                submits_per_s=(1 if own else len(region.accounts)) * (region.submit_rps or known.submit_rps),
                own=own,
                budget_assumed_s=self._context.budget_assumed_s,
            )
            self._submitters[key] = Submitter(self._context, upstream, submit_queue, self._collectors[account])
        return self._submitters[key]

    def _start_account_workers(self, due_work: DueWork) -> None:
        ensure_running = self._context.supervisor.ensure_running
        for due in due_work.accounts:
            watcher = self._watchers[due.account]
            watcher.note_running(due.running)
            if watcher.listing:
                ensure_running(("watch", due.account), watcher.run)
            if due.poll:
                self._poll(due.account)
            if due.reconcile:
                ensure_running(("reconcile", due.account), self._reconcilers[due.account].run)
            if due.cancel:
                ensure_running(("cancel", due.account), self._cancellers[due.account].run)

    def _poll(self, account: str) -> None:
        self._context.supervisor.ensure_running(("poll", account), self._collectors[account].run)
