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
from app.dashscope.failures import Failure
from app.dashscope.transport import http_client
from app.dashscope.vocabularies import NOT_FOUND, ListedVocabulary, UpstreamVocabulary
from app.db import Sessions, transaction
from app.errors import GatewayError, NotFound, UpstreamUnavailable
from app.settings import Settings
from app.vocabularies import refusals, service
from app.vocabularies.models import Vocabulary, VocabularyState
from app.vocabularies.reconciliation import adopt, reconcile, reconcile_all
from app.vocabularies.service import NewVocabulary

# The longest request makes three calls one after the other.
CALL_TIMEOUT_S = 15
# A list that is only read is shown as it was stored if DashScope is slow.
READ_TIMEOUT_S = 5
UNDEPLOYED = "UNDEPLOYED"
MISSING = "MISSING"

log = structlog.get_logger()


class VocabularyLists:
    """One per process."""

    def __init__(self, settings: Settings, sessions: Sessions, http: httpx.AsyncClient) -> None:
        self._sessions = sessions
        self.upstreams = upstream_clients(settings, http, deadline_s=CALL_TIMEOUT_S)
        self._readers = upstream_clients(settings, http, deadline_s=READ_TIMEOUT_S)

    async def create(self, new: NewVocabulary) -> Vocabulary:
        """Create the list in an account with room.

        An equal request whose response was lost is continued: its list is returned and no second one made. Raises
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
        return await self._refresh(row, await self._readers[row.account].query_vocabulary(vocabulary_id))

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
        if not isinstance(outcome, Failure):
            found = await upstream.query_vocabulary(vocabulary_id)
            applied = isinstance(found, UpstreamVocabulary) and found.equals(row.target_model, words)
            if outcome is None or applied:
                return await self._store_update(row, words, found)
        raise await self._undo_update(row, outcome, before)

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
        return len(rows)

    async def _continue_lost(self, new: NewVocabulary) -> Vocabulary | None:
        async with transaction(self._sessions) as session:
            if found := await service.take_over(session, new):
                return found
            unsure = await service.unsure_vocabularies(session, equal_to=new)
        for row in unsure:
            if upstream := self.upstreams.get(row.account):
                outcome = await reconcile(self._sessions, upstream, row, state=VocabularyState.READY)
                if isinstance(outcome, Failure):
                    # A second list might be one too many.
                    raise refusals.no_account([outcome], [row.region])
                if outcome is not None:
                    return outcome
        return None

    async def _candidates(
        self, new: NewVocabulary, failures: list[Failure]
    ) -> AsyncIterator[tuple[DashScope, Sequence[ListedVocabulary]]]:
        """The accounts with their lists, region by region, best first. Adds to `failures` for those without a response.

        A blocked account comes last, and so does one that has ten lists: DashScope may have raised its limit.
        """
        async with transaction(self._sessions) as session:
            circuits = await read_circuits(session)
        blocked = {each.account for each in circuits if each.model in {"", new.target_model}}
        doubtful = []
        for region in new.regions:
            found = await self._read_lists(region, failures)
            for upstream, listed in sorted(found, key=lambda candidate: len(candidate[1])):
                if len(listed) >= MAX_LISTS or upstream.account.id in blocked:
                    doubtful.append((upstream, listed))
                else:
                    yield upstream, listed
        for candidate in doubtful:
            yield candidate

    async def _read_lists(
        self, region: str, failures: list[Failure]
    ) -> Sequence[tuple[DashScope, Sequence[ListedVocabulary]]]:
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
        self, upstream: DashScope, listed: Sequence[ListedVocabulary], new: NewVocabulary
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
            known_ids=[each.id for each in listed],
        )
        async with transaction(self._sessions) as session:
            session.add(row)
        words = [HotWord(**word) for word in new.words]
        outcome = await upstream.create_vocabulary(target_model=new.target_model, prefix=new.prefix, words=words)
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
        # The row of an equal request, whose response was lost, took the list meanwhile.
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

    async def _refresh(self, row: Vocabulary, found: UpstreamVocabulary | Failure) -> Vocabulary:
        if isinstance(found, UpstreamVocabulary):
            status = found.status
            # After a crash between DashScope's response and the commit, DashScope's words are the newer ones.
            stored = [HotWord(**word) for word in row.vocabulary]
            words = None if found.equals(row.target_model, stored) else [word.to_json() for word in found.words]
        elif found.code == NOT_FOUND:
            status, words = MISSING, None
        else:
            return row
        if words is None and status == row.status:
            return row
        async with transaction(self._sessions) as session:
            return await service.store_contents(session, row.id, status=status, words=words) or row

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
        self, row: Vocabulary, outcome: Failure | OutcomeUnknown | None, before: datetime
    ) -> GatewayError:
        async with transaction(self._sessions) as session:
            await service.undo_update(session, row.id, before=before)
            if isinstance(outcome, Failure) and outcome.code == NOT_FOUND:
                await service.store_contents(session, row.id, status=MISSING)
        if not isinstance(outcome, Failure):
            return UpstreamUnavailable("DashScope gave no response to the update. Send it again in a moment.")
        if outcome.code == NOT_FOUND:
            return NotFound("DashScope does not have this hot-word list any more. Delete it here and create a new one.")
        if refusals.blames_words(outcome):
            return refusals.words_refused(outcome)
        return refusals.no_account([outcome], [row.region])

    async def _delete(self, row: Vocabulary) -> None:
        upstream = self.upstreams.get(row.account)
        if upstream is None:
            log.warning("hot-word list not deleted upstream", account=row.account, vocabulary=row.vocabulary_id)
        else:
            failure = await upstream.delete_vocabulary(row.vocabulary_id or "")
            if failure is not None and failure.code != NOT_FOUND:
                raise refusals.no_account([failure], [row.region])
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


def _log_refusal(upstream: DashScope, failure: Failure) -> None:
    log.warning(
        "hot-word list refused",
        account=upstream.account.id,
        kind=failure.kind.value,
        upstream_code=failure.upstream_code,
        message=failure.message,
    )
