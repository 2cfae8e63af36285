"""`/v1/models`."""

import httpx
import pytest

from app.catalogue import MODELS, describe


async def test_list_has_all_models_of_the_catalogue(api: httpx.AsyncClient) -> None:
    response = await api.get("/v1/models")
    described = [describe(model) for model in MODELS.values()]
    assert response.json() == {
        "items": described,
        "next_cursor": None,
        "object": "list",
        "data": [{name: each[name] for name in ("id", "object", "created", "owned_by")} for each in described],
    }


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("region=singapore&family=fun-asr&feature=singing", ["fun-asr", "fun-asr-2025-11-07"]),
        ("family=sensevoice", ["sensevoice-v1"]),
        ("family=sensevoice&region=singapore", []),
        ("scenario=multilingual", ["fun-asr-mtl", "paraformer-v2"]),
        ("scenario=%E5%A4%9A%E8%AF%AD%E7%A7%8D%E8%AF%86%E5%88%AB%EF%BC%88%E5%9B%BD%E9%99%85%E4%BC%9A%E8%AE%AE%EF%BC%89",
         ["fun-asr-mtl", "paraformer-v2"]),
        ("scenario=news&language=de", ["paraformer-v2"]),
        ("language=zh-CN&feature=emotion&family=sensevoice", ["sensevoice-v1"]),
        ("language=yue&family=fun-asr&feature=singing", ["fun-asr", "fun-asr-2025-11-07"]),
        ("language=nan&scenario=chinese", ["fun-asr"]),
        ("language=tlh", []),
    ],
)  # fmt: skip
async def test_models_are_found_by_all_filters_together(api: httpx.AsyncClient, query: str, ids: list[str]) -> None:
    body = (await api.get(f"/v1/models?{query}")).json()
    assert [item["id"] for item in body["items"]] == [item["id"] for item in body["data"]] == ids


@pytest.mark.parametrize(
    ("query", "pointer", "valid"),
    [
        ("region=tokyo", "/query/region", "singapore"),
        ("family=whisper", "/query/family", "qwen-audio"),
        ("feature=video", "/query/feature", "diarization"),
        ("scenario=podcast", "/query/scenario", "chinese, multilingual, entertainment, news, far_field"),
        ("scenario=", "/query/scenario", "far_field"),
        ("lang=zh", "/query/lang", "language"),
    ],
)
async def test_value_outside_a_closed_set_is_refused_with_the_valid_ones(
    api: httpx.AsyncClient, query: str, pointer: str, valid: str
) -> None:
    response = await api.get(f"/v1/models?{query}")
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["pointer"] == pointer
    assert valid in error["detail"]


async def test_dates_of_openai_are_those_of_the_snapshots(api: httpx.AsyncClient) -> None:
    data = {item["id"]: item["created"] for item in (await api.get("/v1/models")).json()["data"]}
    assert data["fun-asr"] == data["fun-asr-2025-11-07"] == 1762473600
    assert data["paraformer-v2"] == 1769472000


async def test_model_is_found_by_its_id(api: httpx.AsyncClient) -> None:
    response = await api.get("/v1/models/fun-asr")
    assert response.json() == describe(MODELS["fun-asr"])


async def test_unknown_model_is_404(api: httpx.AsyncClient) -> None:
    for name in ("whisper", "fun-asr%00", "%2e%2e"):
        response = await api.get(f"/v1/models/{name}")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
