"""Responses on hot-word lists, and the calls that read and change them."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from app.catalogue.hot_words import HotWord
from app.dashscope.failures import FailureKind, classify_call, classify_file
from app.dashscope.vocabularies import (
    ListedVocabulary,
    UpstreamVocabulary,
    VocabularyPage,
    is_limit,
    parse_created,
    parse_list,
    parse_vocabulary,
)
from app.dashscope.wire import parse_error
from tests.dashscope.samples import sample

ID = "vocab-testpfx-6977ae49f65c4c3db054727cxxxxxxxx"
WORDS = [HotWord("赛德克巴莱", 4, "zh"), HotWord("Seediq Bale", 4, "en")]


def test_samples_of_the_protocol_are_read() -> None:
    assert parse_created(sample("vocabulary_create_response")) == ID
    listed = ListedVocabulary(ID, datetime(2024, 11, 5, 16, 31, 32))  # noqa: DTZ001 - DashScope names no zone
    assert parse_list(sample("vocabulary_list_response")) == VocabularyPage([listed])
    assert parse_vocabulary(sample("vocabulary_query_response")) == UpstreamVocabulary("OK", "fun-asr", WORDS)


@pytest.mark.parametrize("created", [None, 7, "", "2026-02-30 00:00:00", "2026-11-29T12:00:00Z"])
def test_list_without_a_time_may_have_been_made_at_any(created: object) -> None:
    body = orjson.dumps({"output": {"vocabulary_list": [{"vocabulary_id": ID, "gmt_create": created}]}})
    (listed,) = parse_list(body).lists
    assert listed == ListedVocabulary(ID)
    assert listed.made_within(datetime.now(UTC), datetime.now(UTC))


def test_time_of_a_list_is_in_beijing_time_or_in_utc() -> None:
    (listed,) = parse_list(sample("vocabulary_list_response")).lists
    for hour in (8, 16):
        at = datetime(2024, 11, 5, hour, 31, 32, tzinfo=UTC)
        assert listed.made_within(at, at)
        assert listed.made_within(at - timedelta(minutes=10), at - timedelta(minutes=2))
        assert listed.made_within(at + timedelta(minutes=2), at + timedelta(minutes=10))
        assert not listed.made_within(at - timedelta(minutes=10), at - timedelta(minutes=3))
        assert not listed.made_within(at + timedelta(minutes=3), at + timedelta(minutes=10))


def test_lists_are_compared_without_what_dashscope_may_change() -> None:
    found = UpstreamVocabulary("OK", "fun-asr", WORDS)
    assert found.equals("fun-asr", [HotWord("Seediq Bale", 4), HotWord("赛德克巴莱", 4)])
    assert UpstreamVocabulary("OK", "fun-asr", [HotWord("cafe\u0301", 4)]).equals(
        "fun-asr", [HotWord(" caf\u00e9 ", 4)]
    )
    assert not found.equals("fun-asr-mtl", WORDS)
    assert not found.equals("fun-asr", WORDS[:1])
    assert not found.equals("fun-asr", [*WORDS, WORDS[0]])


def test_limit_of_lists_is_no_rate_limit() -> None:
    code, message = parse_error(sample("error_http400_vocabulary_limit"))
    failure = classify_call(400, code, message)
    assert (is_limit(failure), failure.kind) == (True, FailureKind.PERMANENT)
    throttled = classify_call(429, code, message)
    assert (is_limit(throttled), throttled.kind) == (False, FailureKind.THROTTLED)


@pytest.mark.parametrize("status", [400, 416])
@pytest.mark.parametrize("prefix", ["", "400-"])
def test_missing_list_has_a_code_of_its_own(status: int, prefix: str) -> None:
    code, message = parse_error(sample("error_http416_vocabulary_missing"))
    failures = [classify_call(status, f"{prefix}{code}", message), classify_file(f"{prefix}{code}", message)]
    assert {failure.code for failure in failures} == {"vocabulary_not_found"}
    assert {failure.retryable for failure in failures} == {False}
    assert "hot-word list" in failures[0].message
