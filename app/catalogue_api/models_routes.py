"""`/v1/models`: the catalogue over HTTP."""

from datetime import date
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, ConfigDict, Field

from app.api.pagination import Page
from app.api.problems import responses
from app.catalogue import MODELS, SCENARIOS, Family, RegionName, Scenario, describe
from app.catalogue.description import describe_openai, matches
from app.catalogue.model import Access, Currency, Feature, FeatureAvailability, Switch, Unit, Version
from app.catalogue.scenarios import BY_NAME
from app.catalogue.schema import JsonType
from app.clients.authentication import AuthenticatedRoute
from app.errors import InvalidRequest, NotFound

router = APIRouter(prefix="/v1/models", route_class=AuthenticatedRoute, tags=["models"])
_SCENARIO_IDS = ", ".join(f"`{scenario.id}`" for scenario in SCENARIOS)


class ModelRegion(BaseModel):
    """A region that offers the model, and the price there. Prices of units that are not billed are null."""

    region: RegionName
    units: list[Unit] = Field(description="What is billed: `seconds` of speech and channel, or tokens.")
    price_per_second: Decimal | None
    price_per_million_input_tokens: Decimal | None
    price_per_million_output_tokens: Decimal | None
    currency: Currency


class ModelSampleRates(BaseModel):
    """Null: no limit."""

    minimum_hz: int | None
    maximum_hz: int | None


class ModelLimits(BaseModel):
    max_file_bytes: int
    max_duration_s: int | None = Field(description="Null: no limit.")
    max_files_per_task: int = Field(description="Per upstream task. A job may have more files: the gateway splits it.")


class ModelRateLimits(BaseModel):
    """Upstream limits, in calls per second and account. The gateway keeps to them."""

    submit_rps: float
    query_rps: float


class ModelParameter(BaseModel):
    """A field of a job's `parameters`. For arrays, the bounds and `values` apply to the elements."""

    name: str
    type: JsonType
    items: JsonType | None
    default: Any = Field(description="The value used if the parameter is absent.")
    minimum: int | None
    maximum: int | None
    values: list[str] | None
    max_length: int | None
    max_items: int | None
    description: str


class ModelDeprecation(BaseModel):
    """An announced retirement. Jobs with the model are accepted, and have a warning."""

    retires_at: date
    replacement: str
    note: str
    note_zh: str | None = Field(description="The words of DashScope's guide, if it announces the retirement.")


class ModelScenario(BaseModel):
    """A use for which the model is recommended, and the reason."""

    id: str
    scenario: str
    scenario_zh: str
    reason: str
    reason_zh: str


class ModelReference(BaseModel):
    """The part of a model that OpenAI's API has."""

    id: str
    object: Literal["model"]
    created: int = Field(description="Seconds since 1970: the date of its snapshot, or of the catalogue's source.")
    owned_by: str


class Model(ModelReference):
    """A speech recognition model, as documented by DashScope."""

    model_config = ConfigDict(json_schema_extra={"examples": [jsonable_encoder(describe(MODELS["fun-asr"]))]})

    family: Family
    version: Version = Field(description="A snapshot does not change; its date is in its id.")
    alias_of: str | None = Field(description="The snapshot that this stable name currently refers to.")
    regions: list[ModelRegion]
    languages: list[str]
    dialects: str | None
    dialects_zh: str | None = Field(description="In the words of DashScope's guide.")
    sample_rates: ModelSampleRates
    # A union of a string and a number makes generators for Java write classes that do not compile.
    channels: Any = Field(description="`any`, or the largest number of channels of a file.", examples=["any"])
    formats: list[str]
    limits: ModelLimits
    rate_limits: ModelRateLimits
    features: dict[Feature, FeatureAvailability]
    feature_defaults: dict[Feature, Switch] = Field(
        description="Whether an `optional` feature is on if the job has no parameter for it."
    )
    emotions: list[str] = Field(description="Known values of `emotion` in sentences. DashScope may add others.")
    events: list[str] = Field(description="Known values of `event` in sentences. DashScope may add others.")
    parameters: list[ModelParameter]
    access: list[Access] = Field(description="Ways to call the model at DashScope itself. The gateway uses `rest`.")
    deprecation: ModelDeprecation | None
    scenarios: list[ModelScenario]
    notes: list[str]
    links: dict[str, str] = Field(description="Pages of Alibaba Cloud about the model, by subject.")


class ModelPage(Page[Model]):
    """The models, also in the form of OpenAI's API: `object` and `data`."""

    object: Literal["list"]
    data: list[ModelReference]


def _scenario(
    scenario: Annotated[
        str | None,
        Query(
            description=f"Only models that are recommended for this use: {_SCENARIO_IDS}, or a name of the use as"
            " `scenarios` has it.",
            examples=["chinese"],
        ),
    ] = None,
) -> Scenario | None:
    if scenario is None or scenario in BY_NAME:
        return BY_NAME.get(scenario or "")
    raise InvalidRequest.at("/query/scenario", f"needs one of {', '.join(each.id for each in SCENARIOS)}")


@router.get("", summary="List the models", responses=responses(InvalidRequest))
async def list_models(
    *,
    region: Annotated[RegionName | None, Query(description="Only models that this region offers.")] = None,
    family: Annotated[Family | None, Query(description="Only models of this family.")] = None,
    language: Annotated[
        str | None,
        Query(
            min_length=2,
            max_length=35,
            description="Only models that understand this language, such as `zh`, `en` or `yue`. Codes of dialects of"
            " Chinese work too. No model for a language is an empty list.",
            examples=["yue"],
        ),
    ] = None,
    feature: Annotated[
        Feature | None, Query(description="Only models that have this feature, always or optionally.")
    ] = None,
    scenario: Annotated[Scenario | None, Depends(_scenario)],
) -> ModelPage:
    """All models that match all filters, in one page. `object` and `data` are for clients of OpenAI's API."""
    found = [
        model
        for model in MODELS.values()
        if matches(model, region=region, family=family, language=language, feature=feature, scenario=scenario)
    ]
    return ModelPage(
        items=[_described()[model.id] for model in found],
        next_cursor=None,
        object="list",
        data=[ModelReference(**describe_openai(model)) for model in found],
    )


@router.get("/{model_id}", summary="Get a model", responses=responses(NotFound))
async def get_model(model_id: str) -> Model:
    if model := _described().get(model_id):
        return model
    raise NotFound("The catalogue has no such model; `GET /v1/models` lists all models.")


@cache
def _described() -> dict[str, Model]:
    return {model.id: Model(**describe(model)) for model in MODELS.values()}
