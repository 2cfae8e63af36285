"""Submitting: claim a group when the budget allows one more, POST it, and hand on what came of it."""

import asyncio
import time
from uuid import uuid4

from app.catalogue import MODELS
from app.dashscope.client import Accepted, DashScope, OutcomeUnknown
from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.errors import DatabaseUnavailable
from app.poller.answers import Answers
from app.poller.context import PollerContext, away_pause_s
from app.poller.metrics import CALLS, GROUP_FILES
from app.queue.claiming import Claim, SubmitQueue, claim_any_file, claim_files

MAX_UNDER_WAY = 64

Answer = Accepted | Failure | OutcomeUnknown


class Submitter:
    """Submits for one account and model until nothing waits."""

    def __init__(self, context: PollerContext, client: DashScope, submit_queue: SubmitQueue) -> None:
        self._context = context
        self._client = client
        self._lot = submit_queue
        self._call = context.submit_call(client, submit_queue.model)
        self._answers = Answers(context, submit_queue, self._call)
        self._room = asyncio.Semaphore(MAX_UNDER_WAY)
        self._losses = 0
        self._resume_at = 0.0
        self._refused = False

    async def run(self) -> None:
        """Claim, wait for the budget, send: one group at a time waits, any number of answers are awaited."""
        self._refused = False
        while not (self._context.stopping.is_set() or self._refused):
            await self._context.pause(self._resume_at - time.monotonic())
            piece = await self._next_piece()
            if piece is None:
                return
            if self._losses > 1:
                await asyncio.wait([piece])  # upstream is away: one try at a time

    async def try_one(self) -> Answer | None:
        """Submit one file although a circuit is open, and record the answer. None: nothing waited, or was sent."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if piece := await self._next_piece(probe=answered):
            await asyncio.wait([piece])
        return answered.result() if answered.done() else None

    async def _next_piece(self, *, probe: "asyncio.Future[Answer] | None" = None) -> "asyncio.Task[None] | None":
        """The next group on its way, or None when nothing waits. Returns when its call goes out."""
        await self._room.acquire()
        piece = None
        claim_next = claim_files if probe is None else claim_any_file
        try:
            async with transaction(self._context.sessions) as session:
                claim = await claim_next(session, self._lot, token=uuid4())
            if claim is not None:
                sent = asyncio.Event()
                submit = self._submit(claim, sent, probe=probe)
                piece = self._context.supervisor.start(submit, name=f"submit {claim.task_id}")
        finally:
            if piece is None:
                self._room.release()
        if piece is not None:
            piece.add_done_callback(lambda _: self._room.release())
            await sent.wait()
        return piece

    async def _submit(self, claim: Claim, sent: asyncio.Event, *, probe: "asyncio.Future[Answer] | None") -> None:
        with self._context.leases.keep(claim.token):
            answer = await self._send(claim, sent)
            if answer is None:
                await self._answers.give_back(claim)
                return
            self._count(claim, answer)
            await self._answers.write_down(claim, answer, probe=probe is not None)
            if probe is not None:
                probe.set_result(answer)
            if await self._context.note_answer(self._lot.account, answer):
                self._refused = True

    async def _send(self, claim: Claim, sent: asyncio.Event) -> Answer | None:
        """The answer; None when nothing was sent: no budget to ask, told to stop, or the lease may be another's."""
        try:
            # Last of all, so that nothing but the call itself lies between the budget's word and upstream.
            async with self._context.budgets.spend(self._call):
                sent.set()
                if self._context.stopping.is_set() or not self._context.leases.is_fresh(claim.token):
                    return None
                return await self._client.submit(
                    model=self._lot.model,
                    input_style=MODELS[self._lot.model].input_style,
                    file_urls=claim.file_urls,
                    parameters=claim.parameters,
                )
        except DatabaseUnavailable:
            return None
        finally:
            sent.set()

    def _count(self, claim: Claim, answer: Answer) -> None:
        outcome = answer.kind.value if isinstance(answer, Failure) else type(answer).__name__.lower()
        CALLS.labels(self._lot.account, "submit", outcome).inc()
        if isinstance(answer, Accepted):
            GROUP_FILES.labels(self._lot.model).observe(len(claim.file_urls))
        if isinstance(answer, Failure) and answer.concerns_account:
            self._refused = True
        if isinstance(answer, OutcomeUnknown) or (isinstance(answer, Failure) and answer.kind is FailureKind.TRANSIENT):
            self._losses += 1
            pause_s = away_pause_s(self._losses)
            self._resume_at = time.monotonic() + pause_s
        else:
            self._losses = 0
