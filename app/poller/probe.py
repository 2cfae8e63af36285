"""Probes an open circuit: a harmless query first, then one file. `app.dashscope.circuits` explains why."""

from collections.abc import Sequence
from uuid import uuid4

from app.dashscope.circuits import DECIDED_BY_QUERY, Circuit, postpone_probe, take_probe
from app.dashscope.client import Accepted, DashScope, OutcomeUnknown
from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.poller.circuits import close, open_for
from app.poller.context import PollerContext
from app.poller.metrics import CALLS
from app.poller.submitter import SubmitOutcome, Submitter

# Refusals that upstream gives only to a key that it accepts.
_KEY_ACCEPTED = frozenset({FailureKind.PERMANENT, FailureKind.GRANT, FailureKind.MODEL_UNAVAILABLE})
# Failures that say nothing about the account: a 429, or a refusal of the file.
_NOT_ABOUT_ACCOUNT = frozenset({FailureKind.THROTTLED, FailureKind.PERMANENT})


class Prober:
    """Probes the circuits of one account."""

    def __init__(self, context: PollerContext, upstream: DashScope) -> None:
        self._context = context
        self._upstream = upstream
        self._call = context.query_call(upstream)

    async def run(self, circuit: Circuit, submitters: Sequence[Submitter]) -> None:
        """Probe once, unless another poller does. `submitters` are those of the models whose files may be tried."""
        async with transaction(self._context.sessions) as session:
            if not await take_probe(session, circuit):
                return
        failure = await self._query()
        if failure is None:
            await self._submit_one(circuit, submitters)
            return
        if failure.kind is FailureKind.THROTTLED:
            await self._context.throttled(self._call, failure)
        async with transaction(self._context.sessions) as session:
            if failure.kind is FailureKind.ACCOUNT_BLOCKED and not circuit.model:
                await open_for(session, circuit.account, "", failure)  # code and message may have changed
            await postpone_probe(session, circuit, refused=failure.kind is not FailureKind.THROTTLED)

    async def _query(self) -> Failure | None:
        """Query a task id that does not exist, as `doctor` does. None if upstream accepts the key."""
        async with self._context.budgets.spend(self._call):
            response = await self._upstream.query(str(uuid4()))
        CALLS.labels(self._call.account, "probe", response.kind.value if isinstance(response, Failure) else "ok").inc()
        if isinstance(response, Failure) and response.kind is not FailureKind.PERMANENT:
            return response
        return None

    async def _submit_one(self, circuit: Circuit, submitters: Sequence[Submitter]) -> None:
        """Submit one file. If it is accepted, the circuit closes.

        Without a file to submit, the query is enough to close a circuit of DECIDED_BY_QUERY.
        """
        outcome: SubmitOutcome | None = None
        for submitter in submitters:
            outcome = await submitter.submit_one()
            if outcome is not None:
                break
        if isinstance(outcome, Accepted):
            return  # the submitter has closed the circuit
        key_accepted = outcome is None or (isinstance(outcome, Failure) and outcome.kind in _KEY_ACCEPTED)
        refused = isinstance(outcome, OutcomeUnknown) or (
            isinstance(outcome, Failure) and outcome.kind not in _NOT_ABOUT_ACCOUNT
        )
        async with transaction(self._context.sessions) as session:
            if circuit.code in DECIDED_BY_QUERY and key_accepted:
                await close(session, circuit.account, circuit.model)
            else:
                await postpone_probe(session, circuit, refused=refused)
