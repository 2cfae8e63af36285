"""Submitting: claim a group when the budget allows one more, POST it, and write down what came of it."""

import asyncio
import time
from uuid import uuid4

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.catalogue import MODELS
from app.dashscope.circuits import close_circuit, open_circuit, put_probe_off, read_circuits, take_probe
from app.dashscope.client import Accepted, DashScope, Lost
from app.dashscope.failures import Failure, Verdict
from app.db import transaction
from app.errors import DatabaseUnavailable
from app.poller.claim import Claim, Lot, claim_files
from app.poller.context import Context
from app.poller.metrics import CALLS, GROUP_FILES
from app.poller.records import record_accepted, record_later, record_lost, record_refused, record_split

# A lost answer is looked for soon: the task list usually knows a new task within a second.
RECONCILE_AFTER_S = 1.5
MAX_UNDER_WAY = 64
QUOTA_PAUSE_S = 30.0
# One lost answer is an accident. From the second in a row on, upstream is away: one try at a time, with pauses.
AWAY_PAUSE_S = (0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)

log = structlog.get_logger()


class Submitter:
    """Submits for one account and model until nothing waits."""

    def __init__(self, context: Context, client: DashScope, lot: Lot) -> None:
        self._context = context
        self._client = client
        self._lot = lot
        self._call = context.submit_call(client, lot.model)
        self._room = asyncio.Semaphore(MAX_UNDER_WAY)
        self._losses = 0
        self._resume_at = 0.0
        self._refused = False
        self._probing = False

    async def run(self) -> None:
        """Claim, wait for the budget, send: one group at a time waits, any number of answers are awaited."""
        self._refused = False
        while not (self._context.stopping.is_set() or self._refused):
            await self._context.pause(self._resume_at - time.monotonic())
            piece = await self._next_piece()
            if piece is None:
                return
            if self._losses > 1:
                await asyncio.wait([piece])

    async def probe(self) -> None:
        """Try one submit although the account's circuit is open. One poller at a time has the right to."""
        async with transaction(self._context.sessions) as session:
            if not await take_probe(session, self._lot.account):
                return
        self._probing = True
        try:
            if piece := await self._next_piece():
                await asyncio.wait([piece])
        finally:
            self._probing = False

    async def _next_piece(self) -> "asyncio.Task[None] | None":
        """The next group on its way, or None when nothing waits. Returns when its call goes out."""
        await self._room.acquire()
        piece = None
        try:
            async with transaction(self._context.sessions) as session:
                claim = await claim_files(session, self._lot, token=uuid4())
            if claim is not None:
                sent = asyncio.Event()
                piece = self._context.crew.start(self._submit(claim, sent), name=f"submit {claim.task_id}")
        finally:
            if piece is None:
                self._room.release()
        if piece is not None:
            piece.add_done_callback(lambda _: self._room.release())
            await sent.wait()
        return piece

    async def _submit(self, claim: Claim, sent: asyncio.Event) -> None:
        with self._context.leases.keep(claim.token):
            try:
                # Last of all, so that nothing but the call itself lies between the budget's word and upstream.
                await self._context.budgets.take(self._call)
            finally:
                sent.set()
            if self._context.stopping.is_set():
                await self._give_back(claim)
                return
            answer = await self._client.submit(
                model=self._lot.model,
                input_style=MODELS[self._lot.model].input_style,
                file_urls=claim.file_urls,
                parameters=claim.parameters,
            )
            self._count(claim, answer)
            await self._write_down(claim, answer)

    async def _give_back(self, claim: Claim) -> None:
        async with transaction(self._context.sessions) as session:
            await record_later(session, claim.task_id)

    def _count(self, claim: Claim, answer: Accepted | Failure | Lost) -> None:
        outcome = answer.verdict.value if isinstance(answer, Failure) else type(answer).__name__.lower()
        CALLS.labels(self._lot.account, "submit", outcome).inc()
        if isinstance(answer, Accepted):
            GROUP_FILES.labels(self._lot.model).observe(len(claim.file_urls))
        if isinstance(answer, Lost) or (isinstance(answer, Failure) and answer.verdict is Verdict.LATER):
            self._losses += 1
            pause_s = AWAY_PAUSE_S[min(self._losses, len(AWAY_PAUSE_S) - 1)]
            self._resume_at = time.monotonic() + pause_s
        else:
            self._losses = 0
        self._refused = isinstance(answer, Failure) and answer.verdict is Verdict.ACCOUNT

    async def _write_down(self, claim: Claim, answer: Accepted | Failure | Lost) -> None:
        """Until the database takes it: what upstream answered is nowhere else. The lease is renewed meanwhile."""
        if isinstance(answer, Failure) and answer.verdict is Verdict.SLOWER:
            quota = answer.upstream_code == "Throttling.AllocationQuota"
            await self._context.throttled(self._call, pause_s=QUOTA_PAUSE_S if quota else 1.0)
        while True:
            try:
                await self._record(claim, answer)
            except DatabaseUnavailable:
                await asyncio.sleep(1)
            else:
                return

    async def _record(self, claim: Claim, answer: Accepted | Failure | Lost) -> None:
        match answer:
            case Accepted(task_id):
                await self._record_accepted(claim, task_id)
            case Lost(reason):
                await self._record_lost(claim, reason)
            case Failure():
                await self._record_failure(claim, answer)

    async def _record_accepted(self, claim: Claim, upstream_task_id: str) -> None:
        look_in_s = self._context.durations(self._lot.account, self._lot.model).next_look_s(0)
        try:
            async with transaction(self._context.sessions) as session:
                learnt = await record_accepted(session, claim.task_id, upstream_task_id, look_in_s=look_in_s)
                if self._probing and await close_circuit(session, self._lot.account):
                    log.info("circuit closed", account=self._lot.account)
        except IntegrityError:
            # The reconciler took this task for the lost one of an equal group: that one is now this row's.
            await self._record_lost(claim, "its task was adopted by an equal group")
            return
        if learnt is None:
            log.error("task accepted after its attempt was given up", task=str(claim.task_id))
        for limit in learnt or ():
            log.warning("group limit learnt", account=limit.account, model=limit.model, max_files=limit.max_files)

    async def _record_lost(self, claim: Claim, reason: str) -> None:
        log.warning("submit without an answer", task=str(claim.task_id), account=self._lot.account, reason=reason)
        async with transaction(self._context.sessions) as session:
            await record_lost(session, claim.task_id, trouble=reason, look_in_s=RECONCILE_AFTER_S)

    async def _record_failure(self, claim: Claim, failure: Failure) -> None:
        log.warning(
            "submit refused",
            task=str(claim.task_id),
            account=self._lot.account,
            model=self._lot.model,
            verdict=failure.verdict.value,
            upstream_code=failure.upstream_code,
        )
        async with transaction(self._context.sessions) as session:
            match failure.verdict:
                case Verdict.SLOWER | Verdict.LATER:
                    await record_later(session, claim.task_id)
                case Verdict.ACCOUNT:
                    await self._record_account_trouble(session, claim, failure)
                case Verdict.REFUSED if len(claim.file_urls) > 1:
                    await record_split(session, claim.task_id, token=None, trouble=failure.message)
                case _:
                    await record_refused(session, claim.task_id, token=None, failure=failure)

    async def _record_account_trouble(self, session: AsyncSession, claim: Claim, failure: Failure) -> None:
        """Leave the account alone. Its files go to another account of the region; where none is left, they fail."""
        account = self._lot.account
        if await open_circuit(session, account, failure):
            log.error("circuit opened", account=account, code=failure.code, upstream_code=failure.upstream_code)
        elif self._probing:
            await put_probe_off(session, account)
        refused = {circuit.account for circuit in await read_circuits(session)}
        if self._context.accounts_of(self._lot.region) - refused:
            await record_later(session, claim.task_id)
        else:
            await record_refused(session, claim.task_id, token=None, failure=failure)
