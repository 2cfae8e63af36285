"""`docs/errors.md` has every error code of the gateway with its status."""

import re
from collections.abc import Iterator
from pathlib import Path

import app.main  # noqa: F401 - imports all packages, and so all errors that callers may see
from app.api import error_reference
from app.api.problems import problem_type
from app.dashscope.circuits import UPSTREAM_UNAVAILABLE
from app.dashscope.failures import CALL_FAILURES, FILE_FAILURES, FailureKind
from app.errors import GatewayError
from app.queue.codes import FileErrorCode, WaitingCode

ROOT = Path(__file__).parents[2]
PROBLEMS, _, FILES = (ROOT / "docs" / "errors.md").read_text().partition("## Why a file failed")
FILES, _, WAITING = FILES.partition("## Why files wait")
FAILING, _, HARMLESS = FILES.partition("never fail a file")
# Failures that are in no table are created where they are detected.
_MADE = re.compile(r'\bFailure\(\s*FailureKind\.\w+,\s*"(\w+)"')


def test_documented_problems_match_the_code() -> None:
    documented = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", PROBLEMS, re.MULTILINE)
    assert sorted(documented) == sorted(
        (error.code, str(problem_type(error).status)) for error in _family(GatewayError)
    )


def test_documented_file_errors_match_the_code() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", FILES + WAITING, re.MULTILINE)
    assert set(documented) == {*_words_of_failures(), WaitingCode.BUDGET_EXCEEDED}


def test_documented_failures_are_those_that_fail_a_file() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", FAILING, re.MULTILINE)
    assert documented == sorted(FileErrorCode)
    assert re.findall(r"^\| `(\w+)` \|", HARMLESS, re.MULTILINE) == ["no_speech", "throttled"]


def test_documented_waiting_reasons_match_the_code() -> None:
    assert re.findall(r"^\| `(\w+)` \|", WAITING, re.MULTILINE) == sorted(WaitingCode)
    made = {
        word
        for verdict, word in CALL_FAILURES.values()
        if verdict in {FailureKind.ACCOUNT_BLOCKED, FailureKind.GRANT, FailureKind.MODEL_UNAVAILABLE}
    }
    made |= {
        UPSTREAM_UNAVAILABLE,
        WaitingCode.REGION_NOT_SERVED,
        WaitingCode.ACCOUNT_NOT_CONFIGURED,
        WaitingCode.BUDGET_EXCEEDED,
    }
    assert made == set(WaitingCode)


def test_page_of_the_gateway_has_the_texts_of_the_document() -> None:
    assert _rows(PROBLEMS) == [(code, str(_status(code)), text) for code, text in error_reference.PROBLEMS.items()]
    assert _rows(FAILING) == [(code, *row) for code, row in error_reference.FILE_ERRORS.items()]
    assert _rows(HARMLESS) == [*error_reference.HARMLESS.items()]
    assert _rows(WAITING) == [*error_reference.WAITING.items()]


def test_documented_problem_has_the_fields_of_a_response() -> None:
    fields = re.findall(r'^  "(\w+)":', PROBLEMS, re.MULTILINE)
    assert fields == ["type", "title", "status", "detail", "instance", "code", "request_id", "errors"]


def _family(cls: type[GatewayError]) -> Iterator[type[GatewayError]]:
    # Errors without a code of their own end a command, and are printed to a terminal.
    if cls.__module__.startswith("app.") and "code" in cls.__dict__:
        yield cls
    for child in cls.__subclasses__():
        yield from _family(child)


def _status(code: str) -> int:
    return next(problem_type(error).status for error in _family(GatewayError) if error.code == code)


def _rows(text: str) -> list[tuple[str, ...]]:
    """The rows of a table whose first cell is a code."""
    lines = re.findall(r"^\| (`.+) \|$", text, re.MULTILINE)
    return [(code.strip("`"), *cells) for code, *cells in (line.split(" | ") for line in lines)]


def _words_of_failures() -> Iterator[str]:
    yield from (WaitingCode.REGION_NOT_SERVED, WaitingCode.ACCOUNT_NOT_CONFIGURED)
    for table in (CALL_FAILURES, FILE_FAILURES):
        yield from (word for _, word in table.values())
    for package in ("dashscope", "poller", "queue", "uploads"):
        for path in (ROOT / "app" / package).rglob("*.py"):
            yield from _MADE.findall(path.read_text())
