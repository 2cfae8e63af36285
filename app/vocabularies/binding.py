"""Binds a new job to the account that owns its hot-word list."""

from dataclasses import dataclass
from uuid import UUID

from app.catalogue import RegionName, ValidatedJob
from app.db import Sessions, transaction
from app.errors import InvalidRequest, VocabularyModelMismatch, VocabularyNotFound
from app.vocabularies.service import find_vocabulary

POINTER = "/parameters/vocabulary_id"


@dataclass(frozen=True, slots=True)
class VocabularyBinding:
    """The account and region of a list. Only this account can use it."""

    account: str
    region: RegionName


async def bind_vocabulary(
    sessions: Sessions, client_id: UUID, validated: ValidatedJob, requested_region: str
) -> VocabularyBinding | None:
    """None if the job has no list of the gateway. One statement if it has `vocabulary_id`, else none.

    Raises VocabularyNotFound, VocabularyModelMismatch, or InvalidRequest if the client asked for another region. An id
    that the gateway does not know comes from elsewhere, and is passed on.
    """
    vocabulary_id = validated.parameters.get("vocabulary_id")
    if vocabulary_id is None:
        return None
    async with transaction(sessions) as session:
        found = await find_vocabulary(session, vocabulary_id)
    if found is None:
        return None
    if found.client_id != client_id:
        raise VocabularyNotFound.at(POINTER, "is no hot-word list of this client; create one")
    if found.target_model != validated.model.id:
        detail = f"is for the model {found.target_model}, but the job's model is {validated.model.id}"
        raise VocabularyModelMismatch.at(POINTER, f"{detail}; create a list for the model of the job")
    if requested_region not in {"auto", found.region}:
        detail = f"is {requested_region}, but the hot-word list is in {found.region}; use {found.region} or auto"
        raise InvalidRequest.at("/region", detail)
    return VocabularyBinding(found.account, found.region)  # type: ignore[arg-type]  # written from a RegionName
