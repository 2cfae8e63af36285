"""Bodies of `/v1/vocabularies`, and the validation of requests."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictInt

from app.api.request_body import RequestBody
from app.catalogue import Model, RegionName, find_model, order_regions
from app.catalogue.hot_words import (
    MAX_WORDS_LARGE,
    PREFIX_PATTERN,
    SUPER_WEIGHT,
    HotWord,
    refuse,
    vocabulary_faults,
)
from app.errors import Fault, UnknownModel
from app.vocabularies.models import Vocabulary as VocabularyRow
from app.vocabularies.service import NewVocabulary

WORDS_EXAMPLE: list[JsonValue] = [
    {"text": "赛德克巴莱", "weight": 4, "lang": "zh"},
    {"text": "Seediq Bale", "weight": 4, "lang": "en"},
]
_EXAMPLE: dict[str, JsonValue] = {
    "id": "vocab-calls-6977ae49f65c4c3db054727c2b1d7e04",
    "region": "beijing",
    "account": "default",
    "target_model": "fun-asr",
    "prefix": "calls",
    "vocabulary": WORDS_EXAMPLE,
    "status": "OK",
    "created_at": "2026-11-28T08:00:00.120000Z",
    "updated_at": "2026-11-28T08:00:00.120000Z",
}


class NewVocabularyWord(RequestBody):
    """An entry of a hot-word list."""

    text: str = Field(description="Up to 15 characters, or up to 7 words if all characters are ASCII.")
    weight: StrictInt = Field(
        description="1 to 5; 4 is a good start. 50 for a few words of the Qwen-Audio-3.x models.", ge=1, le=SUPER_WEIGHT
    )
    lang: str | None = Field(default=None, description="A language code of the target model.")

    def to_hot_word(self) -> HotWord:
        return HotWord(self.text, self.weight, self.lang)


Words = Annotated[
    list[NewVocabularyWord],
    Field(min_length=1, max_length=MAX_WORDS_LARGE, description="500 entries, or 2,000 for some models."),
]


class VocabularyRequest(RequestBody):
    """The body of `createVocabulary`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"region": "auto", "target_model": "fun-asr", "prefix": "calls", "vocabulary": WORDS_EXAMPLE}]
        }
    )

    region: Literal["auto", "beijing", "singapore"] = Field(
        default="auto", description="`auto`: a region that has the model and an account with room."
    )
    target_model: str = Field(description="The model of the jobs that will use the list, exactly.")
    # `vocabulary_faults` checks the pattern, with a better message.
    prefix: str = Field(
        description="Begins the id after `vocab-`: up to 9 digits and lower-case letters.",
        json_schema_extra={"pattern": f"^{PREFIX_PATTERN}$"},
    )
    vocabulary: Words


class VocabularyUpdate(RequestBody):
    """The body of `updateVocabulary`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"vocabulary": WORDS_EXAMPLE}]})

    vocabulary: Words


class VocabularyWord(BaseModel):
    """An entry of a hot-word list."""

    text: str
    weight: int
    lang: str | None


class Vocabulary(BaseModel):
    """A hot-word list of a client."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str = Field(description="Goes into a job's `parameters.vocabulary_id`.")
    region: RegionName
    account: str = Field(description="The account that owns the list. Jobs with the list go to it.")
    target_model: str
    prefix: str
    vocabulary: list[VocabularyWord]
    status: str = Field(
        description="`OK` if jobs can use the list, `UNDEPLOYED` if not yet, `MISSING` if DashScope lost it."
    )
    created_at: datetime
    updated_at: datetime = Field(description="The list can be updated again five minutes after an update.")


def show(row: VocabularyRow) -> Vocabulary:
    return Vocabulary(
        id=row.vocabulary_id or "",
        region=row.region,
        account=row.account.partition("/")[2],
        target_model=row.target_model,
        prefix=row.prefix,
        vocabulary=[
            VocabularyWord(text=word["text"], weight=word["weight"], lang=word.get("lang")) for word in row.vocabulary
        ],
        status=row.status,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def validate_new_vocabulary(
    client_id: UUID,
    *,
    region: Literal["auto"] | RegionName,
    target_model: str,
    prefix: str,
    words: Sequence[HotWord],
    served: Sequence[RegionName],
) -> NewVocabulary:
    """Raises UnknownModel, ModelNotInRegion, RegionNotServed, or InvalidRequest with all faults of prefix and words."""
    model = _find_model(target_model)
    refuse(vocabulary_faults(model, prefix, words))
    regions = order_regions(model, region, served)
    stored: list[dict[str, Any]] = [word.to_json() for word in words]
    return NewVocabulary(client_id, regions, target_model, prefix, stored)


def _find_model(target_model: str) -> Model:
    try:
        return find_model(target_model)
    except UnknownModel as error:
        raise UnknownModel(error.detail, faults=[Fault("/target_model", error.detail)]) from None
