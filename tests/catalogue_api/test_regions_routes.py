"""`/v1/regions`."""

import httpx
import pytest

from app.catalogue import MODELS
from app.dashscope.circuits import open_circuit
from app.dashscope.failures import Failure, FailureKind
from app.db import Sessions, transaction
from app.settings import load_settings
from tests.api_fixtures import application, caller

UNPAID = Failure(FailureKind.ACCOUNT_BLOCKED, "account_unpaid", "The bill is not paid.", "Arrearage")
NOT_GRANTED = Failure(FailureKind.ACCOUNT_BLOCKED, "model_not_granted", "The model is not granted.", "AccessDenied")


@pytest.fixture
async def regions(sessions: Sessions, api_client: tuple[object, str]) -> httpx.AsyncClient:
    settings = load_settings({"dashscope_beijing_api_key": "main=sk-a,spare=sk-b", "dashscope_singapore_api_key": None})
    return caller(application(settings, sessions), api_client[1])


async def test_both_regions_are_listed_with_where_data_stay(regions: httpx.AsyncClient) -> None:
    beijing, singapore = (await regions.get("/v1/regions")).json()["items"]
    assert (beijing["region"], beijing["served"], beijing["is_default"]) == ("beijing", True, True)
    assert (beijing["endpoint"], beijing["storage"]) == ("https://dashscope.aliyuncs.com/api/v1", "Beijing")
    assert (singapore["region"], singapore["served"], singapore["is_default"]) == ("singapore", False, False)
    assert singapore["inference_zh"] == "全球范围内动态调度（不含中国内地）"
    assert singapore["accounts"] == []
    assert set(MODELS) == set(beijing["models"]) > set(singapore["models"])


async def test_accounts_show_their_name_and_state_and_never_their_key(
    regions: httpx.AsyncClient, sessions: Sessions
) -> None:
    async with transaction(sessions) as session:
        await open_circuit(session, "beijing/main", "", UNPAID)
        await open_circuit(session, "beijing/spare", "paraformer-v2", NOT_GRANTED)
        await open_circuit(session, "beijing/removed", "", UNPAID)
    response = await regions.get("/v1/regions")
    assert "sk-" not in response.text
    main, spare = response.json()["items"][0]["accounts"]
    assert (main["name"], main["account"], main["state"], main["code"]) == (
        "main",
        "beijing/main",
        "blocked",
        "account_unpaid",
    )
    assert main["since"].endswith("Z")
    assert (spare["state"], spare["code"], spare["since"]) == ("ok", None, None)
    (model,) = spare["blocked_models"]
    assert (model["model"], model["code"]) == ("paraformer-v2", "model_not_granted")
