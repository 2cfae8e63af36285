"""Every parser of input from clients or DashScope takes time in proportion to the size of the input.

Each case is parsed at 32 KB and at 64 KB of the worst input that is known for it. Quadratic code takes four times as
long for the second.
"""

import gc
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import Any

import httpx
import pytest
from fastapi import Request
from structlog.typing import Processor

from app import logs
from app.api.conditional import matches as matches_tag
from app.api.exception_handlers import validation_problem
from app.api.middleware import MAX_LOGGED_PATH_CHARS
from app.api.negotiation import accepts, accepts_gzip
from app.api.pagination import decode_cursor
from app.api.parameters import parse_instant, require_digits
from app.api.request_body import require_json
from app.api.strict_route import StrictRoute, prefixed_query
from app.catalogue import validate_job
from app.clients.authentication import bearer_token
from app.dashscope.failures import classify_call, classify_file, hide_other_urls
from app.dashscope.file_urls import file_key, share_key, upload_path
from app.dashscope.result_files import is_result_host
from app.dashscope.transport import no_cookies
from app.dashscope.wire import parse_error, parse_page, parse_result_url, parse_submitted, parse_task
from app.errors import GatewayError
from app.jobs.dependencies import preferred_wait_s
from app.jobs.validation import decode_idempotency_key
from app.json_values import has_more_values
from app.logs import cut, redact
from app.search.folding import clean, fold, open_borders, origins
from app.search.matching import matches
from app.search.query import Query, parse
from app.search.segments import Segment, Segments, segment_terms, unpack
from app.transcripts import captions, csv_tsv, paragraphs
from app.transcripts.captions import CaptionOptions
from app.transcripts.csv_tsv import SpokenSentence
from app.transcripts.document_reader import StoredDocument
from app.transcripts.normalise import normalise, write_document
from app.transcripts.responses import render_captions, render_text
from app.transcripts.seekable_gzip import GzipWriter
from app.urls import FILE_URL, encode_url
from app.webhooks.retry_schedule import parse_retry_after

Read = Callable[[Any], object]

SMALL, LARGE = 32 * 1024, 64 * 1024
# Quadratic code takes some 100 ms or more for the large input: what takes less than FLOOR_S needs no second look.
MAX_TIMES, FLOOR_S = 3, 0.002
# A single good try ends a case, so only doubtful cases take more: a busy machine can be slow for half a second.
MAX_TRIES, MAX_TRIES_S = 20, 5.0


@pytest.fixture(autouse=True)
def _no_garbage_collection() -> Iterator[None]:
    """A collection goes through the objects of all tests, at any moment."""
    gc.disable()
    yield
    gc.enable()


def seconds(read: Read, value: Any) -> float:
    """CPU time of this thread: other threads and processes do not count."""
    started = time.thread_time()
    with suppress(ValueError, GatewayError):
        read(value)
    return time.thread_time() - started


def assert_linear(read: Read, make: Callable[[int], Any], case: str = "") -> None:
    """`make` gives the input of about that many bytes."""
    assert_linear_for(read, make(SMALL), make(LARGE), case)


def assert_linear_for(read: Read, small: Any, large: Any, case: str) -> None:
    """The fastest of several tries counts. One is enough if it is fast, or if the times are in proportion."""
    small_s = large_s = inf
    ends_at = time.thread_time() + MAX_TRIES_S
    for _ in range(MAX_TRIES):
        large_s = min(large_s, seconds(read, large))
        if large_s < FLOOR_S:
            return
        small_s = min(small_s, seconds(read, small))
        if large_s < MAX_TIMES * small_s + FLOOR_S:
            return
        if time.thread_time() > ends_at:
            break
    pytest.fail(f"{case!r}: {small_s:.4f} s for {SMALL} bytes, {large_s:.4f} s for {LARGE}")


def assert_linear_in(read: Read, units: Iterable[str], before: str = "", after: str = "") -> None:
    """For texts that repeat each of the units."""
    for unit in units:
        assert_linear(read, partial(repeated, unit, before=before, after=after), f"{before} {unit} {after}")


def repeated(unit: str, size: int, *, before: str = "", after: str = "") -> str:
    return before + unit * (size // len(unit.encode("utf-8", "surrogatepass"))) + after


# Log lines.

MARKERS = [*logs.SECRET_PATTERNS, "://"]
BUILT = ["://a?", "://a:", "://a@", "://@", "://a:b@", ":", "?", "/", "://?", "a://b:c@d?e", "ask-", "sk-a", "-st-"]


@pytest.mark.parametrize("unit", [*MARKERS, *BUILT])
def test_masking_of_log_lines(unit: str) -> None:
    for read in (redact, partial(cut, max_chars=MAX_LOGGED_PATH_CHARS)):
        for before, after in (("/?@ ", ""), ("", "?@"), ("", "")):
            assert_linear_in(read, [unit], before, after)


def test_masking_of_registered_secrets() -> None:
    logs.forget_secrets()
    logs.register_secrets(["hunter2hunter2hunter2x", "api"])
    try:
        assert_linear_in(redact, ["hunter2", "h", "x hunter2hunter2hunter2x", "api "], after=" api")
    finally:
        logs.forget_secrets()


@pytest.mark.parametrize("lines", [logs.json_lines, logs.console_lines])
def test_rendering_of_log_lines(lines: Callable[[], list[Processor]]) -> None:
    def render(text: str) -> None:
        told: Any = {"event": "told", "text": text, "exception": text, "texts": [text]}
        for process in lines()[1:]:
            told = process(None, "info", told)

    assert_linear_in(render, ["://", "\x9b", "\n", "\u2028", "\x1b[1m", "sk-", '"', "\\", "\ud800"])


# Headers and query strings.


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


# URLs.

URL_READERS: dict[str, Read] = {
    "encode_url": lambda text: encode_url(text, FILE_URL),
    "is_result_host": lambda text: is_result_host(text, "https://dashscope.aliyuncs.com/api/v1"),
    "file_key": file_key,
    "share_key": share_key,
    "upload_path": upload_path,
    "title_of": paragraphs.title_of,
}
URL_UNITS = [
    "a",
    ".",
    "a.",
    "-",
    "%",
    "%4",
    "%41",
    "/",
    "?",
    "#",
    "@",
    ":",
    "[",
    "]",
    "\\",
    "你",
    "é",
    " ",
    "\0",
    "://",
]


@pytest.mark.parametrize("name", URL_READERS)
def test_urls(name: str) -> None:
    for before in ("", "https://", "https://a/", "https://a@", "https://["):
        assert_linear_in(URL_READERS[name], URL_UNITS, before)


def test_many_urls() -> None:
    def read(urls: list[str]) -> None:
        for url in urls:
            with suppress(ValueError):
                encode_url(url)

    for unit in ("%", "你", "a.", "-", "@", "é.", "xn--"):
        assert_linear(read, partial(_many, "https://a/" + unit * 400), unit)


# Bodies.


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


# What DashScope answers.

ANSWERS: dict[str, Read] = {
    "task": lambda text: parse_task(
        json.dumps({"output": {"task_status": "FAILED", "code": text, "message": text}}).encode()
    ),
    "submitted": lambda text: parse_submitted(json.dumps({"output": {"task_id": text}}).encode()),
    "page": lambda text: parse_page(json.dumps({"data": [{"task_id": text}]}).encode()),
    "error": lambda text: parse_error(text.encode("utf-8", "surrogatepass")),
    "result URL": lambda text: parse_result_url(json.dumps({"file_url": text}).encode()),
    "call": lambda text: classify_call(400, text, text),
    "file": lambda text: classify_file(text, text),
    "quoted URLs": lambda text: hide_other_urls(text, "https://example.com/a.wav"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_and_their_messages(name: str) -> None:
    units = [
        "?",
        "?a",
        "??a",
        "://",
        "'",
        '"',
        "400-",
        "4",
        ".",
        " ",
        "\0",
        "\ud800",
        "[",
        "{",
        '{"a":',
        "url error",
        "\\",
    ]
    assert_linear_in(ANSWERS[name], units)


# Search.

MARKS = ["\u0323\u0301", "\u3099", "\uff9e", "\u0345\u0301", "\u1161", "\u1100", "\u0e31", "\U0001d165\u0301"]
LETTERS = [
    "a",
    "a ",
    ".",
    " ",
    "天",
    "天a",
    "㍿",
    "ﷺ",
    "ﬀ",
    "\x1e",
    '"',
    "“",
    "a.",
    "\xad",
    "é",
    "e\u0301",
    "_",
    "\x1d",
    "한",
    "İ",
]
FOLDING: dict[str, Read] = {
    "fold": fold,
    "origins": origins,
    "open_borders": lambda text: open_borders(fold(text)),
    "clean": clean,
    "parse": parse,
}


@pytest.mark.parametrize("name", FOLDING)
def test_folding(name: str) -> None:
    assert_linear_in(FOLDING[name], [*MARKS, *LETTERS])
    assert_linear_in(FOLDING[name], MARKS, before="か")


QUERIES = {q: parse(q) for q in ('"a a a a"', "天天天地", '"天 a"', "f", "\u3099")}
SPOKEN = [*MARKS[:2], "a ", ".", "天", "ﬀ", "e\u0301", "a . ", "天 . "]


@pytest.mark.parametrize("unit", SPOKEN)
def test_search(unit: str) -> None:
    """A sentence is one segment, however long; many sentences are several."""
    for make in (_one, _many):
        small, large = make(unit, SMALL), make(unit, LARGE)
        case = f"{make.__name__} of {unit}"
        assert_linear_for(indexed, small, large, case)
        small_segments, large_segments = indexed(small), indexed(large)
        for q, query in QUERIES.items():
            assert_linear_for(partial(find, query), small_segments, large_segments, f"{q} in {case}")


def indexed(texts: list[str]) -> list[Segment]:
    segments = Segments()
    for number, text in enumerate(texts):
        segments.add(0, {"text": text, "begin_time": number, "end_time": number})
    found = [unpack(each.texts) for each in segments.finish()]
    for segment in found:
        segment_terms(segment)
    return found


def find(query: Query, segments: list[Segment]) -> None:
    for segment in segments:
        for _ in matches(segment, query):
            pass


def _one(unit: str, size: int) -> list[str]:
    return [repeated(unit, size, before="か")]


def _many(unit: str, size: int) -> list[str]:
    return [unit] * (size // len(unit.encode()))


# Result documents and their forms.


def document(*channels: list[dict[str, Any]], **others: Any) -> bytes:
    transcripts = [{"channel_id": number, "sentences": channel} for number, channel in enumerate(channels)]
    return json.dumps({"transcripts": transcripts, **others}).encode()


def said(text: str, begin_time: int = 0, end_time: int = 10, **others: Any) -> dict[str, Any]:
    return {"begin_time": begin_time, "end_time": end_time, "text": text, **others}


def stored(raw: bytes) -> StoredDocument:
    written = write_document(
        normalise(raw, file_url="https://example.com/a.wav", family="sensevoice"),
        GzipWriter(1),
        id="1",
        job_id="2",
        model="m",
        region="r",
        created_at=NOW,
        segments=Segments(),
    )
    return StoredDocument(written.index, lambda at, length: written.gzip[at : at + length])


WIDE = CaptionOptions(max_chars_per_line=500, max_lines=20, speakers=True)


def spoken(found: StoredDocument) -> list[SpokenSentence]:
    return [
        SpokenSentence(position.channel, sentence)
        for position, sentence in found.sentences(found.entries(), ahead=True)
    ]


FORMS: dict[str, Callable[[StoredDocument], object]] = {
    "text": lambda found: list(render_text(found, channel_id=None, speakers=True)),
    "srt": lambda found: list(render_captions(found, CaptionOptions(), captions.srt)),
    "wide srt": lambda found: list(render_captions(found, WIDE, captions.srt)),
    "words": lambda found: list(csv_tsv.words_csv(spoken(found))),
    "sentences": lambda found: list(csv_tsv.sentences_tsv(spoken(found))),
    "paragraphs": lambda found: list(paragraphs.paragraphs_json(spoken(found))),
    "markdown": lambda found: list(paragraphs.markdown(spoken(found), title="a", channels=True)),
}
UNITS = ["天", "A. ", "(", "\u0323\u0301", "\u2061", "<|HAPPY|> "]


def shapes(unit: str) -> Iterator[tuple[str, Callable[[int], bytes]]]:
    unit_bytes = len(unit.encode())

    def one(size: int) -> str:
        return "a" * 50 + unit * (size // unit_bytes)

    def words(size: int, text: str) -> list[dict[str, Any]]:
        return [{"text": text, "begin_time": 0, "end_time": 10**9, "punctuation": ""} for _ in range(size // 40)]

    yield "one sentence", lambda size: document([said(one(size))])
    yield "sentences", lambda size: document([said(unit) for _ in range(size // 40)])
    yield "words", lambda size: document([said(unit * (size // 40), words=words(size, unit))])
    yield "a text", lambda size: document([], text=one(size))


@pytest.mark.parametrize("unit", UNITS)
def test_documents(unit: str) -> None:
    for shape, make in shapes(unit):
        small, large = make(SMALL), make(LARGE)
        assert_linear_for(stored, small, large, f"{shape} of {unit}")
        small_document, large_document = stored(small), stored(large)
        for name, form in FORMS.items():
            assert_linear_for(form, small_document, large_document, f"{name} of {shape} of {unit}")


DAMAGE: dict[str, Callable[[int], bytes]] = {
    "halves": lambda size: b'{"transcripts":[],"a":"%b"}' % (rb"\ud83d" * (size // 6)),
    "backslashes": lambda size: b'{"transcripts":[],"a":"%b\\ud83d"}' % (rb"\\" * (size // 2)),
    "depth": lambda size: b'{"transcripts":[],"a":%b}' % (b"[" * size),
    "keys": lambda size: b'{"transcripts":[],%b:1}' % b",".join(b'"%x":1' % number for number in range(size // 9)),
    "digits": lambda size: document([said("a", "9" * size)]),  # type: ignore[arg-type]
    "speakers": lambda size: document([said("a", speaker_id=str(number)) for number in range(size // 70)]),
    "channels": lambda size: document(*([said("a")] for _ in range(size // 90))),
    "empty channels": lambda size: document(*([] for _ in range(size // 40))),
    "backwards": lambda size: document([said("a", 10**6 - number) for number in range(size // 50)]),
    "properties": lambda size: document([], properties={f"{number:x}": [[]] for number in range(size // 16)}),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_documents(case: str) -> None:
    def read(raw: bytes) -> None:
        found = stored(raw)
        for form in FORMS.values():
            form(found)

    assert_linear(read, DAMAGE[case], case)
