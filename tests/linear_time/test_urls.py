"""URLs are parsed in linear time."""

from contextlib import suppress
from functools import partial

import pytest

from app.dashscope.file_urls import file_key, share_key, upload_path
from app.dashscope.result_files import is_dashscope_host
from app.transcripts import paragraphs
from app.urls import FILE_URL, encode_url
from tests.linear_time.measure import Read, assert_linear, assert_linear_in, copies

URL_READERS: dict[str, Read] = {
    "encode_url": lambda text: encode_url(text, FILE_URL),
    "is_dashscope_host": lambda text: is_dashscope_host(text, "https://dashscope.aliyuncs.com/api/v1"),
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
        assert_linear(read, partial(copies, "https://a/" + unit * 400), unit)
