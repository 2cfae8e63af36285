"""`/v1/regions`: where the regions are, and the state of the gateway's accounts there."""

from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.api.dependencies import SessionsDep, SettingsDep
from app.api.pagination import Page
from app.catalogue import MODELS, REGIONS, RegionName
from app.catalogue.regions import REGION_FACTS, DeploymentMode
from app.clients.authentication import AuthenticatedRoute
from app.dashscope.circuits import AccountState, Circuit, read_circuits
from app.db import transaction
from app.settings import Settings

router = APIRouter(prefix="/v1/regions", route_class=AuthenticatedRoute, tags=["models"])

_EXAMPLE: dict[str, JsonValue] = {
    "region": "beijing",
    "served": True,
    "is_default": True,
    "endpoint": "https://dashscope.aliyuncs.com/api/v1",
    "deployment_mode": "mainland_china",
    "storage": "Beijing",
    "storage_zh": "北京地域",
    "inference": "Mainland China only",
    "inference_zh": "仅限于中国内地",
    "console": "https://bailian.console.aliyun.com/?tab=model#/api-key",
    "models": ["fun-asr"],
    "accounts": [
        {
            "name": "default",
            "account": "beijing/default",
            "state": "blocked",
            "code": "account_unpaid",
            "since": "2026-11-23T08:00:04.870000Z",
            "blocked_models": [],
        }
    ],
}


class BlockedModel(BaseModel):
    """A model that upstream refuses to an account."""

    model: str
    code: str = Field(description="A code of `waiting_reason`.")
    since: datetime


class RegionAccount(BaseModel):
    """An API key of the gateway, by its name. Files wait while upstream refuses it, or go to another account."""

    name: str
    account: str = Field(description="The name with its region, as in `waiting_reason`.")
    state: AccountState
    code: str | None = Field(description="Why the account is blocked: a code of `waiting_reason`. Null if it is `ok`.")
    since: datetime | None
    blocked_models: list[BlockedModel]


class RegionDetails(BaseModel):
    """A deployment of DashScope. API keys and prices differ between regions."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    region: RegionName
    served: bool = Field(description="Whether the gateway has a key for the region.")
    is_default: bool = Field(description="Whether `auto` means this region where both have the model.")
    endpoint: str = Field(description="The base URL that the gateway calls.")
    deployment_mode: DeploymentMode
    storage: str = Field(description="Where audio and results are stored, and where the endpoint is.")
    storage_zh: str
    inference: str = Field(description="Where speech is recognised.")
    inference_zh: str
    console: str = Field(description="Where to get a key of the region.")
    models: list[str] = Field(description="The models that the region offers.")
    accounts: list[RegionAccount]


@router.get("", summary="List the regions")
async def list_regions(settings: SettingsDep, sessions: SessionsDep) -> Page[RegionDetails]:
    """Both regions, also those without a key. The state of accounts is that of the last calls to upstream.
    \f
    One statement.
    """
    async with transaction(sessions) as session:
        circuits = await read_circuits(session)
    return Page(items=[_details(name, settings, circuits) for name in REGIONS], next_cursor=None)


def _details(name: RegionName, settings: Settings, circuits: Sequence[Circuit]) -> RegionDetails:
    facts, served = REGION_FACTS[name], settings.served_regions
    accounts = served[name].accounts if name in served else ()
    return RegionDetails(
        region=name,
        served=name in served,
        is_default=name == next(iter(served), None),
        endpoint=settings.base_url(name),
        deployment_mode=facts.deployment_mode,
        storage=facts.storage,
        storage_zh=facts.storage_zh,
        inference=facts.inference,
        inference_zh=facts.inference_zh,
        console=facts.console,
        models=[model.id for model in MODELS.values() if name in model.regions],
        accounts=[
            _account(account.name, account.id, [each for each in circuits if each.account == account.id])
            for account in accounts
        ],
    )


def _account(name: str, account: str, circuits: Sequence[Circuit]) -> RegionAccount:
    whole = next((each for each in circuits if not each.model), None)
    return RegionAccount(
        name=name,
        account=account,
        state="blocked" if whole else "ok",
        code=whole.code if whole else None,
        since=whole.opened_at if whole else None,
        blocked_models=[
            BlockedModel(model=each.model, code=each.code, since=each.opened_at) for each in circuits if each.model
        ],
    )
