"""Binds a new job to the accounts that its uploads belong to."""

from dataclasses import replace

from app.catalogue import ValidatedJob
from app.db import Sessions
from app.queue.creation import NewJob
from app.uploads.binding import bind_uploads


async def bind_accounts(sessions: Sessions, new: NewJob) -> NewJob:
    """The job with the account of each file, and in the region of these accounts. No statement without uploads.

    Raises the errors of `bind_uploads`.
    """
    validated = new.validated
    binding = await bind_uploads(sessions, new.client_id, new.urls, validated, new.requested_region)
    if binding is None:
        return new
    in_region = ValidatedJob(validated.model, binding.region, validated.parameters)
    return replace(new, accounts=binding.accounts, validated=in_region)
