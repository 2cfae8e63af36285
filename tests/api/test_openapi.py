"""The OpenAPI document, from which clients are generated."""

import json
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.api.openapi.schemas import map_schemas, prepare_schemas
from app.api.openapi.v30 import to_openapi_30
from tests.api.snapshot import SNAPSHOT, any_app, as_text

Operations = list[tuple[str, str, dict[str, Any]]]


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """One application for all tests here: making its document takes 0.3 s and needs no database."""
    return any_app()


@pytest.fixture
def operations(app: FastAPI) -> Operations:
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return [(path, method, operation) for path, methods in paths.items() for method, operation in methods.items()]


async def test_document_is_served_without_a_token(stranger: httpx.AsyncClient) -> None:
    response = await stranger.get("/openapi.json")
    assert response.status_code == 200
    assert response.json()["openapi"].startswith("3.1")


def test_operation_ids_are_unique_and_camel_case(operations: Operations) -> None:
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", name) for name in ids), ids


def test_no_operation_id_meets_a_method_that_generators_derive_from_another(operations: Operations) -> None:
    """`getThing` becomes `getThingRaw` too in typescript-fetch, `getThingWithHttpInfo` and others in Java."""
    ids = {operation["operationId"] for _, _, operation in operations}
    suffixes = ("Raw", "RequestOpts", "WithHttpInfo", "WithoutPreloadContent", "Async", "Call", "Request", "Response")
    assert not [name for name in ids for suffix in suffixes if name.removesuffix(suffix) in ids - {name}]


def test_every_operation_has_one_tag_that_is_described(operations: Operations, app: FastAPI) -> None:
    known = {tag["name"] for tag in app.openapi()["tags"]}
    assert {len(operation["tags"]) for _, _, operation in operations} == {1}
    assert {operation["tags"][0] for _, _, operation in operations} <= known


def test_summaries_are_not_the_generated_ones(operations: Operations) -> None:
    for _, _, operation in operations:
        assert operation["summary"] != re.sub(r"([A-Z])", r" \1", operation["operationId"]).title()


def test_everything_under_v1_needs_a_token(operations: Operations) -> None:
    for path, _, operation in operations:
        assert ("security" in operation) == path.startswith("/v1/"), path
        assert ("401" in operation["responses"]) == path.startswith("/v1/"), path


# Its errors are in OpenAI's form, which the clients of that protocol read.
OF_ANOTHER_PROTOCOL = {"createTranscription": "#/components/schemas/TranscriptionError"}


def test_every_error_is_a_problem_with_examples(operations: Operations) -> None:
    for path, method, operation in operations:
        if operation["operationId"] in OF_ANOTHER_PROTOCOL:
            continue
        for status, response in operation["responses"].items():
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"], (path, method, status)
                content = response["content"]["application/problem+json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                assert {example["value"]["status"] for example in content["examples"].values()} == {int(status)}


def test_errors_of_another_protocol_have_its_schema_and_examples(operations: Operations) -> None:
    found = {operation["operationId"]: operation for _, _, operation in operations}
    for name, schema in OF_ANOTHER_PROTOCOL.items():
        for status, response in found[name]["responses"].items():
            if status >= "400":
                assert list(response["content"]) == ["application/json"]
                assert response["content"]["application/json"]["schema"] == {"$ref": schema}
                assert response["content"]["application/json"]["examples"]


def test_every_operation_documents_the_errors_of_its_form(operations: Operations) -> None:
    for path, method, operation in operations:
        documented = operation["responses"].keys()
        assert "500" in documented
        assert method == "get" or "413" in documented, path
        if "{" in path:
            assert "404" in documented, path
        if "application/json" in operation.get("requestBody", {}).get("content", {}):
            assert {"400", "413", "415", "422"} <= documented, path


def test_all_references_resolve(app: FastAPI) -> None:
    document = app.openapi()
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
        assert name in document["components"]["schemas"]


def test_schemas_have_names_that_read_well_in_generated_clients(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    assert {"Problem", "ProblemPlace", "Model", "ModelPage", "ClientPage"} <= schemas.keys()
    assert "HTTPValidationError" not in schemas
    assert all(re.fullmatch(r"([A-Z][a-z]+)+", name) for name in schemas), list(schemas)


def test_document_equals_the_committed_snapshot(app: FastAPI) -> None:
    """For an intended change, run `make openapi` and review the diff."""
    assert as_text(app.openapi()) == SNAPSHOT.read_text(encoding="utf-8")


def test_enumerations_have_names(app: FastAPI) -> None:
    named = app.openapi()["components"]["schemas"].values()
    for schema in _schemas(app.openapi()):
        assert len(schema.get("enum", ())) <= 1 or schema in named, schema


def test_enumerations_that_may_grow_are_strings_to_generated_clients(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    for name in ("DeliveryStatus", "Family", "EventType", "Feature", "FileErrorCode", "ProblemCode", "WaitingCode"):
        assert "enum" not in schemas[name]
        assert len(schemas[name]["x-extensible-enum"]) > 1


def test_no_enumeration_takes_the_name_of_another_schema() -> None:
    enumeration = {"properties": {"state": {"enum": ["ok", "blocked"]}}}
    document = {"paths": {}, "components": {"schemas": {"Problem": enumeration, "AccountState": {"type": "object"}}}}
    with pytest.raises(ValueError, match="AccountState: an enumeration and another schema"):
        prepare_schemas(document)


def test_every_response_documents_its_headers(operations: Operations, app: FastAPI) -> None:
    described = app.openapi()["components"]["headers"]
    for path, method, operation in operations:
        for status, response in operation["responses"].items():
            headers = response["headers"].keys()
            assert "X-Request-ID" in headers
            limited = {"clientToken": []} in operation.get("security", ()) and status != "401"
            assert ({"RateLimit", "RateLimit-Policy"} <= headers) == limited, (path, method, status)
            assert status not in {"429", "503"} or "Retry-After" in headers, (path, method)
            references = [
                header["$ref"].rpartition("/")[2] for header in response["headers"].values() if "$ref" in header
            ]
            assert described.keys() >= set(references)


def test_parameters_are_never_null(operations: Operations) -> None:
    for path, _, operation in operations:
        for parameter in operation.get("parameters", ()):
            assert "null" not in json.dumps(parameter["schema"]), path


def test_every_parameter_is_described(operations: Operations) -> None:
    for path, method, operation in operations:
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), (method, path, parameter["name"])


def test_response_schemas_require_all_fields(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    # DashScope's result document omits fields that a model does not report; requests omit fields with a default. Some
    # problems have members of their own.
    requests = {"ClientChange", "JobRequest", "NewClient", "NewVocabularyWord", "VocabularyRequest"}
    for name in schemas.keys() - {"ChannelSentence", "ChannelTranscript", "Problem", "Sentence", "Word"} - requests:
        assert schemas[name].get("properties", {}).keys() == set(schemas[name].get("required", ())), name


def test_defaults_are_in_the_descriptions(app: FastAPI) -> None:
    region = app.openapi()["components"]["schemas"]["JobRequest"]["properties"]["region"]
    assert region["description"].endswith("Default: `auto`.")
    assert "default" not in region


def test_every_body_has_an_example(operations: Operations, app: FastAPI) -> None:
    for path, method, operation in operations:
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        bodies += [response for status, response in operation["responses"].items() if status < "300"]
        for content in (content for body in bodies for content in body.get("content", {}).items()):
            assert _has_example(app, *content), (path, method)


def test_examples_have_all_fields_in_schema_order(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    job = schemas["Job"]["examples"][0]
    assert list(job) == list(schemas["Job"]["properties"])
    assert (list(job["files"][0]), job["files"][0]["error"]) == (list(schemas["JobFile"]["properties"]), None)
    for name, schema in schemas.items():
        for example in schema.get("examples", ()) if "required" in schema else ():
            assert set(schema["required"]) <= example.keys(), name


def test_page_examples_have_the_example_of_their_items(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    assert schemas["JobPage"]["examples"] == [{"items": schemas["Job"]["examples"], "next_cursor": None}]
    assert schemas["Paragraphs"]["examples"] == [{"items": schemas["Paragraph"]["examples"]}]


async def test_openapi_3_0_document_is_served(stranger: httpx.AsyncClient, app: FastAPI) -> None:
    document = (await stranger.get("/openapi-3.0.json")).json()
    assert document == to_openapi_30(app.openapi())
    assert document["openapi"] == "3.0.3"
    assert document["paths"].keys() == app.openapi()["paths"].keys()
    assert document["x-webhooks"].keys() == app.openapi()["webhooks"].keys()
    for schema in _schemas(document):
        assert not {"const", "examples", "propertyNames", "contentMediaType"} & schema.keys(), schema
        assert isinstance(schema.get("type", ""), str)
        assert schema.get("type") != "null"
        assert "$ref" not in schema or len(schema) == 1


def test_openapi_3_0_document_uses_nullable_and_boolean_bounds() -> None:
    schema = {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}], "examples": [1], "title": "T"}
    upload = {"type": "string", "contentMediaType": "application/octet-stream"}
    document = to_openapi_30({"components": {"schemas": {"A": schema, "B": upload}}})
    assert document["components"]["schemas"] == {
        "A": {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "nullable": True, "example": 1, "title": "T"},
        "B": {"type": "string", "format": "binary"},
    }


def _schemas(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def collect(schema: dict[str, Any]) -> dict[str, Any]:
        found.append(schema)
        return schema

    map_schemas(document, collect)
    return found


def _has_example(app: FastAPI, media_type: str, body: dict[str, Any]) -> bool:
    schemas = app.openapi()["components"]["schemas"]
    schema = body.get("schema", {})
    schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return any("example" in word for word in [*body, *schema])
