"""`/v1/models`: the catalogue over HTTP."""

from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

from fastapi import APIRouter
from fastapi.encoders import jsonable_encoder
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from app.api.pagination import Page
from app.api.problems import responses
from app.catalogue import MODELS, Family, RegionName, describe
from app.catalogue.model import Availability, Feature
from app.catalogue.schema import JsonType
from app.errors import NotFound


class ModelRegion(BaseModel):
    region: RegionName
    price_per_second: Decimal
    currency: str


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
    retires_at: date
    replacement: str


class ModelScenario(BaseModel):
    """A use for which the model is recommended, and the reason."""

    scenario: str
    reason: str


class Model(BaseModel):
    """A speech recognition model, as documented by DashScope."""

    model_config = ConfigDict(json_schema_extra={"examples": [jsonable_encoder(describe(MODELS["fun-asr"]))]})

    id: str
    family: Family
    alias_of: str | None = Field(description="The snapshot that this stable name currently refers to.")
    regions: list[ModelRegion]
    languages: list[str]
    dialects: str | None
    sample_rates: ModelSampleRates
    formats: list[str]
    limits: ModelLimits
    rate_limits: ModelRateLimits
    features: dict[Feature, Availability]
    parameters: list[ModelParameter]
    deprecation: ModelDeprecation | None
    scenarios: list[ModelScenario]
    notes: list[str]


async def list_models() -> Page[Model]:
    """All models, in one page."""
    return Page(items=list(_described().values()), next_cursor=None)


async def get_model(model_id: str) -> Model:
    if model := _described().get(model_id):
        return model
    raise NotFound("The catalogue has no such model; `GET /v1/models` lists all models.")


def models_router(route_class: type[APIRoute]) -> APIRouter:
    """The router with `route_class`, the class that authenticates clients: it belongs to a higher layer."""
    router = APIRouter(prefix="/v1/models", route_class=route_class, tags=["models"])
    router.get("", summary="List the models")(list_models)
    router.get("/{model_id}", summary="Get a model", responses=responses(NotFound))(get_model)
    return router


@cache
def _described() -> dict[str, Model]:
    return {model.id: Model(**describe(model)) for model in MODELS.values()}
