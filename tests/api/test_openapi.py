"""The document from which people generate clients."""

import json
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

Operations = list[tuple[str, str, dict[str, Any]]]


@pytest.fixture
def operations(app: FastAPI) -> Operations:
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return [(path, method, operation) for path, methods in paths.items() for method, operation in methods.items()]


async def test_the_document_is_served_without_a_token(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.json()["openapi"].startswith("3.1")


def test_operation_ids_are_unique_and_camel_case(operations: Operations) -> None:
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name) for name in ids), ids


def test_every_operation_has_one_tag_that_is_described(operations: Operations, app: FastAPI) -> None:
    known = {tag["name"] for tag in app.openapi()["tags"]}
    assert {len(operation["tags"]) for _, _, operation in operations} == {1}
    assert {operation["tags"][0] for _, _, operation in operations} <= known


def test_everything_under_v1_needs_a_token(operations: Operations) -> None:
    for path, _, operation in operations:
        assert ("security" in operation) == path.startswith("/v1/"), path
        assert ("401" in operation["responses"]) == path.startswith("/v1/"), path


def test_every_error_is_a_problem_with_examples(operations: Operations) -> None:
    for path, method, operation in operations:
        for status, response in operation["responses"].items():
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"], (path, method, status)
                content = response["content"]["application/problem+json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                assert {example["value"]["status"] for example in content["examples"].values()} == {int(status)}


def test_every_operation_documents_what_any_of_its_form_can_answer(operations: Operations) -> None:
    for path, _, operation in operations:
        documented = operation["responses"].keys()
        assert "500" in documented
        if "{" in path:
            assert "404" in documented, path
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            assert {"400", "413", "415", "422"} <= documented, path


def test_all_references_lead_somewhere(app: FastAPI) -> None:
    document = app.openapi()
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
        assert name in document["components"]["schemas"]


def test_schemas_have_names_that_read_well_in_generated_clients(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    assert {"Problem", "ProblemPlace", "Model", "ModelPage", "ClientPage"} <= schemas.keys()
    assert "HTTPValidationError" not in schemas
    assert all(re.fullmatch(r"([A-Z][a-z]+)+", name) for name in schemas), list(schemas)
