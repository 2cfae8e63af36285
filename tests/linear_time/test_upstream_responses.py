"""Responses of DashScope and their messages are parsed in linear time."""

import json

import pytest

from app.dashscope.failures import classify_call, classify_file, hide_other_urls
from app.dashscope.wire import parse_error, parse_page, parse_result_url, parse_submitted, parse_task
from tests.linear_time.measure import Read, assert_linear_in

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
