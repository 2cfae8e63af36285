"""Headers, query strings and bodies of requests are parsed in linear time."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import Request

from app.api.conditional import matches as matches_tag
from app.api.exception_handlers import validation_problem
from app.api.negotiation import accepts, accepts_gzip
from app.api.pagination import decode_cursor
from app.api.parameters import parse_instant, require_digits
from app.api.request_body import require_json
from app.api.strict_route import StrictRoute, prefixed_query
from app.catalogue import validate_job
from app.clients.authentication import bearer_token
from app.dashscope.transport import no_cookies
from app.jobs.dependencies import preferred_wait_s
from app.jobs.schemas import decode_idempotency_key
from app.json_values import has_more_values
from app.retry_after_header import parse_retry_after
from tests.linear_time.measure import Read, assert_linear, assert_linear_in


def asked(**headers: str) -> Request:
    fields = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "headers": fields, "state": {}, "query_string": b"", "path": "/"})


NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
HEADERS: dict[str, Read] = {
    "Accept": lambda text: accepts([text], "application/json"),
    "Accept-Encoding": lambda text: accepts_gzip(asked(accept_encoding=text)),
    "Authorization": lambda text: bearer_token(asked(authorization=text)),
    "Content-Type": lambda text: require_json(asked(content_type=text, transfer_encoding="chunked")),
    "Idempotency-Key": decode_idempotency_key,
    "If-None-Match": lambda text: matches_tag(text, '"abc"'),
    "Last-Event-ID": require_digits,
    "Prefer": lambda text: preferred_wait_s(asked(prefer=text)),
    "Retry-After": lambda text: parse_retry_after(text, now=NOW),
    "instants": parse_instant,
}
HEADER_UNITS = [
    *('"', "\\", '\\"', '"\\', ",", ";", "=", " ", "\t", "q=", ";q=", ";q=0.", "gzip", "gzip ", "gzip,", "gzip;q=1"),
    *("*", "W/", 'W/"', '"a"', 'a"', "wait=1", "wait=1 ", "wait = ", "wait=1,", 'wait="1', "1", "0", "-1", "a/b;q=1,"),
    *("\xc3\xa9", "\xff", "(", "a ", "application/json;"),
]
BEGINNINGS = [
    "gzip;q=0.",
    "gzip ",
    "wait=1",
    'wait="1',
    "Bearer ",
    "application/json;",
    '"',
    "2026-11-23T08:00:00.",
    "Mon",
]


@pytest.mark.parametrize("name", HEADERS)
def test_headers(name: str) -> None:
    assert_linear_in(HEADERS[name], HEADER_UNITS)
    for before in BEGINNINGS:
        assert_linear_in(HEADERS[name], [" ", "1", "0", '"', ";", "\\"], before, "x")


def test_cookies_of_upstream() -> None:
    def read(text: str) -> None:
        answer = httpx.Response(200, headers={"Set-Cookie": text}, request=httpx.Request("GET", "https://example.com"))
        httpx.Cookies(no_cookies()).extract_cookies(answer)

    for before in ("", 'a="', "a=b; expires="):
        assert_linear_in(read, ["\\", '"', ";", "a=b;", 'a="\\"', " ", "1", "-", "a=b; expires=Mon 1"], before)


async def test_query_strings() -> None:
    async def endpoint() -> None: ...

    route = StrictRoute("/things", endpoint)

    def read(text: str) -> None:
        scope = {"type": "http", "headers": [], "query_string": text.encode(), "method": "GET"}
        request = Request(scope)
        prefixed_query(request, "metadata.")
        with suppress(StopIteration):
            route.authorize(request).send(None)

    assert_linear_in(read, ["a&", "a=1&", "metadata.a=1&", "%00=&", "&", "=", "%", "+", "limit=1&", "a;"])
    assert_linear(read, lambda size: "&".join(f"metadata.{number:x}=1" for number in range(size // 17)), "filters")


def test_cursors() -> None:
    assert_linear_in(lambda text: decode_cursor(text, tuple[str, int], b"key"), ["a", "=", "_", "A-", "\xff", "YWJj"])


@pytest.mark.parametrize(
    "unit", ["[],", "[", "{", '"",', "\\", '\\"', '"', ",", "1,", '{"a":1},', '"a\\\\",', "\\u0041", "9", "a"]
)
def test_counting_of_json_values(unit: str) -> None:
    for before in ('{"a":[', '{"a":"'):
        assert_linear_in(lambda text: has_more_values(text.encode(), 1000), [unit], before)


PARAMETERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "unknown": lambda size: {f"language_hint{number}": 1 for number in range(size // 16)},
    "wrong": lambda size: {"language_hints": ["xx"] * (size // 5)},
    "lists": lambda size: {"language_hints": [[]] * (size // 3)},
    "long": lambda size: {"language_hints": ["x" * size]},
    "words": lambda size: {"special_word_filter": {"filter_with_empty": {"word_list": ["x"] * (size // 4)}}},
    "text": lambda size: {"special_word_filter": "[" + "[]," * (size // 3) + "1]"},
    "deep text": lambda size: {"special_word_filter": "[" * size},
    "digits": lambda size: {"special_word_filter": "9" * size},
    "blank": lambda size: {"corpus": {"text": " " * size}},
    "control": lambda size: {"corpus": {"text": "\n" * size + "\0"}},
    "name": lambda size: {"~/" * (size // 2): 1},
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_validation_of_parameters(case: str) -> None:
    def read(parameters: dict[str, Any]) -> None:
        validate_job(model="fun-asr", region="auto", parameters=parameters, served=["singapore"])

    assert_linear(read, PARAMETERS[case], case)


def test_pointers_of_faults() -> None:
    def read(step: str) -> None:
        validation_problem([{"type": "extra_forbidden", "loc": ("body", step), "msg": ""}] * 100)

    assert_linear_in(read, ["~", "/", "a", "\ud800"])
