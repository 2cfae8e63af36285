"""Probing an open circuit: a harmless query first, then one file. See `app.dashscope.circuits`."""

from collections.abc import Sequence
from uuid import uuid4

from app.dashscope.circuits import DECIDED_BY_QUERY, Circuit, open_circuit, postpone_probe, take_probe
from app.dashscope.client import Accepted, DashScope, OutcomeUnknown
from app.dashscope.failures import Failure, FailureKind
from app.db import transaction
from app.poller.circuits import close
from app.poller.context import PollerContext
from app.poller.metrics import CALLS
from app.poller.submitter import Submitter

# Refusals that upstream gives only to a key that it accepts.
_KEY_ACCEPTED = frozenset({FailureKind.PERMANENT, FailureKind.GRANT, FailureKind.MODEL_UNAVAILABLE})


class Prober:
    """Probes the circuits of one account."""

    def __init__(self, context: PollerContext, client: DashScope) -> None:
        self._context = context
        self._client = client
        self._call = context.query_call(client)

    async def run(self, circuit: Circuit, submitters: Sequence[Submitter]) -> None:
        """One probe, by one poller at a time. `submitters`: those of the models whose files may be tried."""
        async with transaction(self._context.sessions) as session:
            if not await take_probe(session, circuit):
                return
        failure = await self._query()
        if failure is None:
            await self._try_a_file(circuit, submitters)
            return
        if failure.kind is FailureKind.THROTTLED:
            await self._context.throttled(self._call)
        async with transaction(self._context.sessions) as session:
            if failure.kind is FailureKind.ACCOUNT_BLOCKED and not circuit.model:
                await open_circuit(session, circuit.account, "", failure)  # it may say something new
            await postpone_probe(session, circuit, refused=failure.kind is not FailureKind.THROTTLED)

    async def _query(self) -> Failure | None:
        """Ask for a task that does not exist, as `doctor` does. None when upstream accepts the key for that."""
        async with self._context.budgets.spend(self._call):
            answer = await self._client.query(str(uuid4()))
        CALLS.labels(self._call.account, "probe", answer.kind.value if isinstance(answer, Failure) else "ok").inc()
        if isinstance(answer, Failure) and answer.kind is not FailureKind.PERMANENT:
            return answer
        return None

    async def _try_a_file(self, circuit: Circuit, submitters: Sequence[Submitter]) -> None:
        """Accepted, it closes the circuit. Without a file to try, the query's word has to do where it can."""
        answer: Accepted | Failure | OutcomeUnknown | None = None
        for submitter in submitters:
            answer = await submitter.try_one()
            if answer is not None:
                break
        if isinstance(answer, Accepted):
            return
        if circuit.code in DECIDED_BY_QUERY and (
            answer is None or (isinstance(answer, Failure) and answer.kind in _KEY_ACCEPTED)
        ):
            async with transaction(self._context.sessions) as session:
                await close(session, circuit.account, circuit.model)
            return
        refused = isinstance(answer, OutcomeUnknown) or (isinstance(answer, Failure) and _says_no(answer))
        async with transaction(self._context.sessions) as session:
            await postpone_probe(session, circuit, refused=refused)


def _says_no(answer: Failure) -> bool:
    """A 429, or a refusal of the file itself, says nothing about the account."""
    return answer.kind not in {FailureKind.THROTTLED, FailureKind.PERMANENT}
