"""Logging: JSON lines on standard error, or readable lines if that is a terminal.

`redact` removes secrets from the finished line, so that it covers fields, tracebacks and the logs of libraries.
Commands configure logging once. Logs never go to standard output, which is for the results of commands.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"
SHORT_SECRET_CHARS = 8

# The start of a word. On a terminal it may follow a colour code.
_START = r"((?<![A-Za-z0-9])|(?<=\x1b\[\dm)|(?<=\x1b\[\d\dm))"
# Secrets with a known form. Group 1 is kept. The keys are searched first: the patterns alone cost 12 µs per line.
SECRET_PATTERNS = {
    "sk-": re.compile(_START + r"sk-[A-Za-z0-9_-]{6,}"),  # API keys of DashScope
    "st-": re.compile(_START + r"st-[A-Za-z0-9_-]{16,}"),  # temporary keys of DashScope
    "asr_": re.compile(_START + r"asr_[A-Za-z0-9_-]{20,}"),  # tokens of clients
    "whsec_": re.compile(_START + r"whsec_[A-Za-z0-9+/=_-]{8,}"),  # webhook secrets
    "earer ": re.compile(r"""([Bb]earer )[^\s"'\\,\x1b]+"""),
    "@": re.compile(r"""(://[^\s/:@"'<>]*+:)[^\s/@"'<>]++(?=@)"""),  # passwords
    # Query strings of file URLs contain signatures. A match ends before the next `://`: without this rule a line of
    # 60 KB took 10 s.
    "?": re.compile(r"""(://[^\s"'<>\\?\x1b:]*+(?::(?!//)[^\s"'<>\\?\x1b:]*+)*+\?)[^\s"'<>\\\x1b]++"""),
}
# Limits of a field, and of the traceback of an exception.
MAX_FIELD_CHARS = 4_000
MAX_TRACEBACK_CHARS = 16_000
_TRACEBACKS = {"exception", "stack"}
# Control characters of terminals (C0, DEL and C1), line separators, and characters that change the text direction.
UNSAFE_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# Loggers limited to warnings: at `info` they repeat the gateway's own events or print statements with their values.
QUIET_LOGGERS = ("aiohttp", "alembic", "asyncio", "httpcore", "httpx", "sqlalchemy", "uvicorn")
# This library warns of every malformed form. The client gets a 400, and no operator can do anything.
SILENT_LOGGER = "python_multipart"


class _Secrets:
    """Registered secret values. One instance per process, because libraries log from everywhere."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._forms: list[str] = []
        self._pattern: re.Pattern[str] | None = None

    def add(self, values: Iterable[str]) -> None:
        self._values.update(value for value in values if value)
        forms = {form for value in self._values for form in (value, json.dumps(value, ensure_ascii=False)[1:-1])}
        self._forms = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_literal, self._forms))) if forms else None

    def clear(self) -> None:
        self._values.clear()
        self.add(())

    def mask(self, text: str) -> str:
        """`text` without the values. The search comes first, because it is much faster than the pattern."""
        for form in self._forms:  # a generator in `any` would take three times as long
            if form in text and self._pattern:
                return self._pattern.sub(REDACTED, text)
        return text


_secrets = _Secrets()


def register_secrets(values: Iterable[str]) -> None:
    """Remove these values from all later log lines: fields, messages and tracebacks."""
    _secrets.add(values)


def forget_secrets() -> None:
    """Undo all calls of `register_secrets`."""
    _secrets.clear()


def redact(text: str) -> str:
    """`text` without registered secrets, keys, tokens, passwords in URLs and query strings."""
    text = _secrets.mask(text)
    for marker, pattern in SECRET_PATTERNS.items():
        if marker in text:
            text = pattern.sub(rf"\g<1>{REDACTED}", text)
    return text


def cut(text: str, max_chars: int) -> str:
    """`text` without its middle if it exceeds `max_chars`. Redacted first: half a secret has no known form."""
    if len(text) <= max_chars:
        return text
    text = redact(text)
    omitted = len(text) - max_chars
    if omitted <= 0:
        return text
    end = max_chars // 4
    return f"{text[: max_chars - end]}[{omitted:,} characters omitted]{text[-end:]}"


def configure_logging(level: str, *, stream: TextIO | None = None) -> None:
    """Send the logs of structlog and of the standard library to one stream. `level`: debug, info, warning or error."""
    stream = stream or sys.stderr
    threshold: int = getattr(logging, level.upper())
    describe: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _add_time,
    ]
    finish = console_lines() if stream.isatty() else json_lines()
    structlog.configure(
        processors=[*describe, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),
        # Without it, the logger of a module is made again for each line, which takes two fifths of the line's time.
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *describe],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    logging.basicConfig(handlers=[handler], level=threshold, force=True)
    logging.captureWarnings(capture=True)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.getLogger(SILENT_LOGGER).setLevel(logging.ERROR)


def _add_time(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Add the time. structlog's own processor takes three times as long, a sixth of the time of a line."""
    microseconds = time.time_ns() // 1000
    event["at"] = f"{_second(microseconds // 1_000_000)}.{microseconds % 1_000_000:06d}Z"
    return event


@lru_cache(maxsize=1)
def _second(epoch_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_s))


def console_lines() -> list[Processor]:
    """The processors that turn an event into a line for a terminal."""
    # The plain formatter: the other one prints local variables, and breaks lines inside secrets.
    render = structlog.dev.ConsoleRenderer(
        timestamp_key="at", exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )
    return [_format_exception, _bound_fields, _escape_fields, partial(_redacted, render)]


def json_lines() -> list[Processor]:
    """The processors that turn an event into a line of JSON."""
    return [_format_exception, _json_line]


def _format_exception(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """As structlog's own, which takes 1 µs for a line without an exception too."""
    return structlog.processors.format_exc_info(logger, name, event) if "exc_info" in event else event


def _json_line(logger: WrappedLogger, name: str, event: EventDict) -> str:
    """The redacted line. Most lines are short and need no escapes; for those the checks of each field do nothing.

    JSON escapes control characters with a backslash, or writes them as they are: then the line is not printable.
    """
    line = _json(event)
    # ASCII without DEL: `isprintable` would look at each character.
    if len(line) <= MAX_FIELD_CHARS and line.isascii() and "\\" not in line and "\x7f" not in line:
        return redact(line)
    line = redact(_json(_bound_fields(logger, name, event)))
    # JSON allows unescaped control characters within strings only.
    return line if line.isprintable() else _escaped(line)


def _bound_fields(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Shorten each field to its limit. An object that is too long becomes a string."""
    for name, value in event.items():
        if value is None or isinstance(value, int | float):
            continue
        text = value if isinstance(value, str) else repr(value)
        max_chars = MAX_TRACEBACK_CHARS if name in _TRACEBACKS else MAX_FIELD_CHARS
        if len(text) > max_chars:
            event[name] = cut(text, max_chars)
        elif isinstance(value, str) and not value.isprintable():
            # Redact before control characters are escaped: afterwards a secret would end at the first of them.
            event[name] = redact(value)
    return event


def _escape_fields(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Escape control characters and line ends of fields for a terminal. Tracebacks keep their line ends."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            lines = value.split("\n") if name in _TRACEBACKS else [value]
            event[name] = "\n".join(map(_escaped, lines))
    return event


def _redacted(render: Processor, logger: WrappedLogger, name: str, event: EventDict) -> str:
    return redact(str(render(logger, name, event)))


def _escaped(text: str) -> str:
    return UNSAFE_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _json(event: EventDict) -> str:
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, or an integer above 64 bits: rare, and ten times slower
        return json.dumps(event, default=repr)


def _literal(secret: str) -> str:
    """A pattern for a secret. A short one may be part of ordinary words, so it has to stand alone."""
    if len(secret) >= SHORT_SECRET_CHARS:
        return re.escape(secret)
    return rf"{_START}{re.escape(secret)}(?![A-Za-z0-9])"
