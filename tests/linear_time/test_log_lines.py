"""Log lines are masked and rendered in linear time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from structlog.typing import Processor

from app import logs
from app.api.middleware import MAX_LOGGED_PATH_CHARS
from app.logs import cut, redact
from tests.linear_time.measure import assert_linear_in

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
