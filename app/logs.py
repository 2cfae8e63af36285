"""Logging for people and machines: JSON lines on standard error, readable lines when that is a terminal.

Nothing secret gets out: `redact` works on the finished line, whatever object, traceback or library it came from.
Configured once, by the front doors. Logs never go to standard output: that belongs to what a command was asked for.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"
SHORT_SECRET_CHARS = 8

# Where a word starts; on a terminal it may follow a colour code.
_START = r"((?<![A-Za-z0-9])|(?<=\x1b\[\dm)|(?<=\x1b\[\d\dm))"
# What is told by its shape; group 1 stays. The markers are looked for first: patterns alone cost 12 µs a line.
SECRET_PATTERNS = {
    "sk-": re.compile(_START + r"sk-[A-Za-z0-9_-]{6,}"),  # DashScope's keys
    "st-": re.compile(_START + r"st-[A-Za-z0-9_-]{16,}"),  # and its temporary ones
    "asr_": re.compile(_START + r"asr_[A-Za-z0-9_-]{20,}"),  # tokens of clients
    "whsec_": re.compile(_START + r"whsec_[A-Za-z0-9+/=_-]{8,}"),  # webhook secrets
    "earer ": re.compile(r"""([Bb]earer )[^\s"'\\,\x1b]+"""),
    "@": re.compile(r"""(://[^\s/:@"'<>]*+:)[^\s/@"'<>]++(?=@)"""),  # passwords
    # Query strings of file URLs are signatures. A URL ends before the next `://`: from each of them to the end of the
    # line, a line of 60 KB took 10 s.
    "?": re.compile(r"""(://[^\s"'<>\\?\x1b:]*+(?::(?!//)[^\s"'<>\\?\x1b:]*+)*+\?)[^\s"'<>\\\x1b]++"""),
}
# Bounds of what a line repeats: a field, and the traceback of an exception.
MAX_FIELD_CHARS = 4_000
MAX_TRACEBACK_CHARS = 16_000
_TRACEBACKS = {"exception", "stack"}
# What a terminal obeys (C0, DEL and C1), and what changes lines or the direction of text.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
# These say at `info` what the gateway says better itself, or print statements with their values.
_NOISY = ("aiohttp", "alembic", "asyncio", "httpcore", "httpx", "sqlalchemy", "uvicorn")


class _Secrets:
    """What `redact` blots out besides known shapes. One per process: libraries log from everywhere."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._forms: list[str] = []
        self._pattern: re.Pattern[str] | None = None

    def add(self, values: Iterable[str]) -> None:
        self._values.update(value for value in values if value)
        forms = {form for value in self._values for form in (value, json.dumps(value, ensure_ascii=False)[1:-1])}
        self._forms = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_literal, self._forms))) if forms else None

    def mask(self, text: str) -> str:
        """Nearly every line has none of them: looking for each is a fraction of what the pattern takes."""
        if self._pattern and any(form in text for form in self._forms):
            return self._pattern.sub(REDACTED, text)
        return text


_secrets = _Secrets()


def register_secrets(values: Iterable[str]) -> None:
    """From now on no log line contains these, in any field, message or traceback."""
    _secrets.add(values)


def redact(text: str) -> str:
    """`text` without registered secrets, without what polls like a key or token, without query strings of URLs."""
    text = _secrets.mask(text)
    for marker, pattern in SECRET_PATTERNS.items():
        if marker in text:
            text = pattern.sub(rf"\g<1>{REDACTED}", text)
    return text


def cut(text: str, most_chars: int) -> str:
    """`text`, or where it is longer its beginning and its end. It is redacted before: half a secret has no shape."""
    if len(text) <= most_chars:
        return text
    text = redact(text)
    left_out = len(text) - most_chars
    if left_out <= 0:
        return text
    end = most_chars // 4
    return f"{text[: most_chars - end]}[{left_out:,} characters left out]{text[-end:]}"


def configure_logging(level: str, *, stream: TextIO | None = None) -> None:
    """Route structlog and the standard library's loggers to one stream in one form. `level`: debug, info, …"""
    stream = stream or sys.stderr
    threshold: int = getattr(logging, level.upper())
    describe: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _stamp,
    ]
    finish = _console() if stream.isatty() else _json_lines()
    structlog.configure(
        processors=[*describe, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
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
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def _stamp(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """structlog's own stamper takes three times as long, a sixth of a line."""
    microseconds = time.time_ns() // 1000
    event["at"] = f"{_second(microseconds // 1_000_000)}.{microseconds % 1_000_000:06d}Z"
    return event


@lru_cache(maxsize=1)
def _second(epoch_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_s))


def _console() -> list[Processor]:
    # The plain formatter: the pretty one prints local variables, and breaks lines inside what must be blotted out.
    render = structlog.dev.ConsoleRenderer(
        timestamp_key="at", exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )
    return [structlog.processors.format_exc_info, _bound_fields, _escape_fields, partial(_redacted, render)]


def _json_lines() -> list[Processor]:
    render = structlog.processors.JSONRenderer(serializer=_json, default=repr)
    return [structlog.processors.format_exc_info, _bound_fields, partial(_escaped_json, partial(_redacted, render))]


def _bound_fields(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Each field within its limit. What is no string and too long is cut as a string."""
    for name, value in event.items():
        if value is None or isinstance(value, int | float):
            continue
        text = value if isinstance(value, str) else repr(value)
        most_chars = MAX_TRACEBACK_CHARS if name in _TRACEBACKS else MAX_FIELD_CHARS
        if len(text) > most_chars:
            event[name] = cut(text, most_chars)
        elif isinstance(value, str) and not value.isprintable():
            # Once its control characters are escaped, a secret ends before each of them.
            event[name] = redact(value)
    return event


def _escape_fields(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """For terminals: a field is one line without control sequences. Tracebacks keep their lines."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            lines = value.split("\n") if name in _TRACEBACKS else [value]
            event[name] = "\n".join(map(_escaped, lines))
    return event


def _redacted(render: Processor, logger: WrappedLogger, name: str, event: EventDict) -> str:
    return redact(str(render(logger, name, event)))


def _escaped_json(render: Processor, logger: WrappedLogger, name: str, event: EventDict) -> str:
    """The same JSON: what it leaves as it is, and a terminal obeys, stands in strings alone."""
    line = str(render(logger, name, event))
    return line if line.isprintable() else _escaped(line)


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _json(event: EventDict, *, default: Callable[[Any], str]) -> str:
    try:
        return orjson.dumps(event, default=default, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits: rare, and ten times as slow
        return json.dumps(event, default=default)


def _literal(secret: str) -> str:
    """A short secret may be part of ordinary words: it counts only where it stands alone."""
    if len(secret) >= SHORT_SECRET_CHARS:
        return re.escape(secret)
    return rf"{_START}{re.escape(secret)}(?![A-Za-z0-9])"
