"""Creates, updates, reads and deletes hot-word lists at DashScope, and keeps their rows in step."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from uuid import UUID

import httpx
import structlog

from app.catalogue import MODELS
from app.catalogue.hot_words import MAX_LISTS, HotWord, refuse, word_faults
from app.clients.service import find_revoked
from app.dashscope.circuits import read_circuits
from app.dashscope.client import DashScope, OutcomeUnknown, upstream_clients
from app.dashscope.failures import Failure, FailureKind
from app.dashscope.transport import http_client
from app.dashscope.vocabularies import NOT_FOUND, UpstreamVocabulary, VocabularyReading
from app.db import Sessions, transaction
from app.errors import GatewayError, NotFound, UpstreamUnavailable
from app.settings import Settings
from app.vocabularies import refusals, service
from app.vocabularies.models import Vocabulary, VocabularyState
from app.vocabularies.reconciliation import Waits, adopt, note_absence, reconcile, reconcile_all
from app.vocabularies.service import NewVocabulary

# The longest time of one call. A request makes several calls, one after the other.
CALL_TIMEOUT_S = 15
# A list that is only read is shown as it was stored if DashScope is slow.
READ_TIMEOUT_S = 5
UNDEPLOYED = "UNDEPLOYED"
MISSING = "MISSING"

log = structlog.get_logger()


class VocabularyLists:
    """One per process."""

    def __init__(
        self, settings: Settings, sessions: Sessions, http: httpx.AsyncClient, *, waits: Waits | None = None
    ) -> None:
        self._sessions = sessions
        self._waits = waits or Waits()
        self.upstreams = upstream_clients(settings, http, deadline_s=CALL_TIMEOUT_S)
        self._readers = upstream_clients(settings, http, deadline_s=READ_TIMEOUT_S)

    async def create(self, new: NewVocabulary) -> Vocabulary:
        """Create the list in an account with room.

        If DashScope's response to an equal request was lost, that list is returned, and no second one is made. If
        DashScope does not show that list, the call waits until it is certain that there is none. Raises
        VocabularyLimit, UpstreamUnavailable, or InvalidRequest if DashScope refuses the words.
        """
        if found := await self._continue_lost(new):
            return found
        failures: list[Failure] = []
        async for upstream, listed in self._candidates(new, failures):
            outcome = await self._create_in(upstream, listed, new)
            if isinstance(outcome, Vocabulary):
                return outcome
            if refusals.blames_words(outcome):
                raise refusals.words_refused(outcome)
            failures.append(outcome)
        raise refusals.no_account(failures, new.regions)

    async def get(self, client_id: UUID, vocabulary_id: str) -> Vocabulary:
        """The list as DashScope has it now, or as it was stored last if DashScope does not respond.

        The status is MISSING if DashScope does not have it any more. Raises NotFound.
        """
        async with transaction(self._sessions) as session:
            row = await service.get_vocabulary(session, client_id, vocabulary_id)
        if row.account not in self._readers:
            return row
        upstream = self._readers[row.account]
        found = await upstream.query_vocabulary(vocabulary_id)
        if isinstance(found, UpstreamVocabulary):
            return await self._refresh(row, found)
        if not _is_missing(found) or await _is_listed(upstream, vocabulary_id):
            return row
        async with transaction(self._sessions) as session:
            return await service.store_contents(session, row.id, status=MISSING) or row

    async def update(self, client_id: UUID, vocabulary_id: str, words: Sequence[HotWord]) -> Vocabulary:
        """Replace all words.

        Raises NotFound, VocabularyUpdatedRecently, InvalidRequest or UpstreamUnavailable. Except after the first two,
        the next update need not wait.
        """
        async with transaction(self._sessions) as session:
            row = await service.get_vocabulary(session, client_id, vocabulary_id)
        if model := MODELS.get(row.target_model):  # a list may outlive its model in the catalogue
            refuse(word_faults(model, words))
        upstream = self._upstream(row)
        async with transaction(self._sessions) as session:
            row, before = await service.begin_update(session, client_id, vocabulary_id)
        outcome = await upstream.update_vocabulary(vocabulary_id, words)
        # A lost update may have been applied. DashScope refuses its repetition for five minutes.
        if not isinstance(outcome, Failure) or outcome.kind is FailureKind.THROTTLED:
            found = await upstream.query_vocabulary(vocabulary_id)
            applied = isinstance(found, UpstreamVocabulary) and found.equals(row.target_model, words)
            if outcome is None or applied:
                return await self._store_update(row, words, found)
        is_gone = _is_missing(outcome) and not await _is_listed(upstream, vocabulary_id)
        raise await self._undo_update(row, outcome, before, is_gone=is_gone)

    async def delete(self, client_id: UUID, vocabulary_id: str) -> None:
        """Delete the list at DashScope, then its row. Raises NotFound or UpstreamUnavailable."""
        async with transaction(self._sessions) as session:
            row = await service.get_vocabulary(session, client_id, vocabulary_id)
        await self._delete(row)

    async def delete_all(self, client_id: UUID) -> int:
        """Delete all lists of a client, and return their number. Raises UpstreamUnavailable; repeat it then."""
        await reconcile_all(self._sessions, self.upstreams, client_id=client_id)
        async with transaction(self._sessions) as session:
            rows = await service.list_vocabularies(session, client_id)
        for row in rows:
            await self._delete(row)
        async with transaction(self._sessions) as session:
            uncertain = await service.count_uncertain(session, client_id, self.upstreams.keys())
        if uncertain:
            raise UpstreamUnavailable(
                f"DashScope may have made {uncertain} more lists of the client, since their creation got no response."
                " Repeat this in ten minutes."
            )
        return len(rows)

    async def _continue_lost(self, new: NewVocabulary) -> Vocabulary | None:
        """The list of an equal request without a response; None if DashScope has none."""
        while True:
            async with transaction(self._sessions) as session:
                if found := await service.take_over(session, new):
                    return found
                rows = await service.unsure_vocabularies(session, equal_to=new)
            wait_s = 0.0
            for row in rows:
                if upstream := self.upstreams.get(row.account):
                    outcome = await reconcile(self._sessions, upstream, row, state=VocabularyState.READY)
                    if isinstance(outcome, Vocabulary):
                        return outcome
                    if outcome is not None:
                        # The list may exist, so a second one is not made.
                        raise refusals.not_certain(outcome, row.region)
                    wait_s = max(wait_s, await note_absence(self._sessions, row, self._waits))
            if wait_s <= 0:
                return None
            await asyncio.sleep(wait_s)

    async def _candidates(
        self, new: NewVocabulary, failures: list[Failure]
    ) -> AsyncIterator[tuple[DashScope, VocabularyReading]]:
        """The accounts with their lists, region by region, best first. Adds to `failures` for those without a response.

        A blocked account comes last, and so does one that has ten lists: DashScope may have raised its limit.
        """
        async with transaction(self._sessions) as session:
            circuits = await read_circuits(session)
        blocked = {each.account for each in circuits if each.model in {"", new.target_model}}
        doubtful = []
        for region in new.regions:
            found = await self._read_lists(region, failures)
            for upstream, listed in sorted(found, key=lambda candidate: len(candidate[1].lists)):
                if len(listed.lists) >= MAX_LISTS or upstream.account.id in blocked:
                    doubtful.append((upstream, listed))
                else:
                    yield upstream, listed
        for candidate in doubtful:
            yield candidate

    async def _read_lists(self, region: str, failures: list[Failure]) -> Sequence[tuple[DashScope, VocabularyReading]]:
        upstreams = [each for each in self.upstreams.values() if each.account.region == region]
        outcomes = await asyncio.gather(*(each.list_vocabularies() for each in upstreams))
        found = []
        for upstream, listed in zip(upstreams, outcomes, strict=True):
            if isinstance(listed, Failure):
                _log_refusal(upstream, listed)
                failures.append(listed)
            else:
                found.append((upstream, listed))
        return found

    async def _create_in(
        self, upstream: DashScope, listed: VocabularyReading, new: NewVocabulary
    ) -> Vocabulary | Failure:
        """Raises UpstreamUnavailable if it is not known whether DashScope made the list."""
        row = Vocabulary(
            client_id=new.client_id,
            region=upstream.account.region,
            account=upstream.account.id,
            target_model=new.target_model,
            prefix=new.prefix,
            vocabulary=new.words,
            status=UNDEPLOYED,
            known_ids=[each.id for each in listed.lists],
        )
        async with transaction(self._sessions) as session:
            session.add(row)
        words = [HotWord(**word) for word in new.words]
        outcome = await upstream.create_vocabulary(target_model=new.target_model, prefix=new.prefix, words=words)
        if isinstance(outcome, str) and outcome in row.known_ids:
            outcome = OutcomeUnknown("the response has the id of an older list")
        match outcome:
            case str():
                return await self._store_created(upstream, row, outcome, new)
            case OutcomeUnknown(reason):
                log.warning("outcome of a new hot-word list unknown", account=upstream.account.id, reason=reason)
                return await self._find_created(upstream, row)
            case Failure():
                _log_refusal(upstream, outcome)
                async with transaction(self._sessions) as session:
                    await service.delete_row(session, row.id)
                return outcome

    async def _store_created(
        self, upstream: DashScope, row: Vocabulary, vocabulary_id: str, new: NewVocabulary
    ) -> Vocabulary:
        found = await upstream.query_vocabulary(vocabulary_id)
        status = found.status if isinstance(found, UpstreamVocabulary) else UNDEPLOYED
        if stored := await adopt(
            self._sessions, row.id, vocabulary_id, state=VocabularyState.READY, status=status
        ):  # fmt: skip
            return stored
        # The row of an equal request that got no response took the list meanwhile.
        async with transaction(self._sessions) as session:
            if taken := await service.take_over(session, new):
                await service.delete_row(session, row.id)
                return taken
        return await self._find_created(upstream, row)

    async def _find_created(self, upstream: DashScope, row: Vocabulary) -> Vocabulary:
        found = await reconcile(self._sessions, upstream, row, state=VocabularyState.READY)
        if isinstance(found, Vocabulary):
            return found
        async with transaction(self._sessions) as session:
            await service.mark_unsure(session, row.id)
        raise UpstreamUnavailable(
            "DashScope gave no response, so it may or may not have made the list. Send the same request again in a"
            " moment: it finds the list if there is one, and makes it otherwise."
        )

    async def _refresh(self, row: Vocabulary, found: UpstreamVocabulary) -> Vocabulary:
        """Store what DashScope has, unless it is another list or older than the last update."""
        if found.target_model != row.target_model:
            return row
        is_equal = found.equals(row.target_model, [HotWord(**word) for word in row.vocabulary])
        if is_equal and found.status == row.status:
            return row
        async with transaction(self._sessions) as session:
            if is_equal:
                return await service.store_contents(session, row.id, status=found.status) or row
            # After a crash between DashScope's response and the commit, DashScope's words are the newer ones.
            words = [word.to_json() for word in found.words]
            return await service.store_shown(session, row.id, status=found.status, words=words) or row

    async def _store_update(
        self, row: Vocabulary, words: Sequence[HotWord], found: UpstreamVocabulary | Failure
    ) -> Vocabulary:
        status = found.status if isinstance(found, UpstreamVocabulary) else row.status
        async with transaction(self._sessions) as session:
            stored = await service.store_contents(
                session, row.id, status=status, words=[word.to_json() for word in words]
            )
        if stored is None:
            raise NotFound("The hot-word list was deleted meanwhile.")
        return stored

    async def _undo_update(
        self, row: Vocabulary, outcome: Failure | OutcomeUnknown | None, before: datetime, *, is_gone: bool
    ) -> GatewayError:
        async with transaction(self._sessions) as session:
            await service.undo_update(session, row.id, before=before)
            if is_gone:
                await service.store_contents(session, row.id, status=MISSING)
        if not isinstance(outcome, Failure):
            return UpstreamUnavailable("DashScope gave no response to the update. Send it again in a moment.")
        if _is_missing(outcome):
            if not is_gone:
                return UpstreamUnavailable(refusals.STILL_LISTED)
            return NotFound("DashScope does not have this hot-word list any more. Delete it here and create a new one.")
        if refusals.blames_words(outcome):
            return refusals.words_refused(outcome)
        return refusals.no_account([outcome], [row.region])

    async def _delete(self, row: Vocabulary) -> None:
        upstream = self.upstreams.get(row.account)
        if upstream is None:
            log.warning("hot-word list not deleted upstream", account=row.account, vocabulary=row.vocabulary_id)
        else:
            vocabulary_id = row.vocabulary_id or ""
            failure = await upstream.delete_vocabulary(vocabulary_id)
            if failure is not None and not _is_missing(failure):
                raise refusals.no_account([failure], [row.region])
            if failure is not None and await _is_listed(upstream, vocabulary_id):
                raise UpstreamUnavailable(refusals.STILL_LISTED)
        async with transaction(self._sessions) as session:
            await service.delete_row(session, row.id)

    def _upstream(self, row: Vocabulary) -> DashScope:
        upstream = self.upstreams.get(row.account)
        if upstream is None:
            raise UpstreamUnavailable(
                f"The list belongs to the account {row.account}, for which this gateway has no key now."
            )
        return upstream


async def delete_lists_of_revoked(settings: Settings, sessions: Sessions, name: str) -> int:
    """Delete the lists of the revoked clients with that name, and return their number. Raises UpstreamUnavailable."""
    async with transaction(sessions) as session:
        clients = await find_revoked(session, name)
    async with http_client() as http:
        lists = VocabularyLists(settings, sessions, http)
        return sum([await lists.delete_all(client.id) for client in clients])


def _is_missing(outcome: object) -> bool:
    return isinstance(outcome, Failure) and outcome.code == NOT_FOUND


async def _is_listed(upstream: DashScope, vocabulary_id: str) -> bool:
    """Whether DashScope may have the list although a response says that it does not exist.

    That response may come from a replica that is behind. True if the lists cannot be read.
    """
    reading = await upstream.list_vocabularies()
    return isinstance(reading, Failure) or any(each.id == vocabulary_id for each in reading.lists)


def _log_refusal(upstream: DashScope, failure: Failure) -> None:
    log.warning(
        "hot-word list refused",
        account=upstream.account.id,
        kind=failure.kind.value,
        upstream_code=failure.upstream_code,
        message=failure.message,
    )
