"""`docs/api.md` has a curl command for every call and no other."""

import json

import pytest
from fastapi import FastAPI

from tests.api.page import Operations, calls, operation_of, operations_of
from tests.api.snapshot import any_app


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """One application for all tests here: making its document takes 0.3 s and needs no database."""
    return any_app()


@pytest.fixture
def operations(app: FastAPI) -> Operations:
    return operations_of(app.openapi())


def test_every_call_has_a_curl_and_every_curl_a_call(operations: Operations) -> None:
    assert {operation_of(call, operations) for call in calls()} == operations.keys()


def test_every_curl_uses_documented_parameters(operations: Operations) -> None:
    for call in calls():
        operation = operations[operation_of(call, operations)]
        known = {each["name"] for each in operation.get("parameters", ())}
        assert {name.partition(".")[0] for name in call.query} <= known, call
        assert ("requestBody" in operation) == (call.body is not None or call.form), call
        if call.body is not None:
            json.loads(call.body)


def test_status_of_every_curl_is_documented(operations: Operations) -> None:
    for call in calls():
        assert str(call.status) in operations[operation_of(call, operations)]["responses"], call
