"""If-None-Match as defined by RFC 9110."""

import pytest
from fastapi import Request

from app.api.conditional import matches, not_modified, strong_etag


@pytest.mark.parametrize(
    ("if_none_match", "matching"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ("*", True),
        (' "b" , W/"a"', True),
        ('"b","a"', True),
        ('"b"', False),
        ("a", False),
        ("", False),
        ('"a', False),
        ('"aa"', False),
        ('"b, *"', False),
    ],
)
def test_if_none_match_is_compared_weakly_over_lists(if_none_match: str, *, matching: bool) -> None:
    assert matches(if_none_match, '"a"') is matching


def test_etag_is_strong_and_depends_on_all_parts() -> None:
    assert strong_etag("job", 1) == strong_etag("job", 1)
    assert strong_etag("job", 1) != strong_etag("job", 2)
    assert strong_etag("ab", "c") != strong_etag("a", "bc")
    assert strong_etag("a").startswith('"')


def test_matching_etag_gives_304_with_the_etag() -> None:
    def request(*values: bytes, method: str = "GET") -> Request:
        headers = [(b"if-none-match", value) for value in values]
        return Request({"type": "http", "method": method, "headers": headers})

    response = not_modified(request(b'"x"', b'"a"'), '"a"')
    assert response is not None
    assert (response.status_code, response.headers["etag"]) == (304, '"a"')
    assert not_modified(request(b'"x"'), '"a"') is None
    assert not_modified(request(), '"a"') is None
    assert not_modified(request(b"*", method="POST"), '"a"') is None
