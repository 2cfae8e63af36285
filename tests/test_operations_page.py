"""docs/operations.md names every metric, every warning and error of the log, and every check of `doctor`."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from app import __version__

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "operations.md").read_text()
KINDS = {
    "Counter": ("counter", "_total"),
    "Gauge": ("gauge", ""),
    "Histogram": ("histogram", ""),
    "Info": ("info", "_info"),
}
LOUD = {"critical", "error", "exception", "log", "warning"}


@cache
def sources() -> dict[Path, ast.Module]:
    """Not a constant: every worker would parse all modules when it collects this file."""
    return {path: ast.parse(path.read_text()) for path in sorted((ROOT / "app").rglob("*.py"))}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


@cache
def registered() -> dict[str, tuple[str, list[str]]]:
    """Type and labels of each metric of the gateway, by the name that its samples have."""
    found = {}
    for tree in sources().values():
        for call in ast.walk(tree):
            match call:
                case ast.Call(ast.Name(made), [ast.Constant(str(name)), *_]) if made in KINDS:
                    kind, suffix = KINDS[made]
                case _:
                    continue
            labels = ["version"] if kind == "info" else ast.literal_eval(call.args[2]) if len(call.args) > 2 else []
            found[f"{name.removesuffix(suffix)}{suffix}"] = (kind, list(labels))
    return found


def test_table_has_every_metric_with_its_type_and_labels() -> None:
    table = {
        re.sub("`", "", name): (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels, *_ in rows("Metrics")
    }
    assert table == registered()


def test_alerts_name_metrics_that_exist() -> None:
    named = set(re.findall(r"asr_gateway_\w+", PAGE))
    known = set(registered()) | {f"{name}_{part}" for name in registered() for part in ("bucket", "count", "sum")}
    assert named <= known


def events(tree: ast.Module) -> Iterator[str]:
    """The events of warnings and errors. A part that is only known at run time ends the name."""
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in LOUD):
            continue
        if ast.unparse(call.func.value) not in {"log", "_log", "self._log"}:
            continue
        yield from _text(call.args[1 if call.func.attr == "log" else 0], tree)


def _text(event: ast.expr, tree: ast.Module) -> Iterator[str]:
    match event:
        case ast.Constant(str(text)):
            yield text
        case ast.JoinedStr([ast.Constant(str(text)), *_]):
            yield text.strip()
        case ast.Call(ast.Attribute(value)):
            yield from _text(value, tree)
        case ast.Name(name):
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                    yield from _text(node.value, tree)
        case _:
            pytest.fail(f"an event without a name: {ast.unparse(event)}")


def test_table_has_every_warning_and_error_of_the_log() -> None:
    logged = {event.partition(": set ")[0] for tree in sources().values() for event in events(tree)}
    assert {row[0].strip("`") for row in rows("Warnings and errors of the log")} == logged


def test_table_has_every_check_of_doctor() -> None:
    tree = sources()[ROOT / "app" / "doctor.py"]
    checks = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Finding":
            checks |= {text.partition(" ")[0] for text in _text(call.args[1], tree)}
    assert {row[0].strip("`") for row in rows("Findings of `doctor`")} == checks


def test_version_is_that_of_the_package() -> None:
    assert f'\nversion = "{__version__}"\n' in (ROOT / "pyproject.toml").read_text()
    assert f'"version": "{__version__}"' in (ROOT / "docs" / "openapi.json").read_text()
