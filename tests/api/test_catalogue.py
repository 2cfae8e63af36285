"""The catalogue over HTTP."""

import httpx

from app.catalogue import MODELS, describe


async def test_all_models_are_listed_as_the_catalogue_describes_them(api: httpx.AsyncClient) -> None:
    answer = await api.get("/v1/models")
    assert answer.json() == {"items": [describe(model) for model in MODELS.values()], "next_cursor": None}


async def test_one_model_is_found_by_its_id(api: httpx.AsyncClient) -> None:
    answer = await api.get("/v1/models/fun-asr")
    assert answer.json() == describe(MODELS["fun-asr"])


async def test_an_unknown_model_is_a_404(api: httpx.AsyncClient) -> None:
    for name in ("whisper", "fun-asr%00", "%2e%2e"):
        answer = await api.get(f"/v1/models/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
