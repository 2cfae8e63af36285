"""`docs/api.md` has a curl for every call, and none for a call that is not there."""

import json
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
from fastapi import FastAPI

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


class Call(NamedTuple):
    method: str
    path: str
    query: frozenset[str]
    body: str | None


def _calls() -> list[Call]:
    blocks = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    return [_parse(command) for command in re.findall(r"^curl [^']*?(?:'[^']*'[^'\n]*)*$", blocks, re.MULTILINE)]


def _parse(command: str) -> Call:
    words = shlex.split(command)
    address = next(urlsplit(word.removeprefix("$URL")) for word in words if word.startswith("$URL"))
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    body = words[words.index("-d") + 1] if "-d" in words else None
    return Call(method, address.path, frozenset(name for name, _ in parse_qsl(address.query)), body)


@pytest.fixture
def operations(app: FastAPI) -> dict[tuple[str, str], dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return {(method.upper(), path): found for path, methods in paths.items() for method, found in methods.items()}


def test_every_call_has_a_curl_and_every_curl_a_call(operations: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert {_operation(call, operations) for call in _calls()} == operations.keys()


def test_every_curl_uses_what_the_call_knows(operations: dict[tuple[str, str], dict[str, Any]]) -> None:
    for call in _calls():
        operation = operations[_operation(call, operations)]
        known = {each["name"] for each in operation.get("parameters", ())}
        assert {name.partition(".")[0] for name in call.query} <= known, call
        assert ("requestBody" in operation) == (call.body is not None), call
        if call.body is not None:
            json.loads(call.body)


def _operation(call: Call, operations: dict[tuple[str, str], dict[str, Any]]) -> tuple[str, str]:
    """The one without a variable in its path first: `/v1/webhooks/secret` is no id."""
    found = [
        (method, path)
        for method, path in operations
        if method == call.method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), call.path)
    ]
    assert found, f"there is no {call.method} {call.path}"
    return min(found, key=lambda operation: operation[1].count("{"))
