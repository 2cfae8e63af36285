"""Instants and integers in query strings."""

import contextlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.parameters import parse_instant
from app.identifiers import new_id
from tests.api.snapshot import SNAPSHOT

_ID = re.compile(r"\{[^}]+\}")


def parameters(kind: str) -> Iterator[tuple[str, str, str]]:
    """Method, path and name of each `integer`, or other kind, in the OpenAPI document: new ones are tested too."""
    document: dict[str, Any] = json.loads(SNAPSHOT.read_text())
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query" and kind in _types(parameter["schema"]):
                    yield method, path, parameter["name"]


def _types(schema: dict[str, Any]) -> set[str]:
    return {schema.get("type", ""), *(each.get("type", "") for each in schema.get("anyOf", ()))}


@pytest.mark.parametrize(("method", "path", "name"), sorted(parameters("integer")))
async def test_integer_in_other_notation_is_refused(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, method: str, path: str, name: str
) -> None:
    for wrong in ("1_0", "+5", "5.0", " 5", "٥", "5e0", ""):
        url = f"{_ID.sub(str(new_id()), path)}?{name}={quote(wrong)}"
        caller = admin if path.startswith("/v1/clients") else api
        response = await caller.request(method, url, json={} if method == "post" else None)
        pointers = [place["pointer"] for place in response.json()["errors"]]
        assert (response.status_code, f"/query/{name}" in pointers) == (422, True), (wrong, response.text)


@pytest.mark.parametrize(("method", "path", "name"), sorted(parameters("boolean")))
async def test_fault_of_a_boolean_names_the_values(
    api: httpx.AsyncClient, admin: httpx.AsyncClient, method: str, path: str, name: str
) -> None:
    caller = admin if path.startswith("/v1/clients") else api
    response = await caller.request(method, f"{_ID.sub(str(new_id()), path)}?{name}=maybe")
    assert (response.status_code, response.json()["detail"]) == (422, f"/query/{name} needs to be true or false.")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-23T08:00:00Z", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23t08:00:00.5z", datetime(2026, 11, 23, 8, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-23T08:00:00.123456789Z", datetime(2026, 11, 23, 8, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-11-23T16:00:00+08:00", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23T16:00:00 08:00", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-22T23:00:00-09:00", datetime(2026, 11, 23, 8, tzinfo=UTC)),
    ],
)
def test_instant_is_converted_to_utc(text: str, instant: datetime) -> None:
    assert parse_instant(text) == instant


@given(
    st.one_of(
        st.text(), st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[+-][0-9]{2}:[0-9]{2}\Z")
    )
)
def test_invalid_instant_raises_only_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_instant(text).tzinfo is UTC
