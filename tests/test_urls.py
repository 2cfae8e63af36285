"""Validation and percent-encoding of URLs."""

import contextlib
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.urls import (
    ENCODED_URL,
    MAX_URL_LENGTH,
    WEBHOOK_URL,
    encode_parts,
    encode_url,
    find_control_character,
)

text = st.text(st.characters(exclude_categories=()), max_size=60)
near_urls = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "HTTPS", "oss"]), text, st.just("/"), text)


@pytest.mark.parametrize(
    ("given_url", "encoded"),
    [
        ("https://example.com/a.wav", "https://example.com/a.wav"),
        ("http://example.com:8080/a.wav?b=c&d=e%23f", "http://example.com:8080/a.wav?b=c&d=e%23f"),
        ("oss://dashscope-instant/a b.wav", "oss://dashscope-instant/a%20b.wav"),
        ("https://example.com/录音.wav", "https://example.com/%E5%BD%95%E9%9F%B3.wav"),
        ("https://例え.jp/a.wav", "https://xn--r8jz45g.jp/a.wav"),
        ("HTTPS://Example.com/A.wav", "https://Example.com/A.wav"),
        ("https://example.com/a%3ab%3Ac.wav", "https://example.com/a%3ab%3Ac.wav"),
        ("https://example.com/100%.wav", "https://example.com/100%25.wav"),
        ("https://example.com/%%%41%% 录 音%", "https://example.com/%25%25%41%25%25%20%E5%BD%95%20%E9%9F%B3%25"),
        ("https://example.com/%zz%4", "https://example.com/%25zz%254"),
        ("https://example.com/{a}|^`\\<>", "https://example.com/%7Ba%7D%7C%5E%60%5C%3C%3E"),
        ("https://example.com?Signature=a+b/c==", "https://example.com?Signature=a+b/c=="),
        ("https://me:pass@example.com/a.wav", "https://me:pass@example.com/a.wav"),
        ("http://[::1]:8080/a.wav", "http://[::1]:8080/a.wav"),
        ("http://127.0.0.1:9000/a.wav", "http://127.0.0.1:9000/a.wav"),
    ],
)
def test_only_characters_that_need_it_are_encoded(given_url: str, encoded: str) -> None:
    assert encode_url(given_url) == encoded


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", "needs a URL that starts with http://, https://, oss:// or upload://"),
        ("no url", "such as https://example.com/audio.wav"),
        ("example.com/a.wav", "needs a URL"),
        ("//example.com/a.wav", "needs a URL"),
        ("https:example.com", "needs a URL"),
        ("file:///tmp/a.wav", "upload the file"),
        ("data:audio/wav;base64,AAAA", "cannot be sent in the URL"),
        ("ftp://example.com/a.wav", "http://, https://, oss:// or upload://"),
        ("https:///a.wav", "has no host"),
        ("https://:80/a.wav", "has no host"),
        ("https://exa mple.com/a.wav", "invalid host"),
        ("https://a..b/a.wav", "invalid host"),
        (f"https://{'a' * 254}/a.wav", "invalid host"),
        ("https://℀.com/a.wav", "internationalised"),
        ("https://[::1/a.wav", "invalid port"),
        ("https://[::1]80/a.wav", "invalid port"),
        ("https://[1.2.3.4]/a.wav", "IPv6"),
        ("https://[fe80::1%25eth0]/a.wav", "IPv6"),
        ("https://example.com:99999/a.wav", "port"),
        ("https://example.com:８０/a.wav", "port"),
        ("https://example.com/call #1.wav", "write %23"),
        ("https://example.com/call#1.wav", "write %23"),
        ("https://example.com/a.wav?name=#", "write %23"),
        ("oss://bucket/call#1.wav", "write %23"),
        ("https://example.com/\x00.wav", "U+0000"),
        ("https://example.com/\x85.wav", "U+0085"),
        ("https://example.com/\ud83d.wav", "U+D83D"),
        ("https://example.com/a.wav\n", "U+000A"),
        (" https://example.com/a.wav", "white space"),
        ("https://example.com/a.wav\u3000", "white space"),
        (f"https://example.com/{'a' * 9000}", "9,020 characters"),
        (f"https://example.com/{'录' * 500}", "once percent-encoded"),
    ],
)
def test_an_invalid_file_url_is_refused_with_a_hint(url: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        encode_url(url)
    assert hint in str(refusal.value)


def test_a_url_of_the_maximum_length_is_accepted() -> None:
    url = "https://example.com/".ljust(MAX_URL_LENGTH, "a")
    assert encode_url(url) == url


@pytest.mark.parametrize("url", ["oss://bucket/a", "file:///hook", "https://", "hooks/asr"])
def test_an_invalid_webhook_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match=r", such as https://example\.com/hooks/asr$"):
        encode_url(url, WEBHOOK_URL)


def test_webhook_url_may_have_a_fragment() -> None:
    assert encode_url("https://example.com/hook#1", WEBHOOK_URL) == "https://example.com/hook#1"


def test_the_error_does_not_repeat_the_url_with_its_signature() -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        encode_url("https://exa mple.com/a.wav?Signature=secret")
    assert "secret" not in str(refusal.value)


@given(st.one_of(text, near_urls))
@example("http://%%41/%%41")
def test_an_encoded_url_is_ascii_and_encoding_it_again_changes_nothing(url: str) -> None:
    with contextlib.suppress(ValueError):
        encoded = encode_url(url)
        assert encoded.isascii()
        assert len(encoded) <= MAX_URL_LENGTH
        assert find_control_character(encoded) is None
        assert encode_url(encoded) == encoded


@pytest.mark.slow
@given(st.one_of(near_urls, st.from_regex(ENCODED_URL, fullmatch=True)))
@example(f"https://{'a.' * 126}bc/")
def test_the_fast_check_accepts_only_urls_that_need_no_encoding(url: str) -> None:
    if ENCODED_URL.fullmatch(url) and len(url) <= MAX_URL_LENGTH:
        assert encode_parts(url, WEBHOOK_URL) == url


@pytest.mark.parametrize("user", ["[", "]", "[x]", "a@b", "[::1]@c", "a:b[c]:d"])
def test_user_information_cannot_change_the_parsed_host(user: str) -> None:
    encoded = encode_url(f"http://{user}@example.com:80/a")
    assert encode_url(encoded) == encoded
    assert urlsplit(encoded).hostname == "example.com"
    assert urlsplit(encoded).port == 80


@given(st.builds("{}://{}{}".format, st.sampled_from(["http", "HTTPS"]), text, text))
@example("http://[x]@host/")
@example("http://a[b@host:0/]")
def test_every_accepted_url_can_be_parsed(url: str) -> None:
    try:
        encoded = encode_url(url, WEBHOOK_URL)
    except ValueError:
        return
    parts = urlsplit(encoded)
    assert parts.hostname
    assert parts.port is None or parts.port <= 65535
