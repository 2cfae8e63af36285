"""The poller: reads the due_work, keeps a worker going for whatever is on it, and drains when told to stop."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.catalogue import MODELS
from app.dashscope.budgets import Budgets
from app.dashscope.circuits import Circuit, make_probes_due
from app.dashscope.client import DashScope, http_client
from app.dashscope.result_files import results_client
from app.db import Sessions, create_sessions, transaction
from app.errors import DatabaseUnavailable
from app.poller.availability import Availability, Blocked
from app.poller.canceller import Canceller
from app.poller.collector import Collector
from app.poller.context import PollerContext
from app.poller.deliverer import Deliverer
from app.poller.index import index, segment_old
from app.poller.list_watcher import Watcher
from app.poller.measure import measure
from app.poller.probe import Prober
from app.poller.purge import purge
from app.poller.reconciler import Reconciler
from app.poller.rerouting import publish, reroute
from app.poller.submitter import Submitter
from app.poller.supervisor import Supervisor
from app.poller.tidy import tidy
from app.queue.claiming import SubmitQueue
from app.queue.due_work import DueWork, read_due_work
from app.queue.leases import Leases
from app.queue.wakeup import WakeUp
from app.settings import Settings
from app.webhooks.sender import Sender

ROUND_S = 0.2
# However often somebody rings. Nobody notices, and the rest of the loop's time belongs to the answers.
SHORTEST_ROUND_S = 0.05
AWAY_S = 1.0
MAX_PAUSE_S = 30.0
TIDY_EVERY_S = 600.0
PURGE_EVERY_S = 600.0
MEASURE_EVERY_S = 15.0
# With its batch of 100: more than one poller collects.
INDEX_EVERY_S = 0.5
SEGMENT_OLD_EVERY_S = 1.0
# Shorter than the 10 s that container runtimes give between SIGTERM and SIGKILL.
GRACE_S = 8.0
# A database that hangs does not hold up the end of the process: the leases run out by themselves.
GIVE_BACK_S = 1.0
LAST_ROUND_S = 1.0

PeriodicTask = Callable[[Sessions, Collection[str]], Coroutine[None, None, None]]

log = structlog.get_logger()


async def run_poller(
    settings: Settings,
    engine: AsyncEngine,
    *,
    stop: asyncio.Event,
    wakeup: WakeUp | None = None,
    grace_s: float = GRACE_S,
) -> None:
    """Advance jobs until `stop` is set; then finish what is under way within `grace_s`, give leases back, return.

    Trouble with upstream, the database, its schema or a single task never raises: the poller waits and tries again.
    """
    async with _context(settings, engine, stop) as context:
        poller = Poller(context, wakeup or WakeUp())
        renewal = asyncio.create_task(context.leases.renew_for_ever())
        rounds = asyncio.create_task(poller.run_until_stopped())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({rounds, stopped}, return_when=asyncio.FIRST_COMPLETED)
            # A round is over at once, unless the database hangs.
            await asyncio.wait({rounds}, timeout=LAST_ROUND_S)
        finally:
            rounds.cancel()
            stopped.cancel()
            await context.supervisor.drain(grace_s)
            renewal.cancel()
            # What is cut off holds its leases until then, and lets go of them without a word to the database.
            with suppress(DatabaseUnavailable, SQLAlchemyError, TimeoutError):
                async with asyncio.timeout(GIVE_BACK_S):
                    await context.leases.give_back()
            await context.supervisor.cancel()
            await asyncio.gather(rounds, return_exceptions=True)


@asynccontextmanager
async def _context(settings: Settings, engine: AsyncEngine, stop: asyncio.Event) -> AsyncIterator[PollerContext]:
    sessions = create_sessions(engine)
    regions = settings.served_regions
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(http_client())
        results_http = await stack.enter_async_context(results_client())
        yield PollerContext(
            regions=regions,
            upstreams={
                account.id: DashScope(account, region.base_url, http)
                for region in regions.values()
                for account in region.accounts
            },
            sessions=sessions,
            # Each statement on a budget is a transaction of its own.
            budgets=Budgets(create_sessions(engine.execution_options(isolation_level="AUTOCOMMIT"))),
            leases=Leases(sessions),
            supervisor=Supervisor(),
            results_http=results_http,
            sender=Sender(settings.webhook_allowed_networks),
            stopping=stop,
            retention_days=settings.retention_days,
        )


class Poller:
    """The rounds of one poller. Everything that is worth keeping is in PostgreSQL."""

    def __init__(self, context: PollerContext, wakeup: WakeUp) -> None:
        self._context = context
        self._wakeup = wakeup
        self._watchers = {account: Watcher(context, client) for account, client in context.upstreams.items()}
        self._collectors = {
            account: Collector(context, client, self._watchers[account])
            for account, client in context.upstreams.items()
        }
        self._reconcilers = {account: Reconciler(context, client) for account, client in context.upstreams.items()}
        self._cancellers = {account: Canceller(context, client) for account, client in context.upstreams.items()}
        self._probers = {account: Prober(context, client) for account, client in context.upstreams.items()}
        self._deliverer = Deliverer(context)
        self._submitters: dict[tuple[str, str], Submitter] = {}
        self._accounts: dict[str, set[str]] = {region: context.accounts_of(region) for region in context.regions}
        self._has_begun = False
        # What was published last. None: not known.
        self._blocked: list[Blocked] | None = None
        self._last_round_at = 0.0
        self._due_at = {"tidy": 0.0, "measure": 0.0, "purge": 0.0, "index": 0.0, "segment_old": 0.0}

    async def run_until_stopped(self) -> None:
        """Rounds until told to stop. A round that fails is tried again after a pause.

        The database may be away, or not have the schema that this version needs: an operator has to act on that, and
        a process that ends would only be started again. A failure is logged with its traceback when it begins.
        """
        told = ""
        failures = 0
        while not self._context.stopping.is_set():
            try:
                await self.round()
                told, failures = "", 0
            except DatabaseUnavailable as error:
                log.debug("round failed", reason=error.reason)
                await self._context.pause(AWAY_S)
            except Exception as error:
                if (said := repr(error)) != told:
                    log.exception("round failed; the poller tries again")
                    told = said
                failures += 1
                await self._context.pause(min(AWAY_S * 2 ** min(failures - 1, 10), MAX_PAUSE_S))
            await self._rest()

    async def round(self) -> None:
        self._last_round_at = time.monotonic()
        async with transaction(self._context.sessions) as session:
            if not self._has_begun:
                await make_probes_due(session, list(self._context.upstreams))
            due_work = await read_due_work(
                session, {account: watcher.late_s for account, watcher in self._watchers.items()}
            )
            availability = Availability(self._accounts, due_work.circuits)
            await reroute(session, due_work.waiting, availability)
            blocked = list(availability.blocked())
            if blocked != self._blocked:
                await publish(session, blocked)
        self._has_begun, self._blocked = True, blocked
        self._start_submitters(due_work, availability)
        self._start_probers(due_work, availability)
        self._start_account_workers(due_work)
        if due_work.deliveries:
            self._context.supervisor.ensure("deliver", self._deliverer.run)
        self._periodic("tidy", tidy, TIDY_EVERY_S)
        self._periodic("measure", measure, MEASURE_EVERY_S)
        self._periodic("index", index, INDEX_EVERY_S)
        self._periodic("segment_old", segment_old, SEGMENT_OLD_EVERY_S)
        if days := self._context.retention_days:
            self._periodic("purge", lambda *_: purge(self._context, days), PURGE_EVERY_S)

    def _periodic(self, name: str, chore: PeriodicTask, every_s: float) -> None:
        if time.monotonic() >= self._due_at[name]:
            self._due_at[name] = time.monotonic() + every_s
            self._context.supervisor.ensure(name, lambda: chore(self._context.sessions, self._context.upstreams.keys()))

    async def _rest(self) -> None:
        """Until the next round, or less when somebody rings or the poller is told to stop."""
        rung = asyncio.create_task(self._wakeup.wait(ROUND_S))
        stopped = asyncio.create_task(self._context.stopping.wait())
        await asyncio.wait({rung, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for waiter in (rung, stopped):
            waiter.cancel()
        await asyncio.gather(rung, stopped, return_exceptions=True)
        await self._context.pause(self._last_round_at + SHORTEST_ROUND_S - time.monotonic())

    def _start_submitters(self, due_work: DueWork, availability: Availability) -> None:
        for region_name, model in due_work.waiting:
            for account, client in self._context.upstreams.items():
                if client.account.region == region_name and model in MODELS:
                    submitter = self._submitter(client, model)
                    if availability.circuit(account, model) is None:
                        self._context.supervisor.ensure(("submit", account, model), submitter.run)

    def _start_probers(self, due_work: DueWork, availability: Availability) -> None:
        for circuit in availability.open_circuits:
            if not circuit.probe_due or (circuit.model and availability.has_own_circuit(circuit.account, "")):
                continue
            submitters = self._probed_by(circuit, due_work, availability)
            if submitters or not circuit.model:  # whether a model is granted is told by a submit alone
                run = partial(self._probers[circuit.account].run, circuit, submitters)
                self._context.supervisor.ensure(("probe", circuit.account, circuit.model), run)

    def _probed_by(self, circuit: Circuit, due_work: DueWork, availability: Availability) -> list[Submitter]:
        """The submitters of waiting files that may show whether the last_error is over."""
        client = self._context.upstreams[circuit.account]
        waiting = [model for region, model in due_work.waiting if region == client.account.region and model in MODELS]
        if circuit.model:
            waiting = [model for model in waiting if model == circuit.model]
        else:
            waiting = [model for model in waiting if not availability.has_own_circuit(circuit.account, model)]
        return [self._submitter(client, model) for model in waiting]

    def _submitter(self, client: DashScope, model: str) -> Submitter:
        return self._submitters.get((client.account.id, model)) or self._new_submitter(client, model)

    def _new_submitter(self, client: DashScope, model: str) -> Submitter:
        region = self._context.region_of(client)
        known = MODELS[model]
        most = known.max_files_per_task
        submit_queue = SubmitQueue(
            account=client.account.id,
            region=region.name,
            model=model,
            most=most if most == 1 else region.max_files_per_task or most,
            submits_per_s=len(region.accounts) * (region.submit_rps or known.submit_rps),
        )
        submitter = self._submitters[client.account.id, model] = Submitter(self._context, client, submit_queue)
        return submitter

    def _start_account_workers(self, due_work: DueWork) -> None:
        for account in due_work.accounts:
            watcher = self._watchers[account.account]
            watcher.want(account.running)
            if watcher.listing:
                self._context.supervisor.ensure(("watch", account.account), watcher.run)
            if account.due:
                self._context.supervisor.ensure(("look", account.account), self._collectors[account.account].run)
            if account.unsure:
                self._context.supervisor.ensure(("reconcile", account.account), self._reconcilers[account.account].run)
            if account.unwanted:
                self._context.supervisor.ensure(("cancel", account.account), self._cancellers[account.account].run)
