"""Request bodies that a call refuses."""

import json
import re
from typing import Any

import httpx
import pytest

from tests.api.snapshot import SNAPSHOT

DOCUMENT: dict[str, Any] = json.loads(SNAPSHOT.read_text())
_SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
# Read from the OpenAPI document, so that new bodies are tested too.
BODIES = [
    (method, path, _SCHEMAS[content["application/json"]["schema"]["$ref"].rpartition("/")[2]])
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if "application/json" in (content := operation.get("requestBody", {}).get("content", {}))
]
BODILESS = [
    (method, re.sub(r"\{\w+\}", "019ab0a4-5c1e-7cc3-98c4-dc0c0c07398f", path))
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if method != "get" and "requestBody" not in operation
]
URL = "https://example.com/a.wav"
JSON = {"Content-Type": "application/json"}


async def refused(response: httpx.Response) -> tuple[int, str, list[str]]:
    problem = response.json()
    return response.status_code, problem["code"], [place["pointer"] for place in problem["errors"]]


@pytest.mark.parametrize("action", ["retry", "cancel"])
async def test_body_that_the_call_would_ignore_is_refused(api: httpx.AsyncClient, action: str) -> None:
    job = (await api.post("/v1/jobs", json={"file_urls": [URL]})).json()
    path = f"/v1/jobs/{job['id']}/{action}"
    assert await refused(await api.post(path, json={"files": [0]})) == (422, "validation_failed", [""])
    assert (await api.get(f"/v1/jobs/{job['id']}")).json()["status"] == "queued"
    for nothing in (b"", b"{}", b" {} "):
        assert (await api.post(path, content=nothing, headers=JSON)).json().get("code") != "validation_failed"


@pytest.mark.parametrize(("method", "path"), BODILESS)
async def test_call_without_request_body_refuses_a_body(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, method: str, path: str
) -> None:
    caller = admin if path.startswith("/v1/clients") else api
    response = await caller.request(method, path, json={"reason": "obsolete"})
    assert await refused(response) == (422, "validation_failed", [""])
    assert (await caller.request(method, path, json={})).status_code in {200, 404}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
@pytest.mark.parametrize(("method", "path", "schema"), BODIES)
async def test_json_in_other_encodings_is_refused(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, method: str, path: str, schema: dict[str, Any], *, encoding: str
) -> None:
    caller = admin if path.startswith("/v1/clients") else api
    body = json.dumps({**schema["examples"][0], "é": "é"}, ensure_ascii=False).encode(encoding, "replace")
    assert await refused(await caller.request(method, path, content=body, headers=JSON)) == (400, "invalid_json", [])


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json; a=" + '"' + ";" * 60_000},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "text/plain"},
    ],
    ids=["long", "compressed", "text"],
)
async def test_headers_that_announce_no_plain_json_are_415(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await api.post("/v1/jobs", content=json.dumps({"file_urls": [URL]}), headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("headers", [{"Content-Encoding": "identity"}, {"Content-Type": "application/vnd.x+json"}])
async def test_other_json_media_types_are_accepted(api: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await api.post("/v1/jobs", content=json.dumps({"file_urls": [URL]}), headers=JSON | headers)
    assert response.status_code == 202


async def test_two_idempotency_keys_are_refused(api: httpx.AsyncClient) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = await api.post("/v1/jobs", json={"file_urls": [URL]}, headers=headers)
    assert await refused(response) == (422, "validation_failed", ["/header/Idempotency-Key"])


@pytest.mark.parametrize(("method", "path", "schema"), BODIES)
async def test_too_many_unknown_fields_are_one_fault(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, method: str, path: str, schema: dict[str, Any]
) -> None:
    caller = admin if path.startswith("/v1/clients") else api
    response = await caller.request(method, path, json={f"f{number}": 1 for number in range(101)})
    assert await refused(response) == (422, "validation_failed", [""])
    assert response.json()["detail"] == "The body has 101 fields; at most 100 are possible."


@pytest.mark.parametrize(("method", "path", "schema"), BODIES)
async def test_oversized_field_is_one_fault(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, method: str, path: str, schema: dict[str, Any]
) -> None:
    caller = admin if path.startswith("/v1/clients") else api
    for name in schema["properties"]:
        for flood in ([1] * 10_001, {str(number): 1 for number in range(10_001)}):
            assert await refused(await caller.request(method, path, json={name: flood})) == (
                422,
                "validation_failed",
                [f"/{name}"],
            )


@pytest.mark.parametrize("flood", ["[]," * 60_000 + "[]", "[" * 70_000, '"a",' * 60_000 + '"b"'])
@pytest.mark.parametrize(("method", "path", "schema"), BODIES)
async def test_body_with_too_many_values_is_refused_before_it_is_decoded(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, method: str, path: str, schema: dict[str, Any], *, flood: str
) -> None:
    caller = admin if path.startswith("/v1/clients") else api
    for name in (*schema["properties"], "unknown"):
        response = await caller.request(method, path, content=f'{{"{name}": [{flood}', headers=JSON)
        assert await refused(response) == (422, "validation_failed", [""])
        assert response.json()["detail"] == (
            "The body has more than 50,000 values, or numbers of that many digits; no call takes so many."
        )


async def test_long_numbers_count_as_several_values(api: httpx.AsyncClient) -> None:
    many = {"file_urls": [URL], "parameters": {"speaker_count": [int("9" * 4000)] * 260}}
    assert await refused(await api.post("/v1/jobs", json=many)) == (422, "validation_failed", [""])
    few = many | {"parameters": {"speaker_count": [int("9" * 4000)] * 2}}
    _, _, pointers = await refused(await api.post("/v1/jobs", json=few))
    assert set(pointers) == {"/parameters/speaker_count"}


async def test_values_in_strings_do_not_count(api: httpx.AsyncClient) -> None:
    url = "https://example.com/a.wav?" + ",[{" * 1000
    response = await api.post("/v1/jobs", json={"file_urls": [url + str(number) for number in range(100)]})
    assert response.status_code == 422  # a brace is percent-encoded, which makes the URL too long
    assert response.json()["errors"][0]["pointer"] == "/file_urls/0"


async def test_values_of_json_inside_a_string_are_counted(api: httpx.AsyncClient) -> None:
    body = {"file_urls": [URL], "parameters": {"special_word_filter": "[" + "[]," * 30_000 + "1]"}}
    response = await api.post("/v1/jobs", json=body)
    assert await refused(response) == (422, "validation_failed", ["/parameters/special_word_filter"])
    assert "more than 25,000 JSON values" in response.json()["detail"]


@pytest.mark.parametrize(("method", "path", "schema"), BODIES)
async def test_only_a_new_job_may_have_more_than_a_megabyte(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, method: str, path: str, schema: dict[str, Any]
) -> None:
    caller = admin if path.startswith("/v1/clients") else api
    body = json.dumps(schema["examples"][0]).encode() + b" " * 1024 * 1024
    response = await caller.request(method, path, content=body, headers=JSON)
    if path == "/v1/jobs":
        assert response.status_code == 202
    else:
        assert await refused(response) == (413, "body_too_large", [])
        assert response.json()["detail"] == "The body of this call may have at most 1,048,576 bytes."


@pytest.mark.parametrize("place", [[], ["parameters"], ["parameters", "special_word_filter"], ["metadata"]])
async def test_overlong_field_name_is_cut_in_the_pointer(api: httpx.AsyncClient, place: list[str]) -> None:
    body: dict[str, Any] = {"a" * 10_000: 1}
    for step in reversed(place):
        body = {step: body}
    response = await api.post("/v1/jobs", json={"file_urls": [URL], **body})
    assert (response.status_code, len(response.content) < 2000) == (422, True)
    assert response.json()["errors"][0]["pointer"].startswith("".join(f"/{step}" for step in [*place, "a" * 50]))
