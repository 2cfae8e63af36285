"""Items are assigned to the files that they certainly belong to, and to no others."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from urllib.parse import quote, unquote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dashscope.file_urls import DistinctFiles
from app.dashscope.wire import FileOutcome
from app.poller.assignment import assign, is_of

A, B = "https://e/a.wav", "https://e/b.wav"
UPLOAD = "oss://dashscope-instant/x/a.wav"
UPLOAD_ECHO = "http://dashscope-file-mgr.oss-cn-beijing.aliyuncs.com/dashscope-instant/x/a.wav?Expires=1"


def result(file_url: str | None, link: str = "") -> FileOutcome:
    return FileOutcome(file_url, link or f"https://r/{file_url}")


def links(urls: Sequence[str], *items: FileOutcome, complete: bool = True) -> list[str | None]:
    return [None if item is None else item.transcription_url for item in assign(urls, items, complete=complete)]


def test_exact_url_takes_precedence_over_another_spelling() -> None:
    items = result("https://e/x/y.wav", "https://r/1"), result("https://e/x%2Fy.wav", "https://r/2")
    assert links(["https://e/x%2Fy.wav", B], *items) == ["https://r/2", None]


@pytest.mark.parametrize(
    "repeated",
    [result(A, "https://r/a?Signature=2"), FileOutcome(A, ended=False), result(A, "https://r/a?Signature=1")],
)
def test_repeated_item_counts_once(repeated: FileOutcome) -> None:
    assert links([A, B], result(A, "https://r/a?Signature=1"), repeated, result(B, "https://r/b")) == [
        "https://r/a?Signature=1",
        "https://r/b",
    ]


@pytest.mark.parametrize("other", [result(A, "https://r/2"), FileOutcome(A, code="DECODE_ERROR")])
def test_contradicting_items_are_no_result(other: FileOutcome) -> None:
    assert links([A, B], result(A, "https://r/1"), other, result(B, "https://r/b")) == [None, "https://r/b"]


def test_document_in_the_response_is_assigned_like_a_link() -> None:
    first, second = FileOutcome(A, document=b"1"), FileOutcome(A, document=b"2")
    other = FileOutcome(B, document=b"1")
    assert assign([A, B], [other, first, first], complete=True) == [first, other]
    assert assign([A, B], [other, first, second], complete=True) == [None, other]


def test_link_shared_by_two_files_is_the_result_of_neither() -> None:
    assert links([A, B], result(A, "https://r/1"), result(B, "https://r/1")) == [None, None]
    assert links([A, B], result(A, "https://r/1"), result(None, "https://r/1")) == [None, None]


@pytest.mark.parametrize(
    ("url", "named", "belongs"),
    [(A, None, True), (A, A, True), (A, "https://E:443/%61.wav", True), (A, B, False), (UPLOAD, UPLOAD_ECHO, True)],
)
def test_result_document_belongs_to_the_file_that_it_names(url: str, named: str | None, belongs: bool) -> None:
    assert is_of(url, named) is belongs


def test_item_with_an_unknown_url_is_assigned_to_no_file() -> None:
    assert links([A, B], result(A), result("https://e/c.wav")) == ["https://r/https://e/a.wav", None]
    assert links([A], result("https://e/c.wav")) == [None]


def test_item_without_a_url_is_assigned_to_the_last_file() -> None:
    assert links([A, B], result(None, "https://r/b"), result(A, "https://r/a")) == ["https://r/a", "https://r/b"]


@pytest.mark.parametrize(
    "items",
    [
        [result(None, "https://r/1"), result(None, "https://r/2")],
        [result(None, "https://r/1")],
        [result(None, "https://r/1"), result("https://e/c.wav", "https://r/c")],
        [result(None, "https://r/1"), result("https://e/c.wav"), result(A, "https://r/a"), result(A, "https://r/2")],
    ],
)
def test_items_without_a_url_are_not_guessed(items: list[FileOutcome]) -> None:
    assert links([A, B], *items)[1] is None


def test_item_without_a_url_may_belong_to_a_file_that_left_the_task() -> None:
    assert links([A], result(None), complete=False) == [None]


def test_upload_is_assigned_by_its_path_among_others() -> None:
    other = "oss://dashscope-instant/x/b.wav"
    items = result(UPLOAD_ECHO.replace("a.wav", "b.wav"), "https://r/b"), result(UPLOAD_ECHO, "https://r/a")
    assert links([UPLOAD, A, other], *items, complete=False) == ["https://r/a", None, "https://r/b"]


def test_upload_under_an_unknown_url_is_assigned_if_it_is_the_last_file() -> None:
    unknown = result("http://mirror/123?Expires=1", "https://r/u")
    assert links([UPLOAD], unknown) == ["https://r/u"]
    assert links([UPLOAD, A], unknown, result(A, "https://r/a")) == ["https://r/u", "https://r/a"]
    assert links([UPLOAD, A], unknown) == [None, None]
    assert links([UPLOAD, "oss://x/b.wav"], unknown, result("http://mirror/124")) == [None, None]
    assert links([UPLOAD], result("oss://x/b.wav")) == [None]


def test_equal_spellings_in_one_task_need_the_exact_url() -> None:
    escaped, plain = "https://e/x%2Fy.wav", "https://e/x/y.wav"
    assert links([escaped, plain], result(plain, "https://r/p"), result(escaped, "https://r/e")) == [
        "https://r/e",
        "https://r/p",
    ]
    assert links([escaped, plain], result(plain, "https://r/1"), result(plain, "https://r/2")) == [None, None]
    assert links([escaped, plain], result(plain, "https://r/1")) == [None, None]


def re_escaped(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(unquote(rest), safe='/:?@=&')}"


def with_host_in_capitals(url: str) -> str:
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    return f"{scheme}://{user}{at}{host.upper()}{slash}{path}"


def in_lower_case_escapes(url: str) -> str:
    return quote(unquote(url), safe=":/?@=&").lower() if url.islower() else url


ECHOES: list[Callable[[str], str]] = [
    str,
    unquote,
    unquote_plus,
    re_escaped,
    with_host_in_capitals,
    in_lower_case_escapes,
    lambda url: with_host_in_capitals(unquote(url)),
    lambda url: unquote(unquote(url)),
]
# Few pieces, so that many URLs of a list differ only in their spelling.
PIECES = st.sampled_from(
    ["a", "b", "/", "%2F", "%2f", "%252F", "+", "%20", "%2B", "你", "%E4%BD%A0", "%C4%E3", "..", "."]
)
NAMES = st.lists(PIECES, min_size=1, max_size=5).map("".join)
URLS = st.builds(
    lambda scheme, user, host, port, name, query: f"{scheme}://{user}{host}{port}/{name}.wav{query}",
    st.sampled_from(["https", "https", "http"]),
    st.sampled_from(["", "", "", "me:p%40ss@", "me:pass@"]),
    st.sampled_from(["e.example", "E.example", "f.example"]),
    st.sampled_from(["", "", ":443", ":80", ":8443"]),
    NAMES,
    st.sampled_from(["", "", "?", "?s=a%2Fb%3D", "?s=a/b=", "?s=a+b", "?s=a%20b"]),
)


def as_one_task(urls: Sequence[str]) -> list[str]:
    """The URLs that a claim puts into one task."""
    distinct = DistinctFiles()
    return [url for url in urls if distinct.add(url)]


def response(urls: Sequence[str], echo: Callable[[str], str], rng: random.Random, losses: float) -> list[FileOutcome]:
    """Items in a form that upstream may send. The link of each file has the number of the transcribed file."""
    items = [result(echo(url), f"https://r/{number}?Signature=0") for number, url in enumerate(urls)]
    items = [item for item in items if rng.random() >= losses]
    if items and rng.random() < 0.5:
        repeated = rng.choice(items)
        items.append(replace(repeated, transcription_url=f"{repeated.transcription_url}1"))
    rng.shuffle(items)
    return items


def numbers(found: Sequence[FileOutcome | None]) -> list[int | None]:
    links = [item and item.transcription_url for item in found]
    return [int(link.split("/")[3].split("?")[0]) if isinstance(link, str) else None for link in links]


@given(st.lists(URLS, min_size=1, max_size=30), st.sampled_from(ECHOES), st.randoms(use_true_random=False))
def test_every_file_gets_its_own_document_in_any_spelling_of_its_url(
    urls: list[str], echo: Callable[[str], str], rng: random.Random
) -> None:
    urls = as_one_task([url for url in urls if "%C4" not in url])  # GBK escapes are not valid UTF-8
    items = response(urls, echo, rng, losses=0)
    assert numbers(assign(urls, items, complete=True)) == list(range(len(urls)))


@given(
    st.lists(URLS, min_size=1, max_size=30),
    st.lists(st.sampled_from(ECHOES), min_size=1, max_size=3),
    st.randoms(use_true_random=False),
    st.lists(st.sampled_from([None, "https://other.example/z.wav"]), max_size=2),
    st.booleans(),
)
def test_no_file_gets_the_document_of_another_file(
    urls: list[str], echoes: list[Callable[[str], str]], rng: random.Random, others: list[str | None], complete: bool
) -> None:
    """Items may be missing, repeated or unknown, and the spelling may change within one response."""

    def echo(url: str) -> str:
        return rng.choice(echoes)(url)

    urls = as_one_task(urls)
    items = response(urls, echo, rng, losses=0.2)
    unknown = [result(other, f"https://r/{1000 + number}") for number, other in enumerate(others)]
    found = numbers(assign(urls, [*items, *unknown], complete=complete and not unknown))
    for number, given_number in enumerate(found):
        assert given_number in {None, number}


@given(st.lists(URLS, min_size=2, max_size=12))
def test_exact_echoes_give_every_file_its_own_document(urls: list[str]) -> None:
    """This includes tasks of earlier releases, which did not compare spellings at the claim."""
    urls = sorted(set(urls))
    items = [result(url, f"https://r/{number}") for number, url in enumerate(urls)]
    assert numbers(assign(urls, items[::-1], complete=True)) == list(range(len(urls)))


@given(st.lists(URLS, min_size=2, max_size=12), st.sampled_from(ECHOES), st.randoms(use_true_random=False))
def test_ambiguous_files_get_no_document_of_another_file(
    urls: list[str], echo: Callable[[str], str], rng: random.Random
) -> None:
    urls = sorted(set(urls))
    items = response(urls, echo, rng, losses=0)
    for number, given_number in enumerate(numbers(assign(urls, items, complete=True))):
        assert given_number in {None, number}


@given(URLS, st.sampled_from(ECHOES), st.sampled_from(ECHOES))
def test_files_with_equal_echoes_never_share_a_task(
    url: str, one: Callable[[str], str], other: Callable[[str], str]
) -> None:
    for before, after in pairwise([url, one(url), other(one(url))]):
        assert as_one_task([before, after]) == [before]
