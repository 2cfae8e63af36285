"""Log lines: their form, their limits, and the redaction of secrets."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from app import logs
from app.logs import configure_logging, redact, register_secrets

KEY = "sk-0123456789abcdef0123456789abcdef"
TOKEN = "asr_Nn-Qg5Khky0S392U_toqK7PONcvNxfH6FBRSW9wKef8"
SIGNED_URL = "https://bucket.oss-cn-beijing.aliyuncs.com/a.wav?Expires=1&Signature=abc%2Fdef"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    logs.forget_secrets()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in (*logs.QUIET_LOGGERS, logs.SILENT_LOGGER):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {KEY}.", "key [redacted]."),
        ("main=sk-abcdef,spare=sk-ghijkl", "main=[redacted],spare=[redacted]"),
        (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer [redacted]"),
        ("Authorization: bearer whatever,x", "Authorization: bearer [redacted],x"),
        (f"'{TOKEN}'", "'[redacted]'"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "[redacted]"),
        ("st-0123456789abcdef0123", "[redacted]"),
        (f"GET {SIGNED_URL} 403", "GET https://bucket.oss-cn-beijing.aliyuncs.com/a.wav?[redacted] 403"),
        ('"oss://bucket/a.wav?x=1"', '"oss://bucket/a.wav?[redacted]"'),
        (r'{"trace": "https://a.example/b?c=d\n  next"}', r'{"trace": "https://a.example/b?[redacted]\n  next"}'),
        ("/fetch/https://a.example/b?c=d", "/fetch/https://a.example/b?[redacted]"),
        (
            "https://a.example/https://b.example/c?d=https://e.example/f?g=h,i",
            "https://a.example/https://b.example/c?[redacted]",
        ),
        ("http://a.example:80/b:c?d=e", "http://a.example:80/b:c?[redacted]"),
        ("postgresql://asr:p:ss@db:5432/asr", "postgresql://asr:[redacted]@db:5432/asr"),
        ("postgresql://db:5432/asr, mail@example.com", "postgresql://db:5432/asr, mail@example.com"),
        ("task-1234567 asr_test_12345_7 disk-usage what? best-effort", None),
    ],
)
def test_text_in_the_form_of_a_secret_is_redacted(text: str, shown: str | None) -> None:
    assert redact(text) == (text if shown is None else shown)


def test_registered_secrets_are_redacted_plain_and_escaped_as_json() -> None:
    register_secrets(['correct "horse" \\battery', ""])
    line = json.dumps({"message": 'got correct "horse" \\battery!'})
    assert redact(line) == '{"message": "got [redacted]!"}'


def test_a_short_secret_is_redacted_as_a_whole_word_only() -> None:
    register_secrets(["job"])
    assert redact("token job, jobs, \x1b[35mjob\x1b[0m") == "token [redacted], jobs, \x1b[35m[redacted]\x1b[0m"


def test_a_secret_that_contains_another_one_is_redacted_as_a_whole() -> None:
    register_secrets(["longsecret", "longsecret-and-more"])
    assert redact("longsecret-and-more") == "[redacted]"


def test_lines_are_json_without_a_terminal() -> None:
    line = _logged(io.StringIO(), lambda: structlog.get_logger().info("job accepted", files=2, client="做"))
    assert json.loads(line) == {
        "event": "job accepted",
        "files": 2,
        "client": "做",
        "level": "info",
        "at": _any_instant(line),
    }


def test_lines_on_a_terminal_are_readable_and_redacted() -> None:
    line = _logged(Terminal(), lambda: structlog.get_logger().warning("refused", key=KEY, url=SIGNED_URL))
    assert "refused" in line
    assert not line.startswith("{")
    assert KEY not in line
    assert "Signature" not in line


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_tracebacks_are_redacted(stream: Callable[[], io.StringIO]) -> None:
    register_secrets(["hunter2hunter2"])

    def log() -> None:
        try:
            int(f"hunter2hunter2 {KEY} {SIGNED_URL}")
        except ValueError:
            structlog.get_logger().exception("work failed")
            logging.getLogger("library").exception("work failed with %s", KEY)

    output = _logged(stream(), log)
    assert output.count("ValueError") >= 2
    for secret in ("hunter2hunter2", KEY, "Signature"):
        assert secret not in output


def test_objects_in_fields_are_redacted() -> None:
    class Call:
        def __repr__(self) -> str:
            return f"<Call {KEY}>"

    line = _logged(
        io.StringIO(), lambda: structlog.get_logger().info("called", call=Call(), nested={"urls": [SIGNED_URL]})
    )
    assert json.loads(line)["call"] == "<Call [redacted]>"
    assert "Signature" not in line


def test_libraries_log_in_the_same_form_and_warnings_only() -> None:
    def log() -> None:
        logging.getLogger("httpx").info("HTTP Request: GET https://a.example 200")
        logging.getLogger("httpx").warning("something is wrong")

    line = _logged(io.StringIO(), log)
    assert (json.loads(line)["event"], json.loads(line)["logger"]) == ("something is wrong", "httpx")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("at", range(logs.MAX_FIELD_CHARS - 60, logs.MAX_FIELD_CHARS + 20, 7))
def test_a_long_field_is_cut_without_revealing_parts_of_secrets(stream: Callable[[], io.StringIO], at: int) -> None:
    secrets = ["hunter2hunter2hunter2", KEY, "Signature=abc%2Fdef", TOKEN]
    register_secrets(secrets[:1])
    text = f"{'x ' * (at // 2)} {secrets[0]} {KEY} {SIGNED_URL} {TOKEN} " + "y " * 3000

    def log() -> None:
        structlog.get_logger().info("event", text=text, nested={"texts": [text] * 3})
        logging.getLogger("library").warning("%s", text)

    output = _logged(stream(), log)
    assert "characters omitted" in output
    assert max(map(len, output.splitlines())) < 3 * logs.MAX_FIELD_CHARS
    for secret in secrets:
        assert not any(secret[start : start + 8] in output for start in range(len(secret) - 8))


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_traceback_keeps_its_beginning_and_its_end(stream: Callable[[], io.StringIO]) -> None:
    def log() -> None:
        try:
            float("x " * 100_000 + "and no more")
        except ValueError:
            structlog.get_logger().exception("work failed")

    output = _logged(stream(), log)
    assert len(output) < 2 * logs.MAX_TRACEBACK_CHARS
    assert "Traceback (most recent call last)" in output
    assert "and no more" in output


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_control_characters_are_escaped_on_a_terminal(stream: Callable[[], io.StringIO]) -> None:
    hostile = "/a\x9b31m\x85\x1b]0;title\x07\r\n\u2028\u202e\x00\x7f"

    def log() -> None:
        structlog.get_logger().info("request", path=hostile, paths=[hostile])
        logging.getLogger("library").warning("not read: %s", hostile)

    lines = _logged(stream(), log).split("\n")
    assert len(lines) == 3
    for line in lines:
        without_colours = re.sub(r"\x1b\[\d*m", "", line)
        assert not logs.UNSAFE_CHARACTERS.search(without_colours)


def test_a_log_line_is_the_same_json_with_control_characters_escaped() -> None:
    hostile = "/a\x9b31m\u2028\u202e\x00 做"
    line = _logged(io.StringIO(), lambda: structlog.get_logger().info("request", path=hostile))
    assert json.loads(line)["path"] == hostile
    assert "\x9b" not in line


def test_a_secret_with_a_control_character_is_redacted_as_a_whole() -> None:
    url = "https://a.example/b?Signature=abc\x9bdef"
    line = _logged(io.StringIO(), lambda: structlog.get_logger().info("fetched", url=url))
    assert json.loads(line)["url"] == "https://a.example/b?[redacted]"


def test_lines_below_the_level_are_not_written() -> None:
    def log() -> None:
        structlog.get_logger().info("quiet")
        logging.getLogger("library").info("quiet")

    assert _logged(io.StringIO(), log, level="warning") == ""


def test_malformed_forms_of_clients_are_not_warnings() -> None:
    def log() -> None:
        with pytest.raises(MultipartParseError):
            MultipartParser(b"limit").write(b"no form")

    assert _logged(io.StringIO(), log, level="warning") == ""


def _logged(stream: io.StringIO, log: Callable[[], Any], *, level: str = "info") -> str:
    configure_logging(level, stream=stream)
    log()
    return stream.getvalue()


def _any_instant(line: str) -> str:
    instant: str = json.loads(line)["at"]
    assert instant.endswith("Z")
    return instant
