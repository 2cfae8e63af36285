"""`/v1/models`."""

import httpx

from app.catalogue import MODELS, describe


async def test_list_has_all_models_of_the_catalogue(api: httpx.AsyncClient) -> None:
    response = await api.get("/v1/models")
    assert response.json() == {"items": [describe(model) for model in MODELS.values()], "next_cursor": None}


async def test_model_is_found_by_its_id(api: httpx.AsyncClient) -> None:
    response = await api.get("/v1/models/fun-asr")
    assert response.json() == describe(MODELS["fun-asr"])


async def test_unknown_model_is_404(api: httpx.AsyncClient) -> None:
    for name in ("whisper", "fun-asr%00", "%2e%2e"):
        response = await api.get(f"/v1/models/{name}")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
