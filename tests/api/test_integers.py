"""Every integer in a query string is digits: found in the document, so that a new one is tested as soon as it is."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from app.identifiers import new_id
from tests.api.snapshot import SNAPSHOT

_ID = re.compile(r"\{[^}]+\}")


def integers() -> Iterator[tuple[str, str, str]]:
    document: dict[str, Any] = json.loads(SNAPSHOT.read_text())
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query" and "integer" in _types(parameter["schema"]):
                    yield method, path, parameter["name"]


def _types(schema: dict[str, Any]) -> set[str]:
    return {schema.get("type", ""), *(each.get("type", "") for each in schema.get("anyOf", ()))}


@pytest.mark.parametrize(("method", "path", "name"), sorted(integers()))
async def test_an_integer_is_digits(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, method: str, path: str, name: str
) -> None:
    for wrong in ("1_0", "+5", "5.0", " 5", "٥", "5e0", ""):
        url = f"{_ID.sub(str(new_id()), path)}?{name}={quote(wrong)}"
        caller = admin if path.startswith("/v1/clients") else api
        answer = await caller.request(method, url, json={} if method == "post" else None)
        pointers = [place["pointer"] for place in answer.json()["errors"]]
        assert (answer.status_code, f"/query/{name}" in pointers) == (422, True), (wrong, answer.text)
