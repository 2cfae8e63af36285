"""Binds a new job to the accounts that its uploads and its hot-word list belong to."""

from collections.abc import Sequence
from dataclasses import replace

from app.catalogue import ValidatedJob
from app.db import Sessions
from app.errors import InvalidRequest
from app.queue.creation import NewJob
from app.uploads.binding import bind_uploads
from app.vocabularies.binding import POINTER, VocabularyBinding, bind_vocabulary


async def bind_accounts(sessions: Sessions, new: NewJob) -> NewJob:
    """The job with the account of each file, and in the region of these accounts. No statement without either.

    Raises the errors of `bind_uploads` and `bind_vocabulary`, and InvalidRequest if the two belong to two accounts.
    """
    validated = new.validated
    vocabulary = await bind_vocabulary(sessions, new.client_id, validated, new.requested_region)
    uploads = await bind_uploads(sessions, new.client_id, new.urls, validated, new.requested_region)
    if vocabulary is not None:
        _require_one_account(vocabulary, uploads.accounts if uploads else ())
        accounts: Sequence[str] = [vocabulary.account] * len(new.urls)
        region = vocabulary.region
    elif uploads is not None:
        accounts, region = uploads.accounts, uploads.region
    else:
        return new
    in_region = ValidatedJob(validated.model, region, validated.parameters)
    return replace(new, accounts=accounts, validated=in_region)


def _require_one_account(vocabulary: VocabularyBinding, upload_accounts: Sequence[str]) -> None:
    for index, account in enumerate(upload_accounts):
        if account not in {"", vocabulary.account}:
            detail = (
                f"belongs to the account {vocabulary.account}, but /file_urls/{index} is an upload of {account};"
                f" upload the file in {vocabulary.region}, or use a URL that DashScope can fetch"
            )
            raise InvalidRequest.at(POINTER, detail)
